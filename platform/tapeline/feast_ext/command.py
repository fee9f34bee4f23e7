"""How Feast's own command tells Tapeline's errors: in a line, as Tapeline's does, and not beneath the traceback of its own insides."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import TracebackType

from tapeline.core.errors import TapelineError


def tell_errors_in_a_line() -> None:
    """If this process is the ``feast`` command, have errors raised on purpose printed without a traceback.

    With ``feast --log-level DEBUG`` the traceback is there.
    """
    if Path(sys.argv[0]).stem == "feast" and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # Feast sets the level of its own loggers.
    if isinstance(error, TapelineError) and not logging.getLogger("feast.feature_store").isEnabledFor(logging.DEBUG):
        sys.stderr.write(f"error: {kind.__name__}: {error}\n")
    else:
        sys.__excepthook__(kind, error, trace)
