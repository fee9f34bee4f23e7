"""Runs one entity's rows through the kernels: stored bars directly, others by way of a bar builder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tapeline.compute.sessions import SessionTimes, session_times
from tapeline.features.builders import BarBuilder, builder_of, column_of
from tapeline.features.plan import FeaturePlan
from tapeline.features.timeframes import FrameCalendar, frames_of_inputs
from tapeline.features.versions import LAST_CLOSE_SIZE, Actions, Floats, Integers, dividend_ratios, split_ratios
from tapeline.features.view import FeatureViewSpec, LongerBars

AVAILABLE_SLOT = 3
"""Place of the running available time, as int64 bits, in a plan's state; see ``tapeline.features.state``."""
BAR_VALUES = ("start", "open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class EntityState:
    """Where one entity's computation stands; its arrays are never changed in place.

    Attributes
    ----------
    plan
        float64 state of the feature plan.
    bars
        float64 state of the bar builder; where bars come stored, what dividends need of the bars before, or ``None``.
    outputs
        float64 features after the last finished bar; empty if there was none.
    """

    plan: Floats
    bars: Floats | None
    outputs: Floats


@dataclass(frozen=True)
class FinishedRows:
    """Feature rows, in order of (event, sequence)."""

    event_us: Integers
    sequence: Integers
    available_us: Integers
    outputs: Floats


@dataclass(frozen=True)
class AvailableFloor:
    """Bars that end at or after ``from_event_us`` count as available no earlier than ``at_us``; by default, as they are."""

    from_event_us: int = 0
    at_us: int = -(2**62)

    def apply(self, event_us: Integers, available_us: Integers) -> Integers:
        """Available times with the floor under them."""
        return np.where(event_us >= self.from_event_us, np.maximum(available_us, self.at_us), available_us)


def bar_times(bars: Floats) -> tuple[Integers, Integers, Integers]:
    """Event, sequence and available time of the rows of built bars, (B, 13)."""
    event, sequence, available = (
        column_of(bars, name).astype(np.int64) for name in ("end_us", "last_sequence", "available_us")
    )
    return event, sequence, available


class RowRunner:
    """Advances states of a view by raw rows.

    Parameters
    ----------
    spec
        The view.
    lag_us
        The source's declared lag: a bar that ends with a time is over, and its row available, so long after its end.
    """

    def __init__(self, spec: FeatureViewSpec, lag_us: int = 0) -> None:
        self.plan: FeaturePlan = spec.plan.compile()
        self.lag_us = lag_us
        self.frames = frames_of_inputs(self.plan.inputs)
        follows = isinstance(spec.rows, LongerBars) and spec.rows.frame.follows_sessions
        self._sessions: SessionTimes | None = (
            session_times(spec.rows.calendar) if "session" in self.plan.inputs or self.frames or follows else None
        )
        none = np.empty(0, dtype=np.int64)
        self._calendar = (
            FrameCalendar(none, none)
            if self._sessions is None
            else FrameCalendar(self._sessions.open_us, self._sessions.close_us)
        )
        self.builder: BarBuilder | None = builder_of(spec.rows, self._calendar, lag_us)

    def fresh(self) -> EntityState:
        """The state before any row."""
        bars = np.zeros(LAST_CLOSE_SIZE) if self.plan.dividends else None
        if self.builder is not None:
            bars = self.builder.fresh()
        return EntityState(self.plan.new_state(), bars, np.empty(0))

    def advance(
        self,
        state: EntityState,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        values: Floats,
        actions: Actions,
        floor: AvailableFloor,
    ) -> tuple[FinishedRows, EntityState]:
        """Take rows in the order of their keys.

        Parameters
        ----------
        state
            The state that they follow.
        event_us, sequence, available_us, values
            The rows; see :class:`tapeline.compute.history.Versions`.
        actions
            The splits and dividends known.
        floor
            Raises the available time of bars that were computed again.

        Returns
        -------
        tuple
            A feature row for each bar that was finished, and the state after all rows.
        """
        if self.builder is None:
            return self._run_stored(state, event_us, sequence, available_us, values, actions, floor)
        assert state.bars is not None
        if not self.plan.dividends:
            actions = actions.splits_only
        bars, builder = self.builder.advance_adjusted(state.bars, event_us, sequence, available_us, values, actions)
        return self._run_built(state, bars, builder, floor)

    def raised(self, state: EntityState, available_us: int) -> EntityState:
        """The same state, whose further rows are available no earlier than a moment.

        What was computed again after a correction or a retraction depends on it, even where no row was.
        """
        plan = state.plan.copy()
        slot = plan[AVAILABLE_SLOT : AVAILABLE_SLOT + 1].view(np.int64)
        slot[0] = max(int(slot[0]), available_us)
        return EntityState(plan, state.bars, state.outputs)

    def open_bar_end_us(self, state: EntityState) -> int | None:
        """End of the unfinished bar, if rows have come for one and a time ends it."""
        if self.builder is None or state.bars is None:
            return None
        return self.builder.open_end_us(state.bars)

    def finish_open_bar(self, state: EntityState, floor: AvailableFloor) -> FinishedRows:
        """The feature row of the unfinished bar as it is; the state stays as it was."""
        assert self.builder is not None
        assert state.bars is not None
        return self._run_built(state, self.builder.flush(state.bars)[0], state.bars, floor)[0]

    def _run_built(
        self, state: EntityState, bars: Floats, builder: Floats, floor: AvailableFloor
    ) -> tuple[FinishedRows, EntityState]:
        return self._run_plan(state, builder, *bar_times(bars), self.bar_columns(bars), floor)

    def bar_columns(self, bars: Floats) -> dict[str, Floats]:
        """What :meth:`plan_rows` takes of built bars, (B, 13)."""
        needed = {*self.plan.inputs} - {"session", *self.frames}
        return {name: column_of(bars, name) for name in needed} | {"start": column_of(bars, "start_us")}

    def plan_rows(self, event_us: Integers, columns: Mapping[str, Floats]) -> Floats:
        """The plan's rows (N, inputs) of bars of any entities.

        Parameters
        ----------
        event_us
            int64 (N,): ends of the bars.
        columns
            Each (N,): the plan's inputs apart from sessions and frames, and ``start``.
        """
        rows = np.empty((len(event_us), len(self.plan.inputs)))
        for place, name in enumerate(self.plan.inputs):
            if name == "session":
                assert self._sessions is not None
                rows[:, place] = self._sessions.number_of(columns["start"].astype(np.int64))
            elif name in self.frames:
                moment_us = event_us if self.plan.moments else event_us - 1
                rows[:, place] = self._calendar.column(self.frames[name], moment_us)
            else:
                rows[:, place] = columns[name]
        return rows

    def _run_stored(
        self,
        state: EntityState,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        values: Floats,
        actions: Actions,
        floor: AvailableFloor,
    ) -> tuple[FinishedRows, EntityState]:
        position = self.plan.position(state.plan)
        previous = position.event_us if position.rows_seen else None
        columns = dict(zip(BAR_VALUES, values.T, strict=True))
        columns["split_ratio"] = split_ratios(previous, event_us, actions.event_us, actions.ratio)
        last = state.bars
        if self.plan.dividends:
            assert last is not None
            columns["dividend_ratio"], last = dividend_ratios(previous, last, event_us, columns["close"], actions)
        return self._run_plan(state, last, event_us, sequence, available_us, columns, floor)

    def _run_plan(
        self,
        state: EntityState,
        builder: Floats | None,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        columns: Mapping[str, Floats],
        floor: AvailableFloor,
    ) -> tuple[FinishedRows, EntityState]:
        position = self.plan.position(state.plan)
        rows = self.plan_rows(event_us, columns)
        available_us = floor.apply(event_us, available_us)
        if (
            position.rows_seen == 0 and position.available_us
        ):  # what a retraction raised; a plan starts from its first row
            available_us = np.maximum(available_us, position.available_us)
        available_out = np.empty(len(rows), dtype=np.int64)
        features, ends = self.plan.batch(
            event_us,
            sequence,
            available_us,
            rows,
            np.array([0, len(rows)]),
            state.plan[None, :],
            available_out=available_out,
            threads=1,
        )
        features[np.isnan(features)] = np.nan  # one NaN, so that equal values are equal bytes
        finished = FinishedRows(event_us, sequence, available_out, features)
        return finished, EntityState(ends[0], builder, features[-1] if len(features) else state.outputs)
