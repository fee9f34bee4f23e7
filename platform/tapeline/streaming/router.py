"""Sends events to streams by symbol, kind and content; what no route takes goes to the dead letters."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.features.versions import Flags
from tapeline.streaming.codec import TEXTS, VALUES, EventKind, Events, encode_block
from tapeline.streaming.dead import DeadLetters
from tapeline.streaming.producer import Producer

ROUTES_MAX = 1_000
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"^\s*([a-z_]+)\s*(<=|>=|==|!=|<|>|contains)\s*(.+?)\s*$")
_SHARED = ("event_us", "sequence", "available_us", "side", "change")


@dataclass(frozen=True)
class Condition:
    """A rule on the content of an event: a column, a comparison and what it is compared with.

    Attributes
    ----------
    column
        A value such as ``price``; ``event_us``, ``sequence``, ``available_us``, ``side`` or ``change``; or a text.
    comparison
        One of ``< <= > >= == !=`` for numbers, ``contains`` for texts, which ignores case.
    operand
        A number, or the text to find.
    """

    column: str
    comparison: str
    operand: float | str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """The condition of a text such as ``price > 100`` or ``headline contains merger``. Nothing in it is executed.

        Raises
        ------
        ParameterError
            If it is none.
        """
        match = _CONDITION.match(text)
        if match is None:
            raise ParameterError(
                f"{text!r} is no condition", remedy="Write it like: price > 100, headline contains merger"
            )
        column, comparison, operand = match.groups()
        if comparison == "contains":
            return cls(column, comparison, operand.casefold())
        try:
            return cls(column, comparison, float(operand))
        except ValueError:
            raise ParameterError(f"{operand!r} is no number", where=f"condition {text!r}") from None

    def holds(self, events: Events) -> Flags:
        """For which events it holds; for none of a kind that has no such column. NaN compares as false, but for ``!=``."""
        kind = events.kind
        if self.comparison == "contains":
            if self.column not in TEXTS.get(kind, ()):
                return np.zeros(len(events), dtype=np.bool_)
            texts = events.texts[TEXTS[kind].index(self.column)]
            return np.array([str(self.operand) in text.casefold() for text in texts], dtype=np.bool_)
        if self.column in _SHARED:
            values = events.records[self.column]
        elif self.column in VALUES[kind]:
            values = events.records["values"][:, VALUES[kind].index(self.column)]
        else:
            return np.zeros(len(events), dtype=np.bool_)
        return np.asarray(_COMPARISONS[self.comparison](values, self.operand), dtype=np.bool_)


@dataclass(frozen=True)
class Route:
    """Where events of some sort go.

    Attributes
    ----------
    to
        Names of the streams; several are a broadcast.
    kinds
        Kinds that it takes; empty: all.
    symbols
        Patterns such as ``AAPL`` or ``ES*``; empty: all.
    where
        Conditions that must all hold.
    priority
        Routes of higher priority are asked first, and their events are sent first.
    last
        Whether an event that it takes goes to no further route.

    Raises
    ------
    ParameterError
        If it leads nowhere.
    """

    to: tuple[str, ...]
    kinds: frozenset[EventKind] = frozenset()
    symbols: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    priority: int = 0
    last: bool = True

    def __post_init__(self) -> None:
        if not self.to:
            raise ParameterError("a route leads to no stream", remedy="Name at least one")

    def takes(self, events: Events) -> Flags:
        """Which events it takes."""
        if self.kinds and events.kind not in self.kinds:
            return np.zeros(len(events), dtype=np.bool_)
        taken = np.ones(len(events), dtype=np.bool_)
        if self.symbols:
            fits = [any(fnmatchcase(symbol, pattern) for pattern in self.symbols) for symbol in events.symbols]
            taken &= np.array(fits, dtype=np.bool_)[events.records["symbol"]]
        for condition in self.where:
            taken &= condition.holds(events)
        return taken


class Router:
    """Sends each event along the routes that take it.

    Parameters
    ----------
    routes
        In any order; of equal priority, the first given is asked first.
    producers
        The streams by name.
    dead
        Takes events that no route takes.

    Raises
    ------
    UnknownNameError
        If a route leads to a stream that is not among the producers.
    ParameterError
        If there are too many routes.
    """

    def __init__(self, routes: Sequence[Route], producers: Mapping[str, Producer], dead: DeadLetters) -> None:
        if len(routes) > ROUTES_MAX:
            raise ParameterError(f"{len(routes)} routes; at most {ROUTES_MAX}")
        for route in routes:
            for name in route.to:
                if name not in producers:
                    raise UnknownNameError("stream", name, producers)
        self._routes = sorted(routes, key=lambda route: -route.priority)
        self._producers = producers
        self._dead = dead

    def send(self, events: Events) -> dict[str, int]:
        """Send events; returns how many went to each stream, and under an empty name how many no route took.

        Raises
        ------
        LimitError, UnavailableError
            As :meth:`tapeline.streaming.producer.Producer.send`. Sending the same events again is safe.
        """
        left = np.ones(len(events), dtype=np.bool_)
        routed = np.zeros(len(events), dtype=np.bool_)
        going: dict[str, Flags] = {}
        for route in self._routes:
            taken = route.takes(events) & left
            routed |= taken
            for name in route.to:
                going[name] = going.get(name, np.zeros(len(events), dtype=np.bool_)) | taken
            if route.last:
                left &= ~taken
        sent = {
            name: self._producers[name].send(events.chosen(np.flatnonzero(which)))
            for name, which in going.items()
            if which.any()
        }
        lost = np.flatnonzero(~routed)
        for place in lost.tolist():
            data = encode_block(events.chosen(np.array([place])))
            self._dead.add(0, b"", "no route takes it", data)
        if len(lost):
            self._dead.send()
            sent[""] = len(lost)
        return sent
