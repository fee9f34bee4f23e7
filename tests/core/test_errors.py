"""Errors travel between processes as what they are."""

from __future__ import annotations

import pickle

import pytest
from tapeline.core import errors
from tapeline.core.errors import MissingExtraError, NaiveTimestampError, TapelineError, UnknownNameError

SPECIAL = {
    MissingExtraError: MissingExtraError("ray", "ray"),
    NaiveTimestampError: NaiveTimestampError("2020-01-01", where="row 3"),
    UnknownNameError: UnknownNameError("symbol", "APPL", ["AAPL", "MSFT"], where="source us-daily"),
}
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TapelineError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_pickled_error_comes_back_with_its_message_and_facts(kind: type[TapelineError]) -> None:
    error = SPECIAL.get(kind) or kind("it is wrong", where="here", remedy="Mend it")
    error.add_note("a note")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error)
    assert vars(back) == vars(error)
    assert back.args == error.args
