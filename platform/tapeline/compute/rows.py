"""Runs one entity's rows through the kernels: stored bars directly, trades by way of the bar builder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tapeline.compute.sessions import SessionTimes, session_times
from tapeline.features.plan import FeaturePlan
from tapeline.features.versions import Floats, Integers, split_ratios
from tapeline.features.view import FeatureViewSpec, TradeBars
from tapeline.kernels.bars import BAR_COLUMNS, TIME_BAR_STATE_SIZE, time_bar_flush, time_bars_batch

_COLUMN = {name: place for place, name in enumerate(BAR_COLUMNS)}
AVAILABLE_SLOT = 3
"""Place of the running available time, as int64 bits, in a plan's state; see ``tapeline.features.state``."""
_BAR_VALUES = ("start", "open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class EntityState:
    """Where one entity's computation stands; its arrays are never changed in place.

    Attributes
    ----------
    plan
        float64 state of the feature plan.
    bars
        float64 state of the bar builder; ``None`` where bars come stored.
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


class RowRunner:
    """Advances states of a view by raw rows.

    Parameters
    ----------
    spec
        The view.
    lag_us
        The source's declared lag: a bar of trades is over, and its row available, so long after its end.
    """

    def __init__(self, spec: FeatureViewSpec, lag_us: int = 0) -> None:
        self.plan: FeaturePlan = spec.plan.compile()
        self.lag_us = lag_us
        self.width_us = spec.rows.width_us if isinstance(spec.rows, TradeBars) else None
        needs_sessions = "session" in self.plan.inputs
        self._sessions: SessionTimes | None = session_times(spec.rows.calendar) if needs_sessions else None

    def fresh(self) -> EntityState:
        """The state before any row."""
        bars = None if self.width_us is None else np.zeros(TIME_BAR_STATE_SIZE)
        return EntityState(self.plan.new_state(), bars, np.empty(0))

    def advance(
        self,
        state: EntityState,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        values: Floats,
        splits: tuple[Integers, Floats],
        floor: AvailableFloor,
    ) -> tuple[FinishedRows, EntityState]:
        """Take rows in the order of their keys.

        Parameters
        ----------
        state
            The state that they follow.
        event_us, sequence, available_us, values
            The rows; see :class:`tapeline.compute.history.Versions`.
        splits
            Effective times and ratios of the splits known.
        floor
            Raises the available time of bars that were computed again.

        Returns
        -------
        tuple
            A feature row for each bar that was finished, and the state after all rows.
        """
        if state.bars is None:
            return self._run_plan(
                state.plan, None, state.outputs, event_us, sequence, available_us, values, splits, floor
            )
        assert self.width_us is not None
        bars, _, ends = time_bars_batch(
            self.width_us,
            event_us,
            available_us,
            sequence,
            values[:, 0],
            values[:, 1],
            np.array([0, len(event_us)]),
            state.bars[None, :],
        )
        return self._run_bars(state, bars, ends[0], splits, floor)

    def raised(self, state: EntityState, available_us: int) -> EntityState:
        """The same state, whose further rows are available no earlier than a moment.

        What was computed again after a correction or a retraction depends on it, even where no row was.
        """
        plan = state.plan.copy()
        slot = plan[AVAILABLE_SLOT : AVAILABLE_SLOT + 1].view(np.int64)
        slot[0] = max(int(slot[0]), available_us)
        return EntityState(plan, state.bars, state.outputs)

    def over_us(self, event_us: Integers) -> Integers:
        """When the bars that trades at these moments belong to are over."""
        assert self.width_us is not None
        return event_us // self.width_us * self.width_us + self.width_us + self.lag_us

    def open_bar_end_us(self, state: EntityState) -> int | None:
        """End of the unfinished bar, if trades have come for one."""
        if state.bars is None or state.bars[_COLUMN["trade_count"]] == 0:
            return None
        return int(state.bars[_COLUMN["end_us"]])

    def finish_open_bar(
        self, state: EntityState, splits: tuple[Integers, Floats], floor: AvailableFloor
    ) -> FinishedRows:
        """The feature row of the unfinished bar as it is; the state stays as it was."""
        assert state.bars is not None
        assert self.width_us is not None
        bar = np.empty((1, len(BAR_COLUMNS)))
        time_bar_flush(state.bars.copy(), self.width_us, bar[0])
        return self._run_bars(state, bar, state.bars, splits, floor)[0]

    def _run_bars(
        self,
        state: EntityState,
        bars: Floats,
        builder: Floats,
        splits: tuple[Integers, Floats],
        floor: AvailableFloor,
    ) -> tuple[FinishedRows, EntityState]:
        event = bars[:, _COLUMN["end_us"]].astype(np.int64)
        sequence = bars[:, _COLUMN["last_sequence"]].astype(np.int64)
        available = np.maximum(bars[:, _COLUMN["available_us"]].astype(np.int64), event + self.lag_us)
        values = bars[:, [_COLUMN["start_us"], *(_COLUMN[name] for name in _BAR_VALUES[1:])]]
        return self._run_plan(state.plan, builder, state.outputs, event, sequence, available, values, splits, floor)

    def _run_plan(
        self,
        plan_state: Floats,
        builder: Floats | None,
        outputs: Floats,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        values: Floats,
        splits: tuple[Integers, Floats],
        floor: AvailableFloor,
    ) -> tuple[FinishedRows, EntityState]:
        position = self.plan.position(plan_state)
        previous = position.event_us if position.rows_seen else None
        rows = np.empty((len(event_us), len(self.plan.inputs)))
        for place, name in enumerate(self.plan.inputs):
            if name == "split_ratio":
                rows[:, place] = split_ratios(previous, event_us, *splits)
            elif name == "session":
                assert self._sessions is not None
                rows[:, place] = self._sessions.number_of(values[:, 0].astype(np.int64))
            else:
                rows[:, place] = values[:, _BAR_VALUES.index(name)]
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
            plan_state[None, :],
            available_out=available_out,
            threads=1,
        )
        features[np.isnan(features)] = np.nan  # one NaN, so that equal values are equal bytes
        finished = FinishedRows(event_us, sequence, available_out, features)
        return finished, EntityState(ends[0], builder, features[-1] if len(features) else outputs)
