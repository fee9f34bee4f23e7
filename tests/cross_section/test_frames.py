from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.stats
from tapeline.core.errors import InvalidDataError, NaiveTimestampError, ParameterError, UnknownNameError
from tapeline.core.timestamps import to_us
from tapeline.cross_section import Listing, Universe, cross_section

from tests.cross_section.market import returns

FEATURES = (
    "rank", "rank:group", "percent_rank", "z_score", "z_score:group", "mean", "mean:group", "count", "count:group",
    "breadth", "breadth:group", "breadth:universe:0.01", "net_breadth", "beta:60:index", "correlation:60:index",
    "beta:20", "correlation:20:group", "beta:60:group",
)  # fmt: skip


@pytest.fixture(scope="module")
def computed():
    return cross_section(returns(), FEATURES, group="group", index="index")


def by_pandas(frame):
    table = frame.to_pandas()
    table["value"] = table["value"].replace([np.inf, -np.inf], np.nan)
    return table, table.groupby("event_timestamp")["value"], table.groupby(["event_timestamp", "group"])["value"]


def z(x):
    if len(set(x[~np.isnan(x)])) < 2:
        return np.full(len(x), np.nan)
    return scipy.stats.zscore(x, ddof=1, nan_policy="omit")


def close_to(got, expected, tolerance=1e-9):
    np.testing.assert_allclose(got.cast(pl.Float64).fill_null(np.nan), expected, rtol=tolerance, atol=1e-13)


def test_against_pandas_and_scipy(computed):
    table, every, grouped = by_pandas(computed)
    present = table["value"].notna()
    for suffix, part in (("universe", every), ("group", grouped)):
        close_to(computed[f"rank_{suffix}"], part.rank())
        close_to(computed[f"mean_{suffix}"], part.transform("mean").where(present))
        close_to(computed[f"count_{suffix}"], part.transform("count").where(present))
        close_to(computed[f"z_score_{suffix}"], part.transform(lambda x: z(x.to_numpy())))
        close_to(
            computed[f"breadth_{suffix}"], part.transform(lambda x: (x > 0).sum() / max(x.count(), 1)).where(present)
        )
    close_to(computed["percent_rank_universe"], every.rank(pct=True))
    close_to(
        computed["breadth_universe_0p01"],
        every.transform(lambda x: (x > 0.01).sum() / max(x.count(), 1)).where(present),
    )
    net = every.transform(lambda x: ((x > 0).sum() - (x < 0).sum()) / max(x.count(), 1))
    close_to(computed["net_breadth_universe"], net.where(present))


def test_beta_and_correlation_against_pandas_windows(computed):
    table, every, grouped = by_pandas(computed)
    table["universe"], table["own"] = every.transform("mean"), grouped.transform("mean")
    table = table.sort_values("event_timestamp")
    for column, reference, n in (
        ("beta_60_index", "index", 60), ("correlation_60_index", "index", 60), ("beta_20_universe", "universe", 20),
        ("correlation_20_group", "own", 20), ("beta_60_group", "own", 60),
    ):  # fmt: skip
        checked = 0
        for _, rows in table.groupby("symbol"):
            both = rows[rows["value"].notna() & rows[reference].notna()]
            x, y = both["value"].to_numpy(), both[reference].to_numpy()
            for last in range(n, len(both) + 1, 7):  # a plain loop over whole windows
                own, whole = x[last - n : last], y[last - n : last]
                line = scipy.stats.linregress(whole, own)
                got = both[column].iloc[last - 1]
                assert got == pytest.approx(
                    line.slope if column.startswith("beta") else line.rvalue, rel=1e-9, abs=1e-12
                )
                checked += 1
            assert both[column].iloc[: n - 1].isna().all()
        assert checked > 500


def test_rows_keep_their_order_and_arrow_stays_arrow(computed):
    frame = returns()
    assert computed.select(frame.columns).equals(frame)
    table = cross_section(frame.to_arrow(), ["rank"])
    assert isinstance(table, pa.Table)
    assert pl.DataFrame(pl.from_arrow(table))["rank_universe"].equals(computed["rank_universe"])


def test_no_survivorship_and_no_zombies():
    """A symbol counts in the past it was alive in, and a stale row after its delisting counts nowhere."""
    days = [f"2012-01-0{day}T21:00:00+00:00" for day in (3, 4, 5)]
    frame = pl.DataFrame(
        {
            "symbol": ["A", "B", "A", "B", "A", "B"],
            "event_timestamp": [day for day in days for _ in range(2)],
            "value": [1.0, 2.0, 2.0, 1.0, 1.0, 9.0],
        }
    ).with_columns(pl.col("event_timestamp").str.to_datetime(time_unit="us", time_zone="UTC"))
    begin = to_us("2000-01-01T00:00:00+00:00")
    dead = Universe((Listing(begin, "A"), Listing(begin, "B", to_us(days[1]))))
    got = cross_section(frame, ["rank", "count"], universe=dead)
    assert got["rank_universe"].to_list() == [1.0, 2.0, 2.0, 1.0, 1.0, None]
    assert got["count_universe"].to_list() == [2.0, 2.0, 2.0, 2.0, 1.0, None]
    survivors = cross_section(frame.filter(pl.col("symbol") == "A"), ["rank"])
    assert survivors["rank_universe"].to_list() != got.filter(pl.col("symbol") == "A")["rank_universe"].to_list()


def test_a_ticker_that_is_used_again_begins_afresh():
    moments = pd.date_range("2012-01-01", periods=40, freq="D", tz="UTC")
    random = np.random.default_rng(0)
    frame = pl.DataFrame({"symbol": ["A"] * 40, "event_timestamp": moments, "value": random.normal(size=40),
                          "index": random.normal(size=40)}).with_columns(pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")))  # fmt: skip
    at = [int(one.timestamp() * 1e6) for one in moments]
    twice = Universe((Listing(at[0], "A", at[19]), Listing(at[20], "A")))
    got = cross_section(frame, ["beta:10:index"], index="index", universe=twice)["beta_10_index"]
    assert got.is_null().to_list() == ([True] * 9 + [False] * 11) * 2


def test_availability_is_the_latest_of_the_moment_and_of_those_before():
    frame = returns().head(200)
    lag = pl.duration(minutes=pl.int_range(pl.len()) % 7)
    frame = frame.with_columns((pl.col("event_timestamp") + lag).alias("known"))
    got = cross_section(frame, ["rank"], available="known").sort("event_timestamp")
    latest = frame.group_by("event_timestamp").agg(pl.col("known").max()).sort("event_timestamp")
    expected = latest.with_columns(pl.col("known").cum_max())
    assert got.select("event_timestamp", "known").equals(got.select("event_timestamp").join(expected, on="event_timestamp", how="left", maintain_order="left"))  # fmt: skip
    assert (got["known"] >= got["event_timestamp"]).all()


@pytest.mark.parametrize(
    ("change", "options", "error", "match"),
    [
        (lambda f: pl.concat([f, f.head(1)]), {}, InvalidDataError, "two rows at one moment"),
        (lambda f: f.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)), {}, NaiveTimestampError, "time zone"),
        (lambda f: f, {"value": "valeu"}, UnknownNameError, "Did you mean value"),
        (lambda f: f, {"features": ["z_scor"]}, UnknownNameError, "Did you mean z_score"),
        (lambda f: f, {"features": ["rank:group"]}, ParameterError, "group="),
        (lambda f: f, {"features": ["beta:60:index"]}, ParameterError, "index="),
        (lambda f: f, {"features": ["beta"]}, ParameterError, "Write it like"),
        (lambda f: f, {"features": ["beta:1"]}, ParameterError, "from 2"),
        (lambda f: f, {"features": ["rank:index"]}, ParameterError, "not an index"),
        (lambda f: f, {"features": ["rank", "rank"]}, ParameterError, "once"),
        (lambda f: f.with_columns(rank_universe=1.0), {}, ParameterError, "already"),
        (lambda f: f.with_columns(value=pl.lit("x")), {}, InvalidDataError, "not a number"),
        (lambda f: f.with_columns(index=pl.int_range(pl.len()).cast(pl.Float64)),
         {"features": ["beta:60:index"], "index": "index"}, InvalidDataError, "the index has values"),
        (lambda f: f, {"universe": Universe((Listing(0, "AAPLE"),))}, UnknownNameError, "AAPLE"),
    ],
)  # fmt: skip
def test_bad_input(change, options, error, match):
    arguments = {"features": ["rank"]} | options
    with pytest.raises(error, match=match):
        cross_section(change(returns().head(500)), **arguments)


def test_listings_that_overlap_are_refused():
    with pytest.raises(InvalidDataError, match="overlap"):
        Universe((Listing(0, "A", 10), Listing(5, "A", 20)))
    with pytest.raises(InvalidDataError, match="ends before"):
        Universe((Listing(5, "A", 3),))


def test_an_empty_frame_gives_empty_columns():
    assert cross_section(returns().head(0), ["rank", "beta:5"]).columns[-2:] == ["rank_universe", "beta_5_universe"]
