from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import ContinuityError, IntegrityError, LineageError, OutOfOrderError, ParameterError
from tapeline.cross_section import CrossSection, Listing, Universe

FEATURES = (
    "rank",
    "z_score:group",
    "percent_rank:group",
    "net_breadth",
    "mean",
    "beta:5",
    "correlation:5:group",
    "beta:8:index",
)
LISTINGS = 7


def universe(count=LISTINGS):
    return Universe(tuple(Listing(number, f"S{number}") for number in range(count)))


ENGINE = CrossSection(FEATURES, universe())


def market(seed=0, moments=60, listings=LISTINGS, scale=1.0):
    """Rows of a random market: listings come and go, values are missing, tie and are infinite, groups change."""
    random = np.random.default_rng(seed)
    alive = random.random((moments, listings)) < 0.8
    values = np.round(random.normal(size=(moments, listings)), 1) * scale
    values[random.random(values.shape) < 0.1] = np.nan
    values[random.random(values.shape) < 0.02] = np.inf
    groups = random.integers(-1, 3, size=(moments, listings))
    index = np.where(random.random(moments) < 0.1, np.nan, random.normal(size=moments)) * scale
    which, column = np.nonzero(alive)
    offsets = np.searchsorted(which, np.arange(moments + 1))
    return {
        "event_us": np.arange(moments) * 10 + 5, "offsets": offsets, "columns": column, "values": values[alive],
        "groups": groups[alive], "index": index, "available_us": np.arange(moments) * 10 + random.integers(5, 90, moments),
    }  # fmt: skip


def streamed(engine, m, state, first=0, last=None):
    parts = [np.empty((0, len(engine.outputs)))]
    for moment in range(first, len(m["event_us"]) if last is None else last):
        rows = slice(m["offsets"][moment], m["offsets"][moment + 1])
        parts.append(
            engine.update(
                state, int(m["event_us"][moment]), m["columns"][rows], m["values"][rows], m["groups"][rows],
                float(m["index"][moment]), available_us=int(m["available_us"][moment]),
            )
        )  # fmt: skip
    return np.concatenate(parts)


def head(m, moments):
    rows = m["offsets"][moments]
    cut = {name: m[name][:moments] for name in ("event_us", "index", "available_us")}
    return cut | {"offsets": m["offsets"][: moments + 1]} | {n: m[n][:rows] for n in ("columns", "values", "groups")}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 60), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_batch_is_stream_is_restored_is_prefix(seed, cut, scale):
    m = market(seed, scale=scale)
    whole, available, end = ENGINE.batch(**m)
    state = ENGINE.new_state()
    np.testing.assert_array_equal(streamed(ENGINE, m, state), whole)
    np.testing.assert_array_equal(state.view(np.int64), end.view(np.int64))
    np.testing.assert_array_equal(available, np.maximum.accumulate(m["available_us"]))
    part, _, middle = ENGINE.batch(**head(m, cut))
    np.testing.assert_array_equal(part, whole[: m["offsets"][cut]])
    restored = ENGINE.restore(ENGINE.save(middle))
    np.testing.assert_array_equal(streamed(ENGINE, m, restored, first=cut), whole[m["offsets"][cut] :])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_missing_value_is_as_no_row_at_all(seed, missing):
    m = market(seed)
    random = np.random.default_rng(seed)
    hide = random.random(len(m["values"])) < 0.3
    hidden = m | {"values": np.where(hide, missing, m["values"])}
    moment = np.repeat(np.arange(60), np.diff(m["offsets"]))[~hide]
    gone = m | {name: m[name][~hide] for name in ("columns", "values", "groups")}
    gone["offsets"] = np.searchsorted(moment, np.arange(61))
    with_rows, without = ENGINE.batch(**hidden)[0], ENGINE.batch(**gone)[0]
    np.testing.assert_array_equal(with_rows[~hide], without)
    assert np.isnan(with_rows[hide]).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_universe_that_grows_changes_nothing(seed):
    """What is known of later listings does not reach back: columns are added, and states carried over."""
    m = market(seed)
    whole, _, _ = ENGINE.batch(**m)
    larger = CrossSection(
        FEATURES, Universe((*ENGINE.universe.listings, Listing(-3, "old"), Listing(3, "also"), Listing(99, "new")))
    )
    places = np.array([larger.universe.listings.index(one) for one in ENGINE.universe.listings])
    moved = m | {"columns": places[m["columns"]]}
    np.testing.assert_array_equal(larger.batch(**moved)[0], whole)
    _, _, state = ENGINE.batch(**head(m, 30))
    carried = larger.carry(state, ENGINE)
    np.testing.assert_array_equal(streamed(larger, moved, carried, first=30), whole[m["offsets"][30] :])
    back = ENGINE.carry(larger.carry(state, ENGINE), larger)
    np.testing.assert_array_equal(back, state)


def test_scales_are_equally_accurate():
    base = ENGINE.batch(**market(3))[0]
    for power in (-20, 20):  # about 1e-6 and 1e6, by powers of two, so that equality is exact
        m = market(3, scale=2.0**power)
        got = ENGINE.batch(**m)[0]
        got[:, ENGINE.outputs.index("mean_universe")] /= 2.0**power
        np.testing.assert_array_equal(got, base)


def test_constant_values_have_no_score_and_no_beta():
    moments, listings = 30, 5
    m = {"event_us": np.arange(moments), "offsets": np.arange(moments + 1) * listings,
         "columns": np.tile(np.arange(listings), moments), "values": np.full(moments * listings, 0.1),
         "groups": np.zeros(moments * listings, int), "index": np.full(moments, 0.3)}  # fmt: skip
    got = dict(zip(ENGINE.outputs, ENGINE.batch(**m)[0].T, strict=True))
    assert (got["rank_universe"] == 3.0).all()
    assert (got["mean_universe"] == 0.1).all()
    for name in ("z_score_group", "beta_5_universe", "correlation_5_group", "beta_8_index"):
        assert np.isnan(got[name]).all()


def test_one_row_is_its_own_universe():
    got = ENGINE.update(ENGINE.new_state(), 1, np.array([2]), np.array([5.0]), np.array([0]), 1.0)[0]
    found = dict(zip(ENGINE.outputs, got, strict=True))
    assert (found["rank_universe"], found["percent_rank_group"], found["mean_universe"]) == (1.0, 1.0, 5.0)
    assert np.isnan(found["z_score_group"])
    assert ENGINE.update(ENGINE.new_state(), 1, np.empty(0, int), np.empty(0)).shape == (0, len(FEATURES))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1e4, 1e6, 1e9, 1e12])
def test_an_outlier_leaves_no_trace(size, seed):
    """Sums that are only ever updated would keep about 1e-16 of its square for ever."""
    engine = CrossSection(["beta:20:index", "correlation:20:index"], universe(1))
    random = np.random.default_rng(seed)
    values, index = random.normal(size=150), random.normal(size=150)
    values[60], index[60] = size, -size
    got = engine.batch(np.arange(150), np.arange(151), np.zeros(150, int), values, None, index)[0]
    for last in range(81, 151):
        x, y = values[last - 20 : last], index[last - 20 : last]
        expected = np.cov(x, y)[0, 1] / np.var(y, ddof=1), np.corrcoef(x, y)[0, 1]
        np.testing.assert_allclose(got[last - 1], expected, rtol=1e-9)


def test_a_long_run_does_not_drift():
    engine = CrossSection(["beta:50:index", "correlation:50:index"], universe(1))
    random = np.random.default_rng(2)
    values, index = 1e6 + random.normal(size=100_000), 1e6 + random.normal(size=100_000)
    got = engine.batch(np.arange(100_000), np.arange(100_001), np.zeros(100_000, int), values, None, index)[0][-1]
    x, y = values[-50:] - 1e6, index[-50:] - 1e6
    np.testing.assert_allclose(got, (np.cov(x, y)[0, 1] / np.var(y, ddof=1), np.corrcoef(x, y)[0, 1]), rtol=1e-9)


def test_what_is_refused():
    state = ENGINE.new_state()
    ENGINE.update(state, 10, np.array([0, 3]), np.array([1.0, 2.0]))
    before = state.copy()
    for arguments, error, match in (
        ((10, np.array([0]), np.array([1.0])), ContinuityError, "does not come after"),
        ((11, np.array([3, 0]), np.array([1.0, 1.0])), ParameterError, "must rise"),
        ((11, np.array([0, 0]), np.array([1.0, 1.0])), ParameterError, "must rise"),
        ((11, np.array([LISTINGS]), np.array([1.0])), ParameterError, "universe"),
        ((11, np.array([0]), np.array([1.0]), np.array([-2])), ParameterError, "group"),
        ((11, np.array([0]), np.array([1.0, 2.0])), ParameterError, "equally long"),
    ):
        with pytest.raises(error, match=match):
            ENGINE.update(state, *arguments)
        np.testing.assert_array_equal(state, before)
    with pytest.raises(ParameterError, match="float64 of shape"):
        ENGINE.update(np.zeros(3), 1, np.array([0]), np.array([1.0]))
    with pytest.raises(OutOfOrderError, match="moment 1"):
        ENGINE.batch(np.array([5, 5]), np.array([0, 1, 2]), np.array([0, 0]), np.ones(2))
    saved = ENGINE.save(state)
    with pytest.raises(IntegrityError, match="another"):
        CrossSection(FEATURES, universe(8)).restore(saved)
    with pytest.raises(IntegrityError, match="another"):
        CrossSection(["rank"], universe()).restore(saved)
    with pytest.raises(IntegrityError, match="damaged"):
        ENGINE.restore(saved[:-1] + bytes([saved[-1] ^ 1]))
    with pytest.raises(LineageError, match="other features"):
        CrossSection(["rank"], universe()).carry(state, ENGINE)
