"""Replays one entity's history in the order in which it became known.

Rows that become known in the order of their keys simply continue the state. Whatever becomes known out of that order at a
moment p (a correction, a late row, a retraction, a split) rewinds to the last checkpoint before the first row it touches;
from there on every feature row is computed again and added, available from p. So at any moment t the newest feature rows
available by t are those of a computation over exactly the raw rows available by t.

A bar built from trades is over when its source's declared lag has passed since its end; from then on it has a row. A
trade that arrives later than that is a late row. The last bar has no row until something arrives that shows the time to
have passed.

A key that no longer has a row (a retracted bar, or a bar whose last trade, and so its sequence, changed) gets a row that
repeats the values of the row before it, or NULLs where there is none. Thus the point-in-time rule needs to know nothing of
retractions: the newest key answers with what is known without it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tapeline.compute.history import Flags, Floats, Integers, SplitVersions, Versions, newest_of_keys, ranks_of
from tapeline.compute.rows import AvailableFloor, EntityState, FinishedRows, RowRunner

LONG_AGO_US = -(2**62)
_CHECKPOINTS_MAX = 128


@dataclass(frozen=True)
class Checkpoint:
    """The state after a key, as known at a moment.

    Attributes
    ----------
    event_us, sequence
        The key; all keys up to it have been consumed.
    known_us
        The moment: the state is that of the rows available by then.
    state
        The state.
    """

    event_us: int
    sequence: int
    known_us: int
    state: EntityState


@dataclass(frozen=True)
class Stored:
    """Feature rows that stand in the table, the newest of each (event, sequence, available)."""

    event_us: Integers
    sequence: Integers
    available_us: Integers
    missing: Flags
    outputs: Floats


@dataclass(frozen=True)
class EntityHistory:
    """What a replay needs to know of one entity.

    Attributes
    ----------
    versions
        All versions of the keys after the base.
    splits
        All versions of its splits.
    since_us
        What became known before this moment has been computed and stands in the table; what became known at it or later
        is to be computed.
    base
        A state before all keys that became known or changed since then; ``None`` to begin with the first row.
    stored
        Feature rows in the table from the first changed key on.
    """

    versions: Versions
    splits: SplitVersions
    since_us: int
    base: Checkpoint | None
    stored: Stored | None


@dataclass(frozen=True)
class NewRows:
    """Feature rows to add; where ``missing``, all values are NULL."""

    event_us: Integers
    sequence: Integers
    available_us: Integers
    missing: Flags
    outputs: Floats

    def __len__(self) -> int:
        return len(self.event_us)


@dataclass(frozen=True)
class Replayed:
    """What a replay gives: rows to add, checkpoints that hold at its end in the order of their keys, the last one last."""

    rows: NewRows
    checkpoints: tuple[Checkpoint, ...]
    computed: int


@dataclass
class _Mark:
    """A checkpoint inside the replay; ``rows`` counts the rows up to it, which spaces them evenly."""

    rank: int
    rows: int
    checkpoint: Checkpoint | None
    state: EntityState


@dataclass
class _Record:
    """A piece of the result: rows of one advance. ``emit`` is False for rows that were there before."""

    event_us: Integers
    sequence: Integers
    available_us: Integers
    outputs: Floats
    missing: Flags
    emit: bool


@dataclass
class _KnownKeys:
    """Keys that have feature rows, found by event time."""

    events: list[int] = field(default_factory=list)
    sequences: dict[int, list[int]] = field(default_factory=dict)

    def add(self, event_us: Integers, sequence: Integers) -> None:
        for event, number in zip(event_us.tolist(), sequence.tolist(), strict=True):
            numbers = self.sequences.get(event)
            if numbers is None:
                self.sequences[event] = [number]
                if self.events and event < self.events[-1]:
                    bisect.insort(self.events, event)
                else:
                    self.events.append(event)
            elif number not in numbers:
                bisect.insort(numbers, number)

    def since(self, event_us: int) -> Iterator[tuple[int, int]]:
        for event in self.events[bisect.bisect_left(self.events, event_us) :]:
            for number in self.sequences[event]:
                yield event, number


def replay(history: EntityHistory, runner: RowRunner, spacing: int) -> Replayed:
    """Compute the feature rows of everything that became known at or after ``history.since_us``.

    Parameters
    ----------
    history
        The entity's raw rows, base and stored feature rows.
    runner
        Runs rows through the view's kernels.
    spacing
        Rows between checkpoints.
    """
    return _Replay(history, runner, spacing).run()


class _Replay:
    def __init__(self, history: EntityHistory, runner: RowRunner, spacing: int) -> None:
        self.history = history
        self.runner = runner
        self.spacing = spacing
        self.versions = history.versions
        self.is_trades = runner.width_us is not None
        self.rank, self.key_event, self.key_sequence = ranks_of(self.versions.event_us, self.versions.sequence)
        self.current = np.full(len(self.key_event), -1, dtype=np.int64)
        self.frontier = -1
        """Greatest rank that has been live; later ones continue, earlier ones rewind."""
        self.known = _KnownKeys()
        self.records: list[_Record] = []
        self.rows_done = 0
        self.state = history.base.state if history.base else runner.fresh()
        self.marks = [_Mark(-1, 0, history.base, self.state)]

    def run(self) -> Replayed:
        history = self.history
        if history.stored is not None:
            before = history.stored.available_us < history.since_us
            self.known.add(history.stored.event_us[before], history.stored.sequence[before])
        self._take_up_known()
        order = self._arrival_order()
        available = self.versions.available_us[order]
        start = 0
        for moment_us in self._interruptions(order):
            end = int(np.searchsorted(available, moment_us, side="left"))
            self._continue_with(order[start:end])
            group_end = int(np.searchsorted(available, moment_us, side="right"))
            start = group_end if self._interrupt(moment_us, order[end:group_end]) else end
        self._continue_with(order[start:])
        self._answer_stale_rows()
        return self._result(
            max([history.since_us - 1, *available[-1:].tolist(), *history.splits.available_us.tolist()])
        )

    # Setting out ------------------------------------------------------------------------------------------------------

    def _take_up_known(self) -> None:
        """Advance over what was known before, whose feature rows are in the table."""
        versions, since_us = self.versions, self.history.since_us
        before = np.flatnonzero(versions.available_us < since_us)
        newest = before[
            newest_of_keys(versions.event_us, versions.sequence, versions.available_us, versions.created_us, before)
        ]
        self.current[self.rank[newest]] = newest
        lived = before[versions.live[before]]
        if len(lived):
            self.frontier = int(self.rank[lived].max())
        rows = newest[versions.live[newest]]
        splits = self.history.splits.known_at(since_us - 1)
        for finished in self._advance(rows, splits, AvailableFloor(), since_us - 1):
            self._record(finished, emit=False)
        rewinds = self._past_rewinds(self._effective(before, np.zeros(len(self.key_event), dtype=np.bool_)))
        if rewinds:
            self.state = self.runner.raised(self.state, max(rewinds))

    def _arrival_order(self) -> Integers:
        """Versions since ``since_us`` in the order of arrival."""
        lives = np.zeros(len(self.key_event), dtype=np.bool_)
        known = self.current >= 0
        lives[known] = self.versions.live[self.current[known]]
        return self._effective(np.flatnonzero(self.versions.available_us >= self.history.since_us), lives)

    def _effective(self, chosen: Integers, lives: Flags) -> Integers:
        """Versions in the order of arrival without those that change nothing.

        Of one key at one moment only the last recorded counts, and a retraction of what does not live is none.
        """
        versions, rank = self.versions, self.rank
        order = chosen[np.lexsort((versions.created_us[chosen], versions.available_us[chosen], rank[chosen]))]
        if len(order) == 0:
            return order
        follows = rank[order[1:]] == rank[order[:-1]]
        last = np.ones(len(order), dtype=np.bool_)
        last[:-1] = ~(follows & (versions.available_us[order[1:]] == versions.available_us[order[:-1]]))
        order = order[last]
        before = lives[rank[order]]
        follows = rank[order[1:]] == rank[order[:-1]]
        before[1:] = np.where(follows, versions.live[order[:-1]], before[1:])
        order = order[before | versions.live[order]]
        return order[np.lexsort((rank[order], versions.available_us[order]))]

    def _interruptions(self, order: Integers) -> list[int]:
        """Moments at which something arrives that does not simply come after all before it, and those of splits."""
        splits = self.history.splits.available_us
        late = self._out_of_order(order, self.frontier)
        return [int(moment) for moment in np.union1d(late, splits[splits >= self.history.since_us])]

    def _out_of_order(self, order: Integers, frontier: int) -> Integers:
        """Moments at which something arrives at or before the frontier, which moves on with the arrivals, or too late."""
        live = np.where(self.versions.live[order], self.rank[order], -1)
        reached = np.maximum.accumulate(np.concatenate(([frontier], live)))[:-1]
        return self.versions.available_us[order[(self.rank[order] <= reached) | self._too_late(order)]]

    def _too_late(self, order: Integers) -> Flags:
        """Which versions are trades of a bar that was over when they arrived."""
        if not self.is_trades:
            return np.zeros(len(order), dtype=np.bool_)
        return self.runner.over_us(self.versions.event_us[order]) <= self.versions.available_us[order]

    def _past_rewinds(self, order: Integers) -> list[int]:
        """Moments before ``since_us`` at which rows after the base were computed again."""
        moments = [int(moment) for moment in self._out_of_order(order, -1)]
        known_us = self.versions.available_us[order]
        live = np.where(self.versions.live[order], self.versions.event_us[order], LONG_AGO_US)
        reached_us = np.maximum.accumulate(np.concatenate(([self._base_event_us()], live)))
        splits = self.history.splits
        for i in np.flatnonzero(splits.available_us < self.history.since_us).tolist():
            moment_us = int(splits.available_us[i])
            if reached_us[np.searchsorted(known_us, moment_us, side="right")] > self._split_reach_us(i):
                moments.append(moment_us)
        return moments

    def _split_reach_us(self, split: int) -> int:
        """Raw rows after this moment go into bars that end after a split."""
        event_us, width_us = int(self.history.splits.event_us[split]), self.runner.width_us
        return event_us if width_us is None else event_us // width_us * width_us - 1

    # Going on ---------------------------------------------------------------------------------------------------------

    def _continue_with(self, order: Integers) -> None:
        """Rows that come after all before them."""
        if len(order) == 0:
            return
        self.current[self.rank[order]] = order
        rows = order[self.versions.live[order]]
        if len(rows) == 0:
            return
        splits = self.history.splits.known_at(int(self.versions.available_us[order[-1]]))
        for finished in self._advance(rows, splits, AvailableFloor(), None):
            self._record(finished, emit=True)
        self.frontier = int(self.rank[rows[-1]])

    def _advance(
        self, rows: Integers, splits: tuple[Integers, Floats], floor: AvailableFloor, known_us: int | None
    ) -> Iterator[FinishedRows]:
        """Run versions through the kernels in pieces, with a checkpoint after every ``spacing`` rows."""
        versions = self.versions
        at = 0
        while at < len(rows):
            due = self.marks[-1].rows + self.spacing - self.rows_done
            piece = rows[at : at + max(due, 1)]
            finished, self.state = self.runner.advance(
                self.state,
                versions.event_us[piece],
                versions.sequence[piece],
                versions.available_us[piece],
                versions.values[piece],
                splits,
                floor,
            )
            at += len(piece)
            self.rows_done += len(piece)
            if self.rows_done - self.marks[-1].rows >= self.spacing:
                moment_us = int(versions.available_us[piece[-1]]) if known_us is None else known_us
                self._mark(int(self.rank[piece[-1]]), moment_us)
            yield finished

    def _mark(self, rank: int, known_us: int) -> None:
        checkpoint = Checkpoint(int(self.key_event[rank]), int(self.key_sequence[rank]), known_us, self.state)
        self.marks.append(_Mark(rank, self.rows_done, checkpoint, self.state))
        if len(self.marks) > _CHECKPOINTS_MAX:  # keep the base and the newest, thin out between
            self.marks[1:-1] = self.marks[1:-1][1::2]

    # Turning back -----------------------------------------------------------------------------------------------------

    def _interrupt(self, moment_us: int, group: Integers) -> bool:
        """Take in what arrived at a moment, if any of it touches what was computed; says whether it did."""
        cut_rank, cut_event_us = self._touched(moment_us, group)
        if cut_rank is None:
            return False
        self._finish_open_bar(moment_us - 1)
        self.current[self.rank[group]] = group
        living = group[self.versions.live[group]]
        if len(living):
            self.frontier = max(self.frontier, int(self.rank[living].max()))
        while self.marks[-1].rank >= cut_rank:
            self.marks.pop()
        mark = self.marks[-1]
        self.state, self.rows_done = mark.state, mark.rows
        versions = self.current[mark.rank + 1 : self.frontier + 1]
        versions = versions[versions >= 0]
        rows = versions[self.versions.live[versions]]
        splits = self.history.splits.known_at(moment_us)
        floor = AvailableFloor(cut_event_us, moment_us)
        passed = list(self._advance(rows, splits, floor, moment_us))
        self.state = self.runner.raised(self.state, moment_us)
        if self._open_bar_is_over(moment_us):
            passed.append(self.runner.finish_open_bar(self.state, splits, floor))
        for finished in passed:
            self._record(_since(finished, cut_event_us), emit=True)
        self._answer_vanished_keys(moment_us, cut_event_us, passed, mark.state)
        return True

    def _open_bar_is_over(self, moment_us: int) -> bool:
        end_us = self.runner.open_bar_end_us(self.state)
        return end_us is not None and end_us + self.runner.lag_us <= moment_us

    def _finish_open_bar(self, moment_us: int) -> None:
        """Give the open bar its row if it is over, before something changes it."""
        if self._open_bar_is_over(moment_us):
            splits = self.history.splits.known_at(moment_us)
            self._record(self.runner.finish_open_bar(self.state, splits, AvailableFloor()), emit=True)

    def _touched(self, moment_us: int, group: Integers) -> tuple[int | None, int]:
        """The first rank to compute again, and the first end of bars whose rows change."""
        ranks: list[int] = []
        events: list[int] = []
        changed = self.rank[group][(self.rank[group] <= self.frontier) | self._too_late(group)]
        if len(changed):
            ranks.append(int(changed.min()))
            # A trade changes bars that end after it, a bar is its own end.
            events.append(int(self.key_event[ranks[0]]) + self.is_trades)
        splits = self.history.splits
        for i in np.flatnonzero(splits.available_us == moment_us).tolist():
            rank = int(np.searchsorted(self.key_event, self._split_reach_us(i), side="right"))
            if rank <= self.frontier:
                ranks.append(rank)
                events.append(int(splits.event_us[i]) + 1)
        return (min(ranks), min(events)) if ranks else (None, 0)

    def _answer_vanished_keys(
        self, moment_us: int, cut_event_us: int, passed: list[FinishedRows], before: EntityState
    ) -> None:
        """Rows for keys that have a feature row but no longer a raw one: what is known without them."""
        alive = {key for rows in passed for key in zip(rows.event_us.tolist(), rows.sequence.tolist(), strict=True)}
        vanished = [key for key in self.known.since(cut_event_us) if key not in alive]
        if not vanished:
            return
        keys = sorted(alive)
        outputs = np.concatenate([rows.outputs for rows in passed]) if passed else np.empty((0, 0))
        values: list[Floats] = []
        for key in vanished:
            place = bisect.bisect_left(keys, key)
            values.append(outputs[place - 1] if place else before.outputs)
        lag_us = self.runner.lag_us if self.is_trades else 0
        self._record_answers(vanished, [max(moment_us, event + lag_us) for event, _ in vanished], values)

    def _answer_stale_rows(self) -> None:
        """Rows for stored ones that this replay, which knows more, has not made: what was known at their time.

        A stored key that this replay makes later, or never, is answered for until then whenever an earlier key changes.
        """
        stored = self.history.stored
        if stored is None or not bool((stored.available_us >= self.history.since_us).any()):
            return
        made: dict[tuple[int, int], list[int]] = {}
        for r in self.records:
            if r.emit:
                keys = zip(r.event_us.tolist(), r.sequence.tolist(), r.available_us.tolist(), strict=True)
                for event, number, available in keys:
                    made.setdefault((event, number), []).append(available)
        held: dict[tuple[int, int], list[int]] = {}
        keys = zip(stored.event_us.tolist(), stored.sequence.tolist(), stored.available_us.tolist(), strict=True)
        for event, number, available in keys:
            held.setdefault((event, number), []).append(available)
        stale: list[tuple[tuple[int, int], int]] = []
        for key, moments in held.items():
            own = made.get(key, [])
            first_us = min(moments)
            wanted = {at for at in moments if at >= self.history.since_us}
            if first_us >= self.history.since_us and (not own or first_us < min(own)):
                until_us = min(own, default=2**62)
                earlier = (at for other, times in made.items() if other < key for at in times)
                wanted.update(at for at in earlier if first_us < at < until_us)
            stale += [(key, at) for at in wanted if at not in own]
        if stale:
            values = [self._value_at(*key, at) for key, at in stale]
            self._record_answers([key for key, _ in stale], [at for _, at in stale], values)

    def _value_at(self, event_us: int, sequence: int, moment_us: int) -> Floats:
        """Values of the greatest key up to one, as of a moment."""
        best: tuple[int, int, int, int] | None = None
        value = self.marks[0].state.outputs
        for number, r in enumerate(self.records):
            fits = (r.event_us < event_us) | ((r.event_us == event_us) & (r.sequence <= sequence))
            fits &= (r.available_us <= moment_us) | (not r.emit)
            for i in np.flatnonzero(fits).tolist():
                candidate = (
                    int(r.event_us[i]),
                    int(r.sequence[i]),
                    int(r.available_us[i]) if r.emit else LONG_AGO_US,
                    number,
                )
                if best is None or candidate >= best:
                    best = candidate
                    value = np.empty(0) if r.missing[i] else r.outputs[i]
        return value

    # Results ----------------------------------------------------------------------------------------------------------

    def _base_event_us(self) -> int:
        return self.history.base.event_us if self.history.base else LONG_AGO_US

    def _record(self, finished: FinishedRows, *, emit: bool) -> None:
        if len(finished.event_us) == 0:
            return
        missing = np.zeros(len(finished.event_us), dtype=np.bool_)
        self.records.append(
            _Record(finished.event_us, finished.sequence, finished.available_us, finished.outputs, missing, emit)
        )
        if emit:
            self.known.add(finished.event_us, finished.sequence)

    def _record_answers(self, keys: list[tuple[int, int]], available_us: list[int], values: list[Floats]) -> None:
        empty = np.full(len(self.runner.plan.outputs), np.nan)
        self.records.append(
            _Record(
                np.array([key[0] for key in keys], dtype=np.int64),
                np.array([key[1] for key in keys], dtype=np.int64),
                np.array(available_us, dtype=np.int64),
                np.stack([value if len(value) else empty for value in values]),
                np.array([len(value) == 0 for value in values]),
                emit=True,
            )
        )

    def _result(self, known_us: int) -> Replayed:
        emitted = [r for r in self.records if r.emit]
        computed = sum(len(r.event_us) for r in emitted)
        checkpoints = [mark.checkpoint for mark in self.marks[1:] if mark.checkpoint and mark.rank < self.frontier]
        base = self.history.base
        if self.frontier >= 0:
            end = (int(self.key_event[self.frontier]), int(self.key_sequence[self.frontier]))
            checkpoints.append(Checkpoint(*end, known_us, self.state))
        elif base is not None:
            checkpoints.append(Checkpoint(base.event_us, base.sequence, known_us, self.state))
        return Replayed(
            _changed(emitted, self.history.stored, len(self.runner.plan.outputs)), tuple(checkpoints), computed
        )


def _since(rows: FinishedRows, event_us: int) -> FinishedRows:
    """Those that end at or after a moment."""
    first = int(np.searchsorted(rows.event_us, event_us, side="left"))
    return FinishedRows(rows.event_us[first:], rows.sequence[first:], rows.available_us[first:], rows.outputs[first:])


def _changed(records: list[_Record], stored: Stored | None, width: int) -> NewRows:
    """Rows that do not stand in the table yet with the same bytes, in the order in which they became available."""
    if not records:
        empty = np.empty(0, dtype=np.int64)
        return NewRows(empty, empty, empty, np.empty(0, dtype=np.bool_), np.empty((0, width)))
    rows = NewRows(
        np.concatenate([r.event_us for r in records]),
        np.concatenate([r.sequence for r in records]),
        np.concatenate([r.available_us for r in records]),
        np.concatenate([r.missing for r in records]),
        np.concatenate([r.outputs for r in records]),
    )
    keep = np.ones(len(rows), dtype=np.bool_)
    if stored is not None and len(stored.event_us):
        places = {
            key: place
            for place, key in enumerate(
                zip(stored.event_us.tolist(), stored.sequence.tolist(), stored.available_us.tolist(), strict=True)
            )
        }
        old_bits, new_bits = stored.outputs.view(np.int64), rows.outputs.view(np.int64)
        keys = zip(rows.event_us.tolist(), rows.sequence.tolist(), rows.available_us.tolist(), strict=True)
        for i, key in enumerate(keys):
            place = places.get(key)
            if place is not None and bool(stored.missing[place]) == bool(rows.missing[i]):
                keep[i] = not (rows.missing[i] or np.array_equal(old_bits[place], new_bits[i]))
    # What was made again for the same key and moment replaces what was made first.
    order = np.lexsort((rows.available_us, rows.sequence, rows.event_us))
    again = np.zeros(len(rows), dtype=np.bool_)
    again[:-1] = (
        (rows.event_us[order[1:]] == rows.event_us[order[:-1]])
        & (rows.sequence[order[1:]] == rows.sequence[order[:-1]])
        & (rows.available_us[order[1:]] == rows.available_us[order[:-1]])
    )
    keep[order[again]] = False
    order = np.flatnonzero(keep)
    order = order[np.lexsort((rows.sequence[order], rows.event_us[order], rows.available_us[order]))]
    return NewRows(
        rows.event_us[order],
        rows.sequence[order],
        rows.available_us[order],
        rows.missing[order],
        np.ascontiguousarray(rows.outputs[order]),
    )
