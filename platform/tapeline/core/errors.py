"""Every error Tapeline raises on purpose.

A message says what was wrong, where (row, column, entity, time) and what to do about it. One class exists for each
thing a caller can act on; the inference server maps each class to one gRPC status code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class TapelineError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    what
        What was wrong, as a sentence without its full stop.
    where
        The place: file, row, column, entity, time.
    remedy
        What the reader can do about it.
    """

    exit_code = 1
    """Of the command: 1 failed, 2 wrong input or settings, 3 already running, 4 not running, 5 a server is away."""

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        place = f" ({where})" if where else ""
        hint = f". {remedy}" if remedy else ""
        super().__init__(f"{what}{place}{hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        # A subclass makes its message of facts; of an error that comes from another process there is the message only.
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[TapelineError], args: tuple[Any, ...]) -> TapelineError:
    error = kind.__new__(kind)
    error.args = args
    return error


class ConfigurationError(TapelineError):
    """A setting is missing, malformed or contradicts another."""

    exit_code = 2


class MissingExtraError(TapelineError):
    """An optional dependency is not installed."""

    exit_code = 2

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", remedy=f"Install it with: pip install 'tapeline[{extra}]'")


class UnknownNameError(TapelineError):
    """A symbol, feature, view, service or model that does not exist; the message names the nearest that do."""

    exit_code = 2

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: str | None = None) -> None:
        self.kind = kind
        self.name = name
        choices = sorted(set(known))
        self.nearest = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
        if not self.nearest:
            folded = {choice.casefold(): choice for choice in choices}
            self.nearest = [
                folded[m] for m in difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.5)
            ]
        if self.nearest:
            remedy = f"Did you mean {', '.join(self.nearest)}?"
        elif choices:
            remedy = f"Known: {', '.join(choices[:10])}{' …' if len(choices) > 10 else ''}"
        else:
            remedy = f"No {kind} exists yet"
        super().__init__(f"unknown {kind} {name!r}", where=where, remedy=remedy)


class ParameterError(TapelineError):
    """A parameter has an impossible value, or an array the wrong dtype, shape or length."""

    exit_code = 2


class NaiveTimestampError(TapelineError):
    """A timestamp without a time zone."""

    exit_code = 2

    def __init__(self, value: object, *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(
            f"timestamp {value} has no time zone",
            where=where,
            remedy=remedy or "Give it one, for example 2013-03-01T21:00:00+00:00",
        )


class InvalidDataError(TapelineError):
    """Input data that breaks a rule: a missing column, a wrong type, an impossible value."""


class QualityError(InvalidDataError):
    """A block of rows that a view's quality rules refuse; nothing of it was written."""


class EmptyDataError(TapelineError):
    """An operation was given, or would produce, no rows."""


class OutOfOrderError(TapelineError):
    """Rows whose time or sequence goes backwards."""


class ContinuityError(TapelineError):
    """Rows that do not directly follow the state they are to continue: a gap or an overlap."""


class FencedError(TapelineError):
    """A worker writes for a partition that another one has taken over; it must stop and begin anew."""


class VintageError(TapelineError):
    """A vintage beyond the safe horizon, where an open writer could still add rows."""


class LineageError(TapelineError):
    """Values of one definition were about to be mixed with those of another."""


class VersionStateError(TapelineError):
    """A view version is in a state that forbids what was asked: retired, still in use, or without a predecessor."""


class IntegrityError(TapelineError):
    """Bytes that do not have the SHA-256, layout or plan hash that they should have."""


class FeatureCheckError(TapelineError):
    """A feature breaks a rule that every feature keeps, such as that batch equals stream."""


class ParityError(TapelineError):
    """An exported model does not reproduce the native one within its tolerance."""


class LimitError(TapelineError):
    """Something grew past its configured limit."""


class DiskFullError(LimitError):
    """A disk has no room left; nothing of what was being written remains."""


class SchemaError(TapelineError):
    """The database's schema is missing, behind, or ahead of this version of Tapeline."""


class AlreadyRunningError(TapelineError):
    """The servers of this data folder run already, or another export writes to the same place."""

    exit_code = 3


class NotRunningError(TapelineError):
    """The servers of this data folder do not run."""

    exit_code = 4


class UnavailableError(TapelineError):
    """A server that is needed cannot be reached now; trying again later may work."""

    exit_code = 5


class ModelNotReadyError(TapelineError):
    """The model cannot take traffic: not loaded, or its start-up replay failed."""
