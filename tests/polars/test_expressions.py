"""Features as Polars expressions equal the plan's own batch, however rows are laid out, lazy or eager."""

from __future__ import annotations

import inspect
import io
import os
import re
import subprocess
import sys
import typing
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tapeline.polars as tl
from bokeh_sampledata.stocks import GOOG, MSFT
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.exceptions import ColumnNotFoundError
from tapeline.core.errors import InvalidDataError, OutOfOrderError, ParameterError
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import Indicator, all_indicators
from tapeline.polars.functions import function_name, signature_of

from tests.indicators.market import compute, everything, goog

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "polars.md").read_text(encoding="utf-8")
ENGINES: tuple[typing.Literal["in-memory", "streaming"], ...] = ("in-memory", "streaming")


@cache
def bars() -> pl.DataFrame:
    """Two symbols, one after the other, 600 days each."""
    frames = [
        pl.DataFrame({name: stock[name][-600:] for name in ("date", "open", "high", "low", "close", "volume")})
        .with_columns(pl.col("date").str.to_date(), symbol=pl.lit(symbol))
        for symbol, stock in (("GOOG", GOOG), ("MSFT", MSFT))
    ]  # fmt: skip
    return pl.concat(frames)


@cache
def wanted() -> pl.DataFrame:
    """The plan's own results."""
    plan = FeaturePlan.of([FeatureRequest("RSI"), FeatureRequest("MACD")])
    parts = []
    for symbol in ("GOOG", "MSFT"):
        frame = bars().filter(pl.col("symbol") == symbol)
        rows = np.column_stack([frame["close"].to_numpy(), np.ones(len(frame))])
        at = np.arange(len(frame))
        features, _ = plan.batch(at, at, at, np.ascontiguousarray(rows), np.array([0, len(frame)]))
        parts.append(pl.DataFrame(features, schema=list(plan.outputs), orient="row"))
    return pl.concat(parts)


def both(**over: typing.Any) -> list[pl.Expr]:
    return [tl.rsi(14).over("symbol", **over), tl.macd().over("symbol", **over)]


def same(frame: pl.DataFrame) -> bool:
    return frame.sort("symbol", "date").select(wanted().columns).equals(wanted())


def test_eager_lazy_and_streaming_equal_the_plan_bit_for_bit() -> None:
    assert same(bars().with_columns(both()))
    assert all(same(bars().lazy().with_columns(both()).collect(engine=engine)) for engine in ENGINES)
    assert same(bars().with_columns(tl.fuse(tl.rsi(), tl.macd()).over("symbol")))
    lazy = bars().lazy().with_columns(both())
    assert lazy.collect_schema() == lazy.collect().schema
    assert lazy.collect_schema()["rsi_14"] == pl.Float64


def test_rows_of_symbols_may_be_mixed() -> None:
    assert same(bars().sort("date", "symbol").with_columns(both()))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), engine=st.sampled_from(ENGINES))
def test_order_by_computes_in_order_and_puts_values_back(seed: int, engine: typing.Any) -> None:
    shuffled = bars().sample(fraction=1.0, shuffle=True, seed=seed)
    assert same(shuffled.lazy().with_columns(both(order_by="date")).collect(engine=engine))


def test_order_by_may_go_down_and_need_no_groups() -> None:
    one = bars().filter(pl.col("symbol") == "GOOG")
    ages = one.with_columns(age=-pl.col("date").to_physical()).sample(fraction=1.0, shuffle=True, seed=1)
    found = ages.with_columns(tl.rsi(14, time=None).over(order_by="age", descending=True)).sort("date")
    assert found["rsi_14"].equals(wanted()["rsi_14"][:600])


def test_without_groups_all_rows_are_one() -> None:
    one = bars().filter(pl.col("symbol") == "GOOG")
    assert one.select(tl.rsi(14), tl.macd()).equals(wanted()[:600])


def test_expressions_go_on_and_groups_of_polars_itself_agree() -> None:
    derived = bars().select(x=(tl.rsi(14) / 100.0).over("symbol"))["x"]
    assert derived.equals((wanted()["rsi_14"] / 100.0).alias("x"))
    grouped = bars().group_by("symbol", maintain_order=True).agg(tl.rsi(14).last())
    assert grouped["rsi_14"].to_list() == [wanted()["rsi_14"][599], wanted()["rsi_14"][1199]]
    assert bars().select(tl.macd().over("symbol").name.prefix("my_")).columns[0] == "my_macd_12_26_9"
    packed = bars().select(pl.struct(tl.macd().over("symbol")).alias("macd"))
    assert packed.unnest("macd").equals(wanted().drop("rsi_14"))


def test_a_lazy_plan_survives_serialisation() -> None:
    lazy = bars().lazy().with_columns(both())
    again = pl.LazyFrame.deserialize(io.BytesIO(lazy.serialize()))
    assert same(again.collect())


def test_inputs_may_have_other_names_and_be_expressions() -> None:
    renamed = bars().rename({"close": "px"})
    assert renamed.select(tl.rsi(close="px").over("symbol"))["rsi_14"].equals(wanted()["rsi_14"])
    scaled = renamed.select(tl.rsi(close=pl.col("px") * 4.0).over("symbol"))["rsi_14"]
    assert scaled.equals(wanted()["rsi_14"])
    whole = bars().with_columns(pl.col("volume").cast(pl.Int32))
    assert whole.select(tl.obv().over("symbol")).equals(bars().select(tl.obv().over("symbol")))


def test_null_is_nan_and_the_row_counts_as_absent() -> None:
    frame = bars()[:600]
    bad = pl.int_range(pl.len()).is_in([5, 100])
    found = frame.select(tl.rsi(close=pl.when(bad).then(None).otherwise("close")))["rsi_14"]
    assert found.null_count() == 0
    assert found.gather([5, 100]).is_nan().all()
    without = frame.filter(~bad).select(tl.rsi())["rsi_14"]
    kept = pl.Series("rsi_14", np.delete(found.to_numpy(), [5, 100]))
    assert kept.equals(without)


def test_splits_make_no_jump() -> None:
    frame = bars()[:600]
    late = pl.int_range(pl.len()) >= 300
    split = frame.with_columns(
        close=pl.when(late).then(pl.col("close") / 2.0).otherwise("close"),
        ratio=pl.when(pl.int_range(pl.len()) == 300).then(2.0).otherwise(1.0),
    )
    assert split.select(tl.rsi(split_ratio="ratio"))["rsi_14"].equals(wanted()["rsi_14"][:600])
    assert not split.select(tl.rsi())["rsi_14"].equals(wanted()["rsi_14"][:600])


def test_ticks_read_the_rows_time() -> None:
    frame = pl.DataFrame({"time": [1, 2, 3], "bid": [9.0, None, 9.0], "ask": [11.0, None, 13.0]})
    assert frame.select(tl.quoted_spread(time="time"))["quoted_spread"].to_list() == [0.2, 0.2, 4.0 / 11.0]


def test_an_empty_frame_and_a_single_row_keep_the_schema() -> None:
    for count in (0, 1):
        found = bars()[:count].with_columns(both())
        assert found.columns[-4:] == wanted().columns
        assert found["rsi_14"].is_nan().all()


@pytest.mark.parametrize(
    ("expression", "error", "told"),
    [
        (lambda: tl.rsi(14), OutOfOrderError, r"2010-10-12 comes after 2013-03-01 \(row 600, column date\).*over\('symbol'\)"),
        (lambda: tl.rsi(14, close="symbol").over("symbol"), InvalidDataError, "column close holds String"),
        (lambda: tl.rsi(14, close="nowhere").over("symbol"), ColumnNotFoundError, "nowhere"),
        (lambda: tl.rsi(14, time="symbol").over("symbol"), InvalidDataError, "time column symbol holds String"),
        (lambda: tl.rsi(14, time=pl.lit(None, pl.Date)).over("symbol"), InvalidDataError, "1200 rows have no time"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_refused(expression, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        bars().with_columns(expression())
    with pytest.raises(error, match=told):
        bars().lazy().with_columns(expression()).collect()


def test_the_symbol_of_an_unsorted_row_is_named() -> None:
    shuffled = pl.concat([bars()[:600], bars()[600:].reverse()])
    with pytest.raises(OutOfOrderError, match="group 'MSFT', row 601, column date"):
        shuffled.with_columns(tl.rsi(14).over("symbol"))


def test_several_time_columns_need_a_choice() -> None:
    two = bars().with_columns(known=pl.col("date").cast(pl.Datetime("us")))
    with pytest.raises(ParameterError, match="several time columns: date, known"):
        two.with_columns(tl.rsi(14).over("symbol"))
    assert same(two.with_columns(tl.rsi(14, time="date").over("symbol"), tl.macd(time=None).over("symbol")))
    assert same(two.rename({"known": "event_timestamp"}).with_columns(both()))


@pytest.mark.parametrize(
    ("made", "error", "told"),
    [
        (lambda: tl.rsi(1), ParameterError, "from 2 to 10000"),
        (lambda: tl.rsi(14, 3), TypeError, r"rsi\(\) too many positional"),
        (lambda: tl.rsi(period=14), TypeError, r"rsi\(\) .*period"),
        (lambda: tl.rsii(14), AttributeError, "Did you mean rsi"),
        (tl.fuse, ParameterError, "only features"),
        (lambda: tl.fuse(tl.rsi(), tl.rsi() / 2), ParameterError, "Fuse first"),
        (lambda: tl.fuse(tl.rsi(), tl.macd(close="c")), ParameterError, "read close from different"),
        (lambda: tl.fuse(tl.rsi(), tl.macd().over("symbol")), ParameterError, "differ in their groups"),
        (lambda: tl.fuse(tl.rsi(), tl.macd(time=None)), ParameterError, "differ in their groups"),
        (lambda: tl.fuse(tl.rsi(), tl.rsi()), ParameterError, "twice"),
        (lambda: tl.rsi().over("symbol").over("date"), ParameterError, "groups already"),
        (lambda: tl.rsi().over("symbol", mapping_strategy="join"), ParameterError, "mapping_strategy"),
        (lambda: tl.rsi().over(5), ParameterError, "5 is no column"),
    ],
)
def test_expressions_that_make_no_sense_are_refused_where_written(made, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        made()


def test_fused_features_may_read_unlike_inputs() -> None:
    fused = tl.fuse(
        tl.atr(close=pl.col("close") * 1.0), tl.rsi(close=pl.col("close") * 1.0), tl.obv(close=pl.col("close") * 1.0)
    )
    found = bars().select(fused.over("symbol"))
    alone = bars().select(tl.atr().over("symbol"), tl.rsi().over("symbol"), tl.obv().over("symbol"))
    assert found.equals(alone)


def test_one_result_serves_all_outputs_of_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    batch = FeaturePlan.batch
    monkeypatch.setattr(FeaturePlan, "batch", lambda plan, *a, **k: (calls.append(plan), batch(plan, *a, **k))[1])
    lazy = bars().lazy().with_columns(tl.macd().over("symbol"))
    for engine in ENGINES:
        calls.clear()
        lazy.collect(engine=engine)
        assert len(calls) == 1


@pytest.mark.parametrize("indicator", all_indicators(), ids=lambda indicator: indicator.name)
def test_every_feature_has_a_function_with_signature_and_help(indicator: Indicator) -> None:
    function = getattr(tl, function_name(indicator))
    assert function_name(indicator) in dir(tl)
    signature = inspect.signature(function)
    assert signature == signature_of(indicator)
    defaults = {name: p.default for name, p in signature.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert defaults == indicator.complete({})
    assert indicator.summary in function.__doc__
    assert all(column in function.__doc__ for column in indicator.columns({}))
    assert function().requests[0].columns == indicator.columns({})
    assert not {"split_ratio", "time"} & {p.name for p in indicator.parameters}


def test_every_feature_of_bars_computes_what_its_plan_computes() -> None:
    plan, columns = everything(), goog()
    frame = pl.DataFrame(columns)
    fused = tl.fuse(*(getattr(tl, function_name(request.indicator))() for request in plan.requests))
    found = frame.select(fused)
    assert found.columns == list(plan.outputs)
    assert np.array_equal(found.to_numpy(), compute(plan, columns), equal_nan=True)


def test_without_polars_the_extra_is_named() -> None:
    code = "import sys; sys.modules['polars'] = None; import tapeline.polars"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "MissingExtraError: polars is not installed. Install it with: pip install 'tapeline[feast]'" in done.stderr


def test_the_page_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, typing.Any] = {"bars": bars()}
    for block in blocks:
        exec(block, names)
    assert {"rsi_14", "slow", "natr_14"} <= set(names["wide"].columns)
    inline = re.findall(r"`([^`]*tl\.[a-z_]+\([^`]*)`", PAGE.replace("```python", "").replace("```console", ""))
    assert len(inline) >= 5
    frame = bars().with_columns(h="high", l="low", c="close")
    for text in inline:
        made = (
            eval(text, names | {"pl": pl, "tl": tl, "bars": frame})
            if text.startswith(("tl.", "pl.", "bars."))
            else None
        )
        if isinstance(made, pl.Expr):
            frame.filter(pl.col("symbol") == "GOOG").select(made)
