"""What the writer sends, batch by batch, and in plain Python what each batch must add to the database.

Everything follows from a seed, so that a writer that is started again sends the same, and so that the checker knows it. Times
at which rows were published grow from batch to batch: features then do not depend on where a back-fill was interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US, to_us

Kind = Literal["bars", "push", "values"]
Key = tuple[str, int, int]
"""Symbol, event time, sequence."""
Content = tuple[float | None, ...]

FIRST_US = to_us("2010-01-04T00:00:00+00:00")
SYMBOLS = tuple(f"S{number:02}" for number in range(12))
DAYS_A_BATCH = 2


@dataclass(frozen=True)
class Sent:
    """One row of a batch."""

    key: Key
    published_us: int
    content: Content
    deleted: bool = False


@dataclass(frozen=True)
class Stored:
    """One row as it must stand in its table; ``available_us`` is when it became known."""

    key: Key
    available_us: int
    content: Content
    deleted: bool


@dataclass(frozen=True)
class Batch:
    """Rows sent together, and those of them that are new or changed, which are what must be stored."""

    number: int
    kind: Kind
    rows: tuple[Sent, ...]
    adds: tuple[Stored, ...]


@dataclass
class _Shelf:
    """Of one table the newest row of each key, and the keys that are held back to come late."""

    newest: dict[Key, Stored] = field(default_factory=dict)
    held_back: list[Key] = field(default_factory=list)
    days: int = 0


def batches(seed: int, count: int) -> list[Batch]:
    """The first batches of a seed: first sightings, late rows, corrections, repetitions, retractions of bars."""
    random = np.random.default_rng(seed)
    shelves: dict[Kind, _Shelf] = {"bars": _Shelf(), "push": _Shelf(), "values": _Shelf()}
    made = []
    for number in range(count):
        kind: Kind = "bars" if number == 0 else str(random.choice(["bars", "push", "values"], p=[0.5, 0.25, 0.25]))  # type: ignore[assignment]
        rows = _rows(random, shelves[kind], kind)
        made.append(Batch(number, kind, rows, tuple(_added(shelves[kind], rows, kind))))
    return made


def _rows(random: np.random.Generator, shelf: _Shelf, kind: Kind) -> tuple[Sent, ...]:
    first, shelf.days = shelf.days, shelf.days + DAYS_A_BATCH
    fresh = [
        (symbol, FIRST_US + day * DAY_US, 0 if kind == "bars" else int(random.integers(2)))
        for symbol in SYMBOLS
        for day in range(first, shelf.days)
    ]
    held = [key for key in fresh if random.random() < 0.1 and first > 0]  # at first every symbol is there
    rows = {key: Sent(key, key[1] + MINUTE_US, _content(random, kind)) for key in fresh if key not in held}
    # Everything that is not on time becomes known together, after all that was sent before and before what comes next.
    known_us = FIRST_US + (shelf.days - 1) * DAY_US + 12 * HOUR_US + int(random.integers(HOUR_US))
    late = [key for key in shelf.held_back if random.random() < 0.5]
    shelf.held_back = [key for key in shelf.held_back if key not in late] + held
    rows |= {key: Sent(key, known_us, _content(random, kind)) for key in late}
    for key, stored in shelf.newest.items():
        chance = random.random()
        if chance < 0.04:
            rows[key] = Sent(key, known_us, _content(random, kind))
        elif chance < 0.08 and not stored.deleted:
            rows[key] = Sent(key, known_us, stored.content)  # a repetition: nothing new
        elif chance < 0.1 and kind == "bars":
            rows[key] = Sent(key, known_us, stored.content, deleted=True)
    return tuple(rows.values())


def _content(random: np.random.Generator, kind: Kind) -> Content:
    if kind != "bars":
        return (None if random.random() < 0.1 else float(random.normal()),)
    close = float(100 * np.exp(0.05 * random.normal()))
    opened = float(close * np.exp(0.01 * random.normal()))
    return (opened, 1.01 * max(opened, close), 0.99 * min(opened, close), close, float(random.integers(1, 1_000)))


def _added(shelf: _Shelf, rows: tuple[Sent, ...], kind: Kind) -> list[Stored]:
    """The rule of writing: a key never seen, or whose newest row says something else, gets a row."""
    added = []
    for row in rows:
        before = shelf.newest.get(row.key)
        if before is not None and row.deleted and before.deleted:
            continue
        if before is not None and not row.deleted and row.content == before.content:
            continue
        stored = Stored(row.key, row.published_us, row.content, row.deleted)
        shelf.newest[row.key] = stored
        added.append(stored)
    return added
