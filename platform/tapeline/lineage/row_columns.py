"""Which stored columns a view's row columns come from: the bars, ticks and adjustments that its kernels read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tapeline.core.hashing import sha256_json
from tapeline.core.timestamps import format_duration_us
from tapeline.features.frame_code import frame_kernels
from tapeline.features.kernel_source import kernel_sources
from tapeline.features.timeframes import TimeFrame
from tapeline.features.view import FeatureViewSpec, LongerBars, SessionBars, TradeBars, TradedBars, Trades
from tapeline.indicators.schema import COLUMNS, INPUTS
from tapeline.kernels.bars import bar_adjust, bar_write, time_bar_flush, time_bar_update
from tapeline.kernels.bars_longer import longer_bar_flush, longer_bar_update
from tapeline.kernels.bars_traded import traded_bar_flush, traded_bar_update
from tapeline.lineage.graph import Graph, Key, Role

ACTIONS_TABLE = "tapeline.corporate_actions"
_OF_A_TRADE = {"price": "price", "size": "size", "time": "event_timestamp"}
_BAR_FROM_TRADE = {"open": "price", "high": "price", "low": "price", "close": "price", "volume": "size"}
_TRADE_COLUMNS = ("price", "size", "event_timestamp")


def raw_table(graph: Graph, kind: str, source: str) -> Key:
    """A source's own part of a raw table, with the source that delivers it."""
    key = graph.node("table", f"tapeline.{kind}[{source}]", table=f"tapeline.{kind}", source=source)
    graph.edge(graph.node("source", source), key, "delivers")
    return key


def source_column(graph: Graph, kind: str, source: str, name: str) -> Key:
    """A column of a source's rows, with what holds it."""
    key = graph.node("column", f"{source}.{name}", table=f"tapeline.{kind}", column=name)
    graph.edge(raw_table(graph, kind, source), key, "holds")
    return key


def action_column(graph: Graph, name: str) -> Key:
    """A column of the corporate actions, which whoever reports them shares."""
    table = graph.node("table", ACTIONS_TABLE, table=ACTIONS_TABLE)
    key = graph.node("column", f"corporate_actions.{name}", table=ACTIONS_TABLE, column=name)
    graph.edge(table, key, "holds")
    return key


@dataclass
class RowColumns:
    """Finds, for the rows of one view, where each row column comes from; nodes and edges go into the graph."""

    graph: Graph
    spec: FeatureViewSpec

    def of(self, name: str) -> list[tuple[Key, Role]]:
        """What a kernel that reads a row column depends on: nodes, and in which role."""
        rows = self.spec.rows
        if name == "session":
            begun = "start_timestamp" if rows.raw == "bars" else "event_timestamp"
            return [(self.stored(begun), "value"), (self.calendar(), "value")]
        match rows:
            case SessionBars():
                return [(self.stored(name), "value")]
            case Trades():
                return [(self.stored(_OF_A_TRADE[name]), "value")] if name in _OF_A_TRADE else []
            case TradeBars() | TradedBars():
                return [(self._from_trades(name), "value")]
            case LongerBars():
                return [(self._from_bars(name, rows.frame), "value")]

    def stored(self, name: str) -> Key:
        """A stored column of the view's source."""
        return source_column(self.graph, self.spec.rows.raw, self.spec.rows.source, name)

    def calendar(self) -> Key:
        """The view's calendar."""
        return self.graph.node("calendar", self.spec.rows.calendar)

    def adjustments(self, names: Iterable[str]) -> list[tuple[Key, Role]]:
        """The corporate actions that some row columns are adjusted for, with what a dividend's ratio is computed from."""
        powers = {COLUMNS[name].split_power for name in names}
        found: list[tuple[Key, Role]] = []
        if powers - {0}:
            found.append((action_column(self.graph, "ratio"), "value"))
        if 1 in powers and self.spec.dividends:
            found.append((action_column(self.graph, "amount"), "value"))
            close = "close" if "close" in INPUTS and self.spec.rows.raw == "bars" else "price"
            found.append((self.stored(close), "value"))
        return found

    def event_time(self) -> tuple[Key, Role]:
        """The time of a row, where ages or frames are told by it."""
        return self.stored("event_timestamp"), "indirect"

    def framed(self, name: str, frame: TimeFrame) -> list[tuple[Key, Role]]:
        """The same for bars of a time frame, which a plan makes of the view's rows."""
        bars = frame.finished
        kernel = self._kernel(f"frame({bars.text}).{name}", frame_kernels(name), frame=bars.text)
        for upstream, role in self.of(name):
            self.graph.edge(upstream, kernel, role)
        self.graph.edge(*_onto(self.event_time(), kernel))
        if bars.follows_sessions:
            self.graph.edge(self.calendar(), kernel, "indirect")
        return [(kernel, "value")]

    def _from_trades(self, name: str) -> Key:
        rows = self.spec.rows
        if isinstance(rows, TradeBars):
            title, parameters = "trade_bars", {"width": format_duration_us(rows.width_us)}
            steps: tuple[Any, ...] = (time_bar_update, time_bar_flush)
        else:
            assert isinstance(rows, TradedBars)
            title, parameters = "traded_bars", {"measure": rows.measure, "threshold": f"{rows.threshold:g}"}
            steps = (traded_bar_update, traded_bar_flush)
        spelled = ", ".join(f"{key}={value}" for key, value in parameters.items())
        kernel = self._kernel(f"{title}({spelled}).{name}", (*steps, bar_write, bar_adjust), **parameters)
        value = _BAR_FROM_TRADE[name]
        for column in _TRADE_COLUMNS:
            self.graph.edge(self.stored(column), kernel, "value" if column == value else "indirect")
        return kernel

    def _from_bars(self, name: str, frame: TimeFrame) -> Key:
        steps = (longer_bar_update, longer_bar_flush, bar_write, bar_adjust)
        kernel = self._kernel(f"longer_bars({frame.text}).{name}", steps, frame=frame.text)
        self.graph.edge(self.stored(name), kernel, "value")
        self.graph.edge(*_onto(self.event_time(), kernel))
        if frame.follows_sessions:
            self.graph.edge(self.calendar(), kernel, "indirect")
        return kernel

    def _kernel(self, title: str, steps: tuple[Any, ...], **parameters: str) -> Key:
        place = f"{self.spec.name}@{self.spec.version}"
        return self.graph.node(
            "kernel",
            f"{place}/{title}",
            parameters=parameters,
            primitives=sorted(f"{step.py_func.__module__}.{step.py_func.__name__}" for step in steps),
            source_hash=sha256_json(kernel_sources(steps)),
        )


def _onto(part: tuple[Key, Role], downstream: Key) -> tuple[Key, Key, Role]:
    upstream, role = part
    return upstream, downstream, role
