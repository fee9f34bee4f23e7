"""The states of one view for all symbols of a worker, in one matrix, and how a block of rows goes through them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tapeline.compute.rows import BAR_VALUES, EntityState, RowRunner, bar_times
from tapeline.features.builders import NEVER_US
from tapeline.features.versions import LAST_CLOSE_SIZE, Flags, Floats, Integers
from tapeline.features.view import FeatureViewSpec
from tapeline.kernels.bars import BAR_STATE_SIZE
from tapeline.storage.statuses import hidden

_ROWS_SEEN, _AVAILABLE = 0, 3


@dataclass(frozen=True)
class ViewRows:
    """Feature rows of a block, those of one symbol together and in order.

    Attributes
    ----------
    place
        int64 (N,): the symbol's place in the matrix.
    event_us, sequence, available_us
        int64 (N,).
    outputs
        float64 (N, outputs).
    last
        int64: the last row of each symbol that has any.
    """

    place: Integers
    event_us: Integers
    sequence: Integers
    available_us: Integers
    outputs: Floats
    last: Integers

    def __len__(self) -> int:
        return len(self.event_us)

    def to_show(self, now_us: int) -> Integers:
        """Places of the rows that readers are to find: of each symbol the last one that is available, and all that are not yet."""
        early = hidden(self.event_us, self.available_us, now_us)
        chosen = early.copy()
        chosen[self.last] = True
        chosen[:-1] |= early[1:] & (self.place[1:] == self.place[:-1])
        return np.flatnonzero(chosen)


class ViewStates:
    """States of one view; places are shared by all views of a lane.

    Parameters
    ----------
    spec
        The view.
    lag_us
        The source's declared lag.

    Attributes
    ----------
    open_rows
        By place, the rows (sequence, available time) in the table of the bar that was unfinished when the state was taken
        up. A back-fill gives a bar that time has ended its row before the trade that follows it, from which it comes again.
    """

    def __init__(self, spec: FeatureViewSpec, lag_us: int) -> None:
        self.spec = spec
        self.open_rows: dict[int, set[tuple[int, int]]] = {}
        self.runner = RowRunner(spec, lag_us)
        self.runner.plan.compile()
        self._bar_size = BAR_STATE_SIZE if self.runner.builder else LAST_CLOSE_SIZE
        self._plans: Floats = np.empty((0, self.runner.plan.state_size))
        self._bars: Floats = np.empty((0, self._bar_size))
        self._outputs: Floats = np.empty((0, len(spec.columns)))
        self._has_outputs: Flags = np.empty(0, dtype=np.bool_)

    @property
    def bytes_each(self) -> int:
        """Bytes that a symbol takes."""
        return 8 * int(self._plans.shape[1] + self._bar_size + self._outputs.shape[1])

    def grow(self, places: int) -> None:
        """Make room for so many symbols."""
        more = places - len(self._plans)
        self._plans = np.concatenate([self._plans, np.zeros((more, self._plans.shape[1]))])
        self._bars = np.concatenate([self._bars, np.zeros((more, self._bar_size))])
        self._outputs = np.concatenate([self._outputs, np.zeros((more, self._outputs.shape[1]))])
        self._has_outputs = np.concatenate([self._has_outputs, np.zeros(more, dtype=np.bool_)])

    def put(self, place: int, state: EntityState | None) -> None:
        """Set a symbol's state; none: a fresh one."""
        state = state or self.runner.fresh()
        self.open_rows.pop(place, None)
        self._plans[place] = state.plan
        self._bars[place] = 0.0 if state.bars is None else state.bars
        self._has_outputs[place] = len(state.outputs) > 0
        if len(state.outputs):
            self._outputs[place] = state.outputs

    def copy(self, places: Integers) -> tuple[EntityState, ...]:
        """Copies of some symbols' states."""
        has_bars = self.runner.builder is not None or self.runner.plan.dividends
        plans, bars, outputs = self._plans[places], self._bars[places], self._outputs[places]
        some = self._has_outputs[places].tolist()
        none = np.empty(0)
        return tuple(
            EntityState(plans[k], bars[k] if has_bars else None, outputs[k] if some[k] else none)
            for k in range(len(places))
        )

    def open_end_us(self, place: int) -> int | None:
        """End of a symbol's unfinished bar, if there is one and a time ends it."""
        builder = self.runner.builder
        return None if builder is None else builder.open_end_us(self._bars[place])

    def last_available_us(self, places: Integers) -> Integers:
        """When the last rows of some symbols are available; 0 where there is none."""
        plans: Integers = self._plans[places[:, None], [_ROWS_SEEN, _AVAILABLE]].view(np.int64)
        return np.where(plans[:, 0] > 0, plans[:, 1], 0)

    def not_written(self, made: ViewRows) -> Flags | None:
        """Which rows do not stand in the table, where the first of a symbol may; none: all."""
        if not self.open_rows:
            return None
        fresh = np.ones(len(made), dtype=np.bool_)
        firsts = np.concatenate(([0], made.last[:-1] + 1)).tolist()
        for row, place in zip(firsts, made.place[firsts].tolist(), strict=True):
            key = (int(made.sequence[row]), int(made.available_us[row]))
            fresh[row] = key not in self.open_rows.pop(place, ())
        return fresh

    def deadlines(self, event_us: Integers) -> Integers:
        """From when on rows come too late, since their bar was over without them."""
        builder = self.runner.builder
        return np.full(len(event_us), NEVER_US) if builder is None else builder.too_late_us(event_us)

    def advance(
        self,
        places: Integers,
        offsets: Integers,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        values: Floats,
    ) -> ViewRows:
        """Take the next rows of some symbols, to which nothing but rows happened meanwhile.

        Equal to :meth:`tapeline.compute.rows.RowRunner.advance` of each symbol, bit for bit.

        Parameters
        ----------
        places
            int64 (E,): the symbols, each once.
        offsets
            int64 (E+1,): the symbol at ``places[e]`` has rows offsets[e] to offsets[e+1].
        event_us, sequence, available_us
            int64 (N,).
        values
            float64 (N, C), as of :class:`tapeline.compute.history.Versions`.
        """
        runner, builder = self.runner, self.runner.builder
        if builder is None:
            columns = dict(zip(BAR_VALUES, values.T, strict=True))
            columns["split_ratio"] = columns["dividend_ratio"] = np.ones(len(event_us))
            if runner.plan.dividends:
                self._remember_closes(places, offsets, event_us, columns["close"])
        else:
            bars, offsets, after = builder.advance_many(
                self._bars[places], offsets, event_us, sequence, available_us, values
            )
            self._bars[places] = after
            event_us, sequence, available_us = bar_times(bars)
            columns = runner.bar_columns(bars)
        counts = offsets[1:] - offsets[:-1]
        some = counts > 0
        if not some.all():
            places, counts = places[some], counts[some]
            offsets = np.concatenate(([0], np.cumsum(counts)))
        available_us = self._raised(places, counts, available_us)
        outputs, available_us = runner.plan.continue_some(
            self._plans, places, offsets, event_us, sequence, available_us, runner.plan_rows(event_us, columns)
        )
        np.copyto(outputs, np.nan, where=np.isnan(outputs))  # one NaN, so that equal values are equal bytes
        last = offsets[1:] - 1
        self._outputs[places] = outputs[last]
        self._has_outputs[places] = True
        return ViewRows(np.repeat(places, counts), event_us, sequence, available_us, outputs, last)

    def _raised(self, places: Integers, counts: Integers, available_us: Integers) -> Integers:
        """What a retraction raised; a plan starts from its first row."""
        header = self._plans[places, _ROWS_SEEN].view(np.int64)
        if header.all():
            return available_us
        floor = np.where(header == 0, self._plans[places, _AVAILABLE].view(np.int64), 0)
        if not floor.any():
            return available_us
        floor = np.where(floor == 0, -NEVER_US, floor)
        raised: Integers = np.maximum(available_us, np.repeat(floor, counts))
        return raised

    def _remember_closes(self, places: Integers, offsets: Integers, event_us: Integers, close: Floats) -> None:
        """What dividends need to know of the bars before."""
        usable = np.flatnonzero((close > 0.0) & (close < np.inf))
        before = np.searchsorted(usable, offsets)
        some = before[1:] > before[:-1]
        last = usable[before[1:][some] - 1]
        self._bars[places[some], 0], self._bars[places[some], 1] = close[last], event_us[last]
