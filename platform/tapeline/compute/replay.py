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
from dataclasses import dataclass

import numpy as np

from tapeline.compute.computed import LONG_AGO_US, ComputedRows, NewRows, Stored
from tapeline.compute.history import Versions, ranks_of
from tapeline.compute.rows import AvailableFloor, EntityState, FinishedRows, RowRunner
from tapeline.features.versions import Actions, ActionVersions, Flags, Floats, Integers, newest_of_keys

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
class EntityHistory:
    """What a replay needs to know of one entity.

    Attributes
    ----------
    versions
        All versions of the keys after the base.
    actions
        All versions of its splits, and of its dividends if the view is adjusted for them.
    since_us
        What became known before this moment has been computed and stands in the table; what became known at it or later
        is to be computed.
    base
        A state before all keys that became known or changed since then; ``None`` to begin with the first row.
    stored
        Feature rows in the table from the first changed key on.
    """

    versions: Versions
    actions: ActionVersions
    since_us: int
    base: Checkpoint | None
    stored: Stored | None


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
        self.builder = runner.builder
        self.rank, self.key_event, self.key_sequence = ranks_of(self.versions.event_us, self.versions.sequence)
        self.current = np.full(len(self.key_event), -1, dtype=np.int64)
        self.frontier = -1
        """Greatest rank that has been live; later ones continue, earlier ones rewind."""
        self.rows_done = 0
        self.state = history.base.state if history.base else runner.fresh()
        width = len(runner.plan.outputs)
        self.computed = ComputedRows(history.stored, history.since_us, width, self.state.outputs)
        self.marks = [_Mark(-1, 0, history.base, self.state)]

    def run(self) -> Replayed:
        history = self.history
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
        self.computed.answer_stale()
        return self._result(
            max([history.since_us - 1, *available[-1:].tolist(), *history.actions.available_us.tolist()])
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
        actions = self.history.actions.known_at(since_us - 1)
        for finished in self._advance(rows, actions, AvailableFloor(), since_us - 1):
            self.computed.add(finished, emit=False)
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
        actions = self.history.actions.available_us
        late = self._out_of_order(order, self.frontier)
        return [int(moment) for moment in np.union1d(late, actions[actions >= self.history.since_us])]

    def _out_of_order(self, order: Integers, frontier: int) -> Integers:
        """Moments at which something arrives at or before the frontier, which moves on with the arrivals, or too late."""
        live = np.where(self.versions.live[order], self.rank[order], -1)
        reached = np.maximum.accumulate(np.concatenate(([frontier], live)))[:-1]
        return self.versions.available_us[order[(self.rank[order] <= reached) | self._too_late(order)]]

    def _too_late(self, order: Integers) -> Flags:
        """Which versions are rows of a bar that was over when they arrived."""
        if self.builder is None:
            return np.zeros(len(order), dtype=np.bool_)
        return np.asarray(self.builder.too_late_us(self.versions.event_us[order]) <= self.versions.available_us[order])

    def _past_rewinds(self, order: Integers) -> list[int]:
        """Moments before ``since_us`` at which rows after the base were computed again."""
        moments = [int(moment) for moment in self._out_of_order(order, -1)]
        known_us = self.versions.available_us[order]
        live = np.where(self.versions.live[order], self.versions.event_us[order], LONG_AGO_US)
        reached_us = np.maximum.accumulate(np.concatenate(([self._base_event_us()], live)))
        actions = self.history.actions
        for i in np.flatnonzero(actions.available_us < self.history.since_us).tolist():
            moment_us = int(actions.available_us[i])
            if reached_us[np.searchsorted(known_us, moment_us, side="right")] > self._reach_us(i):
                moments.append(moment_us)
        return moments

    def _reach_us(self, action: int) -> int:
        """Raw rows after this moment are on the basis after a split or dividend."""
        return int(self.history.actions.event_us[action]) + (self.builder.adjusted_us if self.builder else 0)

    # Going on ---------------------------------------------------------------------------------------------------------

    def _continue_with(self, order: Integers) -> None:
        """Rows that come after all before them."""
        if len(order) == 0:
            return
        self.current[self.rank[order]] = order
        rows = order[self.versions.live[order]]
        if len(rows) == 0:
            return
        actions = self.history.actions.known_at(int(self.versions.available_us[order[-1]]))
        for finished in self._advance(rows, actions, AvailableFloor(), None):
            self.computed.add(finished, emit=True)
        self.frontier = int(self.rank[rows[-1]])

    def _advance(
        self, rows: Integers, actions: Actions, floor: AvailableFloor, known_us: int | None
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
                actions,
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
        actions = self.history.actions.known_at(moment_us)
        floor = AvailableFloor(cut_event_us, moment_us)
        passed = list(self._advance(rows, actions, floor, moment_us))
        self.state = self.runner.raised(self.state, moment_us)
        if self._open_bar_is_over(moment_us):
            passed.append(self.runner.finish_open_bar(self.state, floor))
        for finished in passed:
            self.computed.add(_since(finished, cut_event_us), emit=True)
        self._answer_vanished_keys(moment_us, cut_event_us, passed, mark.state)
        return True

    def _first_end_us(self, action_us: int) -> int:
        """Bars that end before this moment have nothing of what takes effect at another."""
        return action_us + (self.builder.adjusted_us + self.builder.touched_us if self.builder else 0) + 1

    def _open_bar_is_over(self, moment_us: int) -> bool:
        end_us = self.runner.open_bar_end_us(self.state)
        return end_us is not None and end_us + self.runner.lag_us <= moment_us

    def _finish_open_bar(self, moment_us: int) -> None:
        """Give the open bar its row if it is over, before something changes it."""
        if self._open_bar_is_over(moment_us):
            self.computed.add(self.runner.finish_open_bar(self.state, AvailableFloor()), emit=True)

    def _touched(self, moment_us: int, group: Integers) -> tuple[int | None, int]:
        """The first rank to compute again, and the first end of bars whose rows change."""
        ranks: list[int] = []
        events: list[int] = []
        changed = self.rank[group][(self.rank[group] <= self.frontier) | self._too_late(group)]
        if len(changed):
            ranks.append(int(changed.min()))
            events.append(int(self.key_event[ranks[0]]) + (self.builder.touched_us if self.builder else 0))
        actions = self.history.actions
        for i in np.flatnonzero(actions.available_us == moment_us).tolist():
            rank = int(np.searchsorted(self.key_event, self._reach_us(i), side="right"))
            if rank <= self.frontier:
                ranks.append(rank)
                events.append(self._first_end_us(int(actions.event_us[i])))
        return (min(ranks), min(events)) if ranks else (None, 0)

    def _answer_vanished_keys(
        self, moment_us: int, cut_event_us: int, passed: list[FinishedRows], before: EntityState
    ) -> None:
        """Rows for keys that have a feature row but no longer a raw one: what is known without them."""
        alive = {key for rows in passed for key in zip(rows.event_us.tolist(), rows.sequence.tolist(), strict=True)}
        vanished = [key for key in self.computed.known.since(cut_event_us) if key not in alive]
        if not vanished:
            return
        keys = sorted(alive)
        outputs = np.concatenate([rows.outputs for rows in passed]) if passed else np.empty((0, 0))
        values: list[Floats] = []
        for key in vanished:
            place = bisect.bisect_left(keys, key)
            values.append(outputs[place - 1] if place else before.outputs)
        lag_us = self.runner.lag_us if self.builder and self.builder.touched_us else 0
        self.computed.answer(vanished, [max(moment_us, event + lag_us) for event, _ in vanished], values)

    # Results ----------------------------------------------------------------------------------------------------------

    def _base_event_us(self) -> int:
        return self.history.base.event_us if self.history.base else LONG_AGO_US

    def _result(self, known_us: int) -> Replayed:
        checkpoints = [mark.checkpoint for mark in self.marks[1:] if mark.checkpoint and mark.rank < self.frontier]
        base = self.history.base
        if self.frontier >= 0:
            end = (int(self.key_event[self.frontier]), int(self.key_sequence[self.frontier]))
            checkpoints.append(Checkpoint(*end, known_us, self.state))
        elif base is not None:
            checkpoints.append(Checkpoint(base.event_us, base.sequence, known_us, self.state))
        return Replayed(self.computed.changed(), tuple(checkpoints), self.computed.count)


def _since(rows: FinishedRows, event_us: int) -> FinishedRows:
    """Those that end at or after a moment."""
    first = int(np.searchsorted(rows.event_us, event_us, side="left"))
    return FinishedRows(rows.event_us[first:], rows.sequence[first:], rows.available_us[first:], rows.outputs[first:])
