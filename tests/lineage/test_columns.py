"""Column-level lineage against two independent tellers: what a plan cut to one feature reads, and what moves when data do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tapeline.compute.rows import AvailableFloor, RowRunner
from tapeline.core.timestamps import DAY_US, MINUTE_US
from tapeline.features.builders import builder_of, column_of
from tapeline.features.catalogue import VIEWS
from tapeline.features.plan import FeaturePlan
from tapeline.features.request import FeatureRequest
from tapeline.features.timeframes import FrameCalendar, TimeFrame
from tapeline.features.versions import Actions
from tapeline.features.view import FeatureViewSpec, LongerBars, SessionBars, TradeBars, TradedBars
from tapeline.indicators import specification
from tapeline.lineage.graph import Graph, Key
from tapeline.lineage.views import view_graph

from tests.serving.world import bar_history, trade_history

_of = FeatureRequest.of
RATIO, AMOUNT = "corporate_actions.ratio", "corporate_actions.amount"


def above(graph: Graph, start: Key) -> set[Key]:
    """Everything upstream, walked here and not in the database."""
    found, waiting = set(), [start]
    while waiting:
        key = waiting.pop()
        new = {edge.upstream for edge in graph.edges if edge.downstream == key} - found
        found |= new
        waiting += new
    return found


def columns_of(graph: Graph, place: str, column: str) -> set[str]:
    return {key.name for key in above(graph, Key("feature", f"{place}:{column}")) if key.kind == "column"}


@pytest.mark.parametrize("spec", VIEWS, ids=lambda spec: spec.name)
def test_every_feature_of_the_catalogue_comes_from_what_its_own_plan_reads(spec: FeatureViewSpec) -> None:
    """A plan cut down to one output says what that output alone reads."""
    graph, place, source = view_graph(spec), f"{spec.name}@{spec.version}", spec.rows.source
    bars = {name: [name] for name in ("open", "high", "low", "close", "volume")} | {"session": ["start_timestamp"]}
    trade_bars = {name: ["price", "size", "event_timestamp"] for name in bars} | {"session": ["event_timestamp"]}
    trades = {"price": ["price"], "size": ["size"], "time": ["event_timestamp"]}  # nothing else comes with a trade
    stored = bars if spec.rows.raw == "bars" else trade_bars if isinstance(spec.rows, TradeBars) else trades
    for request in spec.features:
        for column in request.columns:
            inputs = set(FeaturePlan([request], keep=[column]).inputs) - {"split_ratio"}
            wanted = {f"{source}.{each}" for name in inputs for each in stored.get(name, [])}
            adjusted = inputs & {"open", "high", "low", "close", "volume", "price", "size"}
            assert columns_of(graph, place, column) == wanted | ({RATIO} if adjusted else set()), column
    assert {key.name for key in graph.nodes if key.kind == "feature"} == {f"{place}:{name}" for name in spec.columns}


def moved(before: np.ndarray, after: np.ndarray, names: tuple[str, ...]) -> set[str]:
    """Outputs that are not the same, bit for bit but for the kind of NaN."""
    if before.shape != after.shape:
        return set(names)
    return {
        name
        for place, name in enumerate(names)
        if not np.array_equal(before[:, place], after[:, place], equal_nan=True)
    }


def downstream(graph: Graph, spec: FeatureViewSpec, column: str) -> set[str]:
    place = f"{spec.name}@{spec.version}"
    return {name for name in spec.columns if column in columns_of(graph, place, name)}


SESSION_SPEC = FeatureViewSpec(
    name="moved_daily",
    version=3,
    rows=SessionBars("s", "XNYS"),
    features=(
        _of("SMA", timeperiod=5),
        _of("OBV"),
        _of("AVGPRICE"),
        _of("RVOL", timeperiod=5),
        _of("VWAP_SESSION"),
        _of("MIDPRICE", timeperiod=4),
        _of("RSI", timeperiod=3, last_within="3d"),
        _of("EMA", frame="week", timeperiod=2),
    ),
    ttl_us=DAY_US,
    dividends=True,
)


@pytest.fixture(scope="module")
def daily() -> Callable[..., np.ndarray]:
    history = bar_history(5, 60)
    split, dividend = int(history.start_us[30]), int(history.start_us[40])
    actions = {"event_us": np.array([split, dividend]), "ratio": np.array([2.0, 1.0]), "dividend": np.array([0.0, 1.5])}
    values = np.column_stack(
        [history.start_us, *(history.columns[n] for n in ("open", "high", "low", "close", "volume"))]
    )
    runner = RowRunner(SESSION_SPEC)

    def run(change: Callable[[np.ndarray, dict[str, np.ndarray]], None] = lambda *_: None) -> np.ndarray:
        rows, known = values.astype(np.float64).copy(), {name: array.copy() for name, array in actions.items()}
        known_event = history.event_us.copy()
        change(rows, known | {"row_event_us": known_event})
        made, _ = runner.advance(
            runner.fresh(),
            known_event,
            np.zeros(60, np.int64),
            history.event_us,
            rows,
            Actions(**known),
            AvailableFloor(),
        )
        return made.outputs

    return run


@pytest.mark.parametrize(
    ("column", "place"),
    [("s.open", 1), ("s.high", 2), ("s.low", 3), ("s.close", 4), ("s.volume", 5)],
)
def test_what_moves_with_a_stored_column_is_what_lies_below_it(
    daily: Callable[..., np.ndarray], column: str, place: int
) -> None:
    def worse(rows: np.ndarray, _: object) -> None:
        rows[21:50:3, place] *= 1.01  # the close before the dividend among them
        rows[52, place] = np.nan

    assert moved(daily(), daily(worse), SESSION_SPEC.columns) == downstream(
        view_graph(SESSION_SPEC), SESSION_SPEC, column
    )


@pytest.mark.parametrize(("column", "name", "value"), [(RATIO, "ratio", [4.0, 1.0]), (AMOUNT, "dividend", [0.0, 8.0])])
def test_what_moves_with_corporate_actions_is_what_lies_below_them(
    daily: Callable[..., np.ndarray], column: str, name: str, value: list[float]
) -> None:
    def other(_: object, actions: dict[str, np.ndarray]) -> None:
        actions[name][:] = value

    changed = moved(daily(), daily(other), SESSION_SPEC.columns)
    recorded = downstream(view_graph(SESSION_SPEC), SESSION_SPEC, column)
    assert changed <= recorded
    # How old a value is does not change here, nor the sign of a day's change, which is all that OBV takes of prices; and
    # what looks back on no other day is put on another basis and back again.
    assert recorded - changed <= {"rsi_3_last_3d_age", "obv", "avgprice", "vwap_session"}
    assert changed >= {"sma_5", "midprice_4", "ema_2_week", "rsi_3_last_3d"}


def test_a_session_and_a_week_come_from_calendar_and_time() -> None:
    graph, place = view_graph(SESSION_SPEC), "moved_daily@3"
    with_calendar = {
        name for name in SESSION_SPEC.columns if Key("calendar", "XNYS") in above_without_tables(graph, place, name)
    }
    assert with_calendar == {"vwap_session", "ema_2_week"}
    assert "s.start_timestamp" in columns_of(graph, place, "vwap_session")
    timed = {name for name in SESSION_SPEC.columns if "s.event_timestamp" in columns_of(graph, place, name)}
    assert timed == {"ema_2_week", "rsi_3_last_3d", "rsi_3_last_3d_age"}


def above_without_tables(graph: Graph, place: str, column: str) -> set[Key]:
    """Upstream of a feature, up to stored columns: a source's calendar checks all its rows."""
    found, waiting = set(), [Key("feature", f"{place}:{column}")]
    while waiting:
        key = waiting.pop()
        new = {e.upstream for e in graph.edges if e.downstream == key and e.upstream.kind != "table"} - found
        found |= new
        waiting += new
    return found


@pytest.mark.parametrize(
    "rows", [TradeBars("t", "CMES", MINUTE_US), TradedBars("t", "CMES", "dollar", 120_000.0)], ids=["time", "dollar"]
)
def test_what_moves_with_trades_is_what_lies_below_their_columns(rows: TradeBars | TradedBars) -> None:
    """Bar by bar: a kernel of the graph for each column of a bar."""
    spec = FeatureViewSpec("moved_trades", 1, rows, (_of("AD"), _of("AVGPRICE")), 0)
    graph, history = view_graph(spec), trade_history(7, 400)
    builder = builder_of(rows, FrameCalendar(np.empty(0, np.int64), np.empty(0, np.int64)))
    names = ("open", "high", "low", "close", "volume")

    def run(event: np.ndarray, price: np.ndarray, size: np.ndarray) -> np.ndarray:
        usable = np.isfinite(price) & np.isfinite(size)  # others never reach a builder
        values = np.column_stack([price, size])[usable]
        bars, _ = builder.advance(builder.fresh(), event[usable], history.sequence[usable], event[usable], values)
        return np.column_stack([column_of(bars, name) for name in names])

    before = run(history.event_us, history.price, history.size)
    gone = np.arange(400) % 3 == 1
    changes = {
        "t.price": run(history.event_us, np.where(gone, np.nan, history.price), history.size),
        "t.size": run(history.event_us, history.price, np.where(gone, np.nan, history.size)),
        "t.event_timestamp": run(history.event_us + 30_000_000 * gone.cumsum(), history.price, history.size),
    }
    kernels = {key.name.rpartition(").")[2]: key for key in graph.nodes if ")." in key.name and key.kind == "kernel"}
    assert kernels.keys() == set(names)
    for column, after in changes.items():
        if isinstance(rows, TradedBars) and column == "t.event_timestamp":
            continue  # the order of trades is their times' doing, and stayed
        below = {name for name, key in kernels.items() if column in {each.name for each in above(graph, key)}}
        assert moved(before, after, names) == below == set(names), column


def test_longer_bars_and_frames_are_kernels_of_their_own() -> None:
    spec = FeatureViewSpec(
        "longer", 1, LongerBars("m", "XNYS", TimeFrame.parse("1h/session")),
        (_of("SMA", timeperiod=3), _of("OBV", frame="session")), 0,
    )  # fmt: skip
    graph = view_graph(spec)
    made = {key.name for key in graph.nodes if key.kind == "kernel"}
    assert made == {
        "longer@1/SMA(timeperiod=3)", "longer@1/OBV() of session",
        "longer@1/longer_bars(1h/session).close", "longer@1/longer_bars(1h/session).volume",
        "longer@1/frame(session).close", "longer@1/frame(session).volume",
    }  # fmt: skip
    assert columns_of(graph, "longer@1", "sma_3") == {"m.close", "m.event_timestamp", RATIO}
    assert columns_of(graph, "longer@1", "obv_session") == {"m.close", "m.volume", "m.event_timestamp", RATIO}
    for column in spec.columns:
        assert Key("calendar", "XNYS") in above_without_tables(graph, "longer@1", column)


CUSTOM = '''
from tapeline.indicators.custom import Expression, feature

@feature("desk.SPREAD", outputs={"spread": "price"}, source="here", bounds={"factor": (0.5, 9.0)})
def spread(high: Expression, low: Expression, factor: float = 1.0) -> Expression:
    """Range of a bar."""
    return (high - low) * factor
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    before = dict(specification._REGISTRY)
    (tmp_path / "lineage_desk.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("lineage_desk")
    yield "lineage_desk"
    specification._REGISTRY.clear()
    specification._REGISTRY.update(before)


def test_a_feature_of_ones_own_is_recorded_with_its_module_and_parameters(module: str) -> None:
    spec = FeatureViewSpec("own", 1, SessionBars("s", "XNYS"), (_of("desk.SPREAD"), _of("desk.SPREAD", factor=2.0)), 0)
    graph = view_graph(spec)
    kernels = {key.name: graph.nodes[key] for key in graph.nodes if key.kind == "kernel"}
    assert set(kernels) == {"own@1/desk.SPREAD(factor=1)", "own@1/desk.SPREAD(factor=2)"}
    assert {attributes["custom_module"] for attributes in kernels.values()} == {module}
    assert len({attributes["source_hash"] for attributes in kernels.values()}) == 2
    for column in spec.columns:
        assert columns_of(graph, "own@1", column) == {"s.high", "s.low", RATIO}


def test_a_kernel_of_code_that_is_gone_has_no_source_hash() -> None:
    spec = FeatureViewSpec("old", 1, SessionBars("s", "XNYS"), (_of("SMA", timeperiod=3),), 0)
    kernels = [a for key, a in view_graph(spec, plan_hash="0" * 64).nodes.items() if key.kind == "kernel"]
    assert [a["source_hash"] for a in kernels] == [None]
    kernels = [a for key, a in view_graph(spec, plan_hash=spec.plan.hash).nodes.items() if key.kind == "kernel"]
    assert [len(a["source_hash"]) for a in kernels] == [64]
