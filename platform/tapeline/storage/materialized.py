"""How far each view's online values have been brought, kept beside them: it goes where they go, and is lost with them.

One small JSON text a view version, under ``tl:PROJECT:materialized:{VIEW@VERSION}``. It says up to which moment of the
database's records everything has been read (so that the next run finds what arrived late), and where a run stands that has
not ended (so that it goes on there after a kill).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from redis import Redis

from tapeline.core.hashing import canonical_json
from tapeline.storage.keys import materialized_key
from tapeline.storage.online import FAILURES, unavailable

Position = tuple[str | int, ...]


@dataclass(frozen=True)
class UnfinishedRun:
    """A run as far as it came.

    Attributes
    ----------
    start_us, end_us
        Its range; no start: from the beginning.
    since_us
        It also reads what was recorded after this; none: it does not.
    recorded_us
        Everything recorded by then is visible to it; none if the database cannot tell.
    after
        Join keys of the last entity written; entities are written in the order of these. Empty: none yet.
    """

    start_us: int | None
    end_us: int
    since_us: int | None
    recorded_us: int | None
    after: Position = ()


@dataclass(frozen=True)
class Materialized:
    """What is known of one view version's online values.

    Attributes
    ----------
    end_us
        End of the latest range that was brought.
    recorded_us
        Everything that had been recorded by then, and was visible by `end_us`, has been brought.
    run
        What was begun and has not ended.
    """

    end_us: int | None = None
    recorded_us: int | None = None
    run: UnfinishedRun | None = None

    def finished(self, run: UnfinishedRun) -> Materialized:
        """The same once a run has ended. One that ended earlier in time says nothing of what lies after it."""
        if self.end_us is not None and run.end_us < self.end_us:
            return Materialized(self.end_us, self.recorded_us)
        return Materialized(run.end_us, self.recorded_us if run.recorded_us is None else run.recorded_us)


def read_materialized(redis: Redis, project: str, view: str, version: int) -> Materialized | None:
    """What is known; none after a flush, of a view that was never brought, or of a record that cannot be read.

    Raises
    ------
    UnavailableError
        If the server cannot be reached.
    """
    try:
        content = redis.get(materialized_key(project, view, version))
    except FAILURES as error:
        raise unavailable(error) from error
    try:
        found: Mapping[str, Any] = json.loads(content)  # type: ignore[arg-type]  # none is a TypeError
        run = found["run"]
        unfinished = None if run is None else UnfinishedRun(**{**run, "after": _position(run["after"])})
        return Materialized(_time(found["end_us"]), _time(found["recorded_us"]), unfinished)
    except (ValueError, KeyError, TypeError):
        return None


def write_materialized(redis: Redis, project: str, view: str, version: int, known: Materialized) -> None:
    """Keep what is known.

    Raises
    ------
    UnavailableError
        If the server cannot be reached.
    """
    try:
        redis.set(materialized_key(project, view, version), canonical_json(asdict(known)))
    except FAILURES as error:
        raise unavailable(error) from error


def _time(value: Any) -> int | None:
    return None if value is None else int(value)


def _position(values: Any) -> Position:
    if not all(isinstance(value, str | int) for value in values):
        raise TypeError("a position holds texts and whole numbers")
    return tuple(values)
