"""Predictions from the store and from live rows, against what batch gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tapeline.core.timestamps import MINUTE_US
from tapeline.storage.actions import actions_key
from tapeline.storage.keys import entity_key_sorted, view_prefix
from tapeline.storage.packed import Layout, encode_many
from tapeline.storage.state_codec import decode_state, encode_state, state_key
from tapeline_client import (
    Bar,
    ContinuityError,
    EntityStatus,
    FeatureStatus,
    InvalidRequestError,
    Origin,
    Prediction,
    ServerError,
    Trades,
)

from tests.serving import world
from tests.serving.conftest import Served

STORED = 58


def bar(history: world.BarHistory, i: int, **changes) -> Bar:
    whole = Bar(
        event_us=int(history.event_us[i]),
        **{name: float(history.columns[name][i]) for name in world.BARS},
        split_ratio=ratio if (ratio := float(history.columns["split_ratio"][i])) != 1.0 else None,
    )
    return dataclasses.replace(whole, **changes)


def trades(history: world.TradeHistory, first: int, last: int) -> Trades:
    part = slice(first, last)
    return Trades(history.event_us[part], history.sequence[part], history.price[part], history.size[part])


def values_of(prediction: Prediction, spec) -> np.ndarray:
    return np.array([prediction.features[f"{spec.name}:{name}"] for name in spec.plan.outputs])


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert a.tobytes() == np.ascontiguousarray(b).tobytes(), (a, b)


def issues_of(prediction: Prediction, spec) -> dict[str, FeatureStatus]:
    prefix = spec.name + ":"
    return {k.removeprefix(prefix): v for k, v in prediction.issues.items() if k.startswith(prefix)}


def test_stored_values_reach_the_model_as_they_are(served: Served) -> None:
    bars, ticks = world.bar_history(1, 60), world.trade_history(2, 900)
    world.put_bars(served.store, "tapeline", "AAA", bars, 60)
    world.put_bars(served.store, "tapeline", "BBB", bars, 59)
    world.put_trades(served.store, "tapeline", "AAA", ticks, 900)
    world.put_trades(served.store, "tapeline", "BBB", ticks, 800)
    second, first = served.client.predict(["BBB", "AAA"], include_features=True)
    assert (second.symbol, first.symbol) == ("BBB", "AAA")
    features, _ = bars.batch(world.DAILY, 60)
    assert_same_bits(values_of(first, world.DAILY), features[-1])
    assert_same_bits(values_of(second, world.DAILY), features[-2])
    intraday, _, _, made = ticks.batch(world.INTRADAY, 900, flush=False)
    assert_same_bits(values_of(first, world.INTRADAY), intraday[-1])
    assert first.status is EntityStatus.OK
    assert not first.partial
    assert not first.issues
    assert (first.model, first.version, first.bundle_sha256) == ("small", "1.0.0", served.bundle_sha256)
    assert first.request_us == world.NOW_US
    daily, minute = first.views
    assert (daily.view, daily.version, daily.origin) == ("daily_small", 1, Origin.STORE)
    assert daily.event_us == daily.available_us == int(bars.event_us[-1])
    assert daily.staleness_us == world.NOW_US - int(bars.event_us[-1])
    assert (minute.event_us, minute.sequence) == (int(made[-1, 1]), int(made[-1, 9]))
    # The linear test model, by hand: its weights over the vector, then the knots of its calibration.
    vector = np.array(list(first.features.values()))
    score = 1 / (1 + np.exp(-(vector @ np.linspace(-0.02, 0.03, 5) + 0.1)))
    assert first.outputs["score"] == pytest.approx(score, abs=1e-6)
    assert first.probability == pytest.approx(np.interp(score, [0.2, 0.5, 0.8], [0.4, 0.5, 0.6]), abs=1e-6)


@pytest.mark.parametrize("split_at", [None, STORED, STORED + 1])
@pytest.mark.parametrize("count", [1, 2])
def test_live_bars_give_what_batch_gives(served: Served, split_at: int | None, count: int) -> None:
    history = world.bar_history(4, 60, split_at=split_at)
    world.put_bars(served.store, "tapeline", "AAA", history, STORED)
    before = served.store.get(state_key("tapeline", world.DAILY.name, 1, "AAA"))
    rows = [bar(history, i, start_us=int(history.start_us[i])) for i in range(STORED, STORED + count)]
    [answer] = served.client.predict(["AAA"], live_bars={"AAA": rows}, include_features=True)
    expected, _ = history.batch(world.DAILY, STORED + count)
    assert_same_bits(values_of(answer, world.DAILY), expected[-1])
    daily = answer.views[0]
    assert (daily.origin, daily.event_us, daily.partial) == (Origin.LIVE, rows[-1].event_us, False)
    assert daily.available_us == world.NOW_US  # no bar said when it was published: now
    assert served.store.get(state_key("tapeline", world.DAILY.name, 1, "AAA")) == before


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("given", [None, 2.0])
def test_a_known_split_is_applied_without_being_named(served: Served, given: float | None, count: int) -> None:
    """It was published with the states: the caller may leave it out, or name the same ratio."""
    history = world.bar_history(4, 60, split_at=STORED)
    ex_date_us = int(history.start_us[STORED])
    world.put_bars(served.store, "tapeline", "AAA", history, STORED)
    world.put_split(served.store, "tapeline", "AAA", ex_date_us, 2.0, known_us=ex_date_us - 5)
    rows = [bar(history, i, split_ratio=given if i == STORED else None) for i in range(STORED, STORED + count)]
    [answer] = served.client.predict(["AAA"], live_bars={"AAA": rows}, include_features=True)
    expected, _ = history.batch(world.DAILY, STORED + count)
    assert_same_bits(values_of(answer, world.DAILY), expected[-1])


@pytest.mark.parametrize("given", [1.0, 0.5, 3.0])
def test_a_ratio_that_contradicts_a_known_split_is_refused(served: Served, given: float) -> None:
    history = world.bar_history(4, 60, split_at=STORED)
    ex_date_us = int(history.start_us[STORED])
    world.put_bars(served.store, "tapeline", "AAA", history, STORED)
    world.put_split(served.store, "tapeline", "AAA", ex_date_us, 2.0, known_us=ex_date_us)
    rows = [bar(history, STORED, split_ratio=given)]
    with pytest.raises(
        InvalidRequestError, match=r"split_ratio .* where a split of ratio 2\.0 is known.*bars of AAA, row 0"
    ):
        served.client.predict(["AAA"], live_bars={"AAA": rows})


@pytest.mark.parametrize(("known_at", "named_at"), [(STORED, STORED + 1), (STORED - 1, STORED)])
def test_a_known_split_named_on_another_bar_is_refused(served: Served, known_at: int, named_at: int) -> None:
    """Off by a day, whether the known one is among the live bars or in the state already: it must not count twice."""
    history = world.bar_history(4, 60, split_at=known_at)
    world.put_bars(served.store, "tapeline", "AAA", history, STORED)
    world.put_split(served.store, "tapeline", "AAA", int(history.start_us[known_at]), 2.0, known_us=1)
    rows = [bar(history, i, split_ratio=2.0 if i == named_at else None) for i in range(STORED, 60)]
    with pytest.raises(InvalidRequestError, match="that split is known to take effect at"):
        served.client.predict(["AAA"], live_bars={"AAA": rows})


def test_a_ratio_may_be_rounded(served: Served) -> None:
    history = world.bar_history(4, 60, split_at=STORED)
    world.put_bars(served.store, "tapeline", "AAA", history, STORED)
    world.put_split(served.store, "tapeline", "AAA", int(history.start_us[STORED]), 2.0, known_us=1)
    rows = [bar(history, STORED, split_ratio=2.0 + 1e-12)]
    [answer] = served.client.predict(["AAA"], live_bars={"AAA": rows}, include_features=True)
    expected, _ = history.batch(world.DAILY, STORED + 1)
    assert_same_bits(values_of(answer, world.DAILY), expected[-1])


def test_a_split_that_is_not_yet_known_is_not_applied(served: Served) -> None:
    history = world.bar_history(4, 60, split_at=STORED)
    world.put_bars(served.store, "tapeline", "AAA", history, STORED)
    world.put_split(served.store, "tapeline", "AAA", int(history.start_us[STORED]), 2.0, known_us=world.NOW_US + 1)
    rows = [bar(history, STORED, split_ratio=None)]
    [answer] = served.client.predict(["AAA"], live_bars={"AAA": rows}, include_features=True)
    history.columns["split_ratio"][:] = 1.0
    expected, _ = history.batch(world.DAILY, STORED + 1)
    assert_same_bits(values_of(answer, world.DAILY), expected[-1])


@pytest.mark.parametrize("bars_before", [1, 5])
def test_live_trades_are_adjusted_for_a_known_split(served: Served, bars_before: int) -> None:
    """Of a split inside the live trades, the first bar that ends after it carries the ratio."""
    plain = world.trade_history(6, 900)
    made, _ = plain.bars(900, flush=True)
    at_us = int(made[-bars_before, 0])  # start of a bar late in the trades
    history = dataclasses.replace(plain, split=(at_us, 4.0))
    world.put_trades(served.store, "tapeline", "ES", plain, 700)
    world.put_split(served.store, "tapeline", "ES", at_us, 4.0, known_us=at_us - 1)
    [answer] = served.client.predict(["ES"], live_trades={"ES": trades(plain, 700, 900)}, include_features=True)
    expected, _, _, _ = history.batch(world.INTRADAY, 900, flush=True)
    assert_same_bits(values_of(answer, world.INTRADAY), expected[-1])
    unadjusted, _, _, _ = plain.batch(world.INTRADAY, 900, flush=True)
    assert expected[-1].tobytes() != unadjusted[-1].tobytes()


def test_damaged_actions_are_refused(served: Served) -> None:
    history = world.bar_history(4, 60)
    world.put_bars(served.store, "tapeline", "AAA", history, STORED)
    served.store.set(actions_key("tapeline", "AAA"), b"rubbish")
    with pytest.raises(ServerError, match="corporate actions of AAA"):
        served.client.predict(["AAA"], live_bars={"AAA": [bar(history, STORED)]})


def test_an_unfinished_bar_is_marked_partial(served: Served) -> None:
    history = world.bar_history(5, 60)
    world.put_bars(served.store, "tapeline", "AAA", history, 59)
    half = int(history.start_us[59]) + 3600 * 1_000_000
    row = bar(history, 59, event_us=half, available_us=half + 5)
    [answer] = served.client.predict(["AAA"], live_bars={"AAA": [row]}, include_features=True)
    expected, _ = history.batch(world.DAILY, 60)
    assert_same_bits(values_of(answer, world.DAILY), expected[-1])
    assert answer.partial
    assert answer.views[0].partial
    assert (answer.views[0].event_us, answer.views[0].available_us) == (half, half + 5)


@pytest.mark.parametrize(("stored", "live"), [(800, 1), (800, 100), (637, 7), (420, 480), (899, 1)])
def test_live_trades_give_what_batch_gives_with_a_flush(served: Served, stored: int, live: int) -> None:
    history = world.trade_history(6, 900)
    world.put_trades(served.store, "tapeline", "ES", history, stored)
    [answer] = served.client.predict(
        ["ES"], live_trades={"ES": trades(history, stored, stored + live)}, include_features=True
    )
    expected, _, _, _ = history.batch(world.INTRADAY, stored + live, flush=True)
    assert_same_bits(values_of(answer, world.INTRADAY), expected[-1])
    minute = answer.views[1]
    assert (minute.origin, minute.partial, answer.partial) == (Origin.LIVE, True, True)
    assert minute.sequence == int(history.sequence[stored + live - 1])
    assert minute.event_us == int(history.event_us[stored + live - 1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(lambda h: [bar(h, STORED + 1)], "expected the session 2013-02-28", id="gap"),
        pytest.param(lambda h: [bar(h, STORED - 1)], "expected the session 2013-02-28", id="overlap"),
        pytest.param(
            lambda h: [bar(h, STORED), bar(h, STORED, event_us=int(h.event_us[STORED]) + 1)],
            "expected",
            id="not the close",
        ),
        pytest.param(
            lambda h: [bar(h, STORED, event_us=int(h.event_us[STORED]) - 1), bar(h, STORED + 1)],
            "expected",
            id="partial not last",
        ),
        pytest.param(lambda h: [bar(h, STORED, start_us=int(h.start_us[STORED]) + 1)], "a bar starts at", id="start"),
    ],
)
def test_bars_that_do_not_follow_are_refused(served: Served, rows, message: str) -> None:
    history = world.bar_history(7, 60)
    world.put_bars(served.store, "tapeline", "AAA", history, STORED)
    with pytest.raises(ContinuityError, match=message):
        served.client.predict(["AAA"], live_bars={"AAA": rows(history)})


@pytest.mark.parametrize(("first", "last"), [(801, 810), (799, 810)], ids=["gap", "overlap"])
def test_trades_that_do_not_follow_are_refused(served: Served, first: int, last: int) -> None:
    history = world.trade_history(8, 900)
    world.put_trades(served.store, "tapeline", "ES", history, 800)
    with pytest.raises(ContinuityError, match="where trade 900 was expected"):
        served.client.predict(["ES"], live_trades={"ES": trades(history, first, last)})


def test_hole_inside_live_trades_is_refused(served: Served) -> None:
    history = world.trade_history(8, 900)
    world.put_trades(served.store, "tapeline", "ES", history, 800)
    good = trades(history, 800, 810)
    sequence = np.array(good.sequence)
    sequence[5:] += 1
    with pytest.raises(ContinuityError, match="trade 906 where trade 905 was expected"):
        served.client.predict(["ES"], live_trades={"ES": dataclasses.replace(good, sequence=sequence)})


def put_value(
    served: Served, spec, symbol: str, values, event_us: int, available_us: int | None = None, nulls=None
) -> None:
    layout = Layout.of_floats(spec.name, spec.version, spec.plan.outputs)
    times = np.array([[event_us, 0, event_us if available_us is None else available_us, event_us]])
    [packed] = encode_many(layout, times, np.array([values]), nulls=nulls)
    served.store.set(view_prefix("tapeline", spec.name, 1) + entity_key_sorted([symbol]), packed)


NAN = float("nan")


def test_an_unknown_entity_gets_no_prediction_and_disturbs_nobody(served: Served) -> None:
    put_value(served, world.DAILY, "AAA", [1.0, 2.0, 3.0], world.NOW_US)
    known, unknown = served.client.predict(["AAA", "NOBODY"], include_features=True)
    assert known.status is EntityStatus.DEGRADED
    assert known.outputs
    assert unknown.status is EntityStatus.NO_FEATURES
    assert unknown.outputs == {}
    assert set(unknown.issues.values()) == {FeatureStatus.MISSING}
    assert len(unknown.issues) == 5
    assert np.isnan(list(unknown.features.values())).all()
    assert [use.origin for use in unknown.views] == [Origin.NONE, Origin.NONE]
    assert unknown.views[0].event_us is None


@pytest.mark.parametrize(
    ("age_us", "expected"), [(world.DAILY.ttl_us, None), (world.DAILY.ttl_us + 1, FeatureStatus.STALE)]
)
def test_time_to_live_is_that_of_the_point_in_time_rule(
    served: Served, age_us: int, expected: FeatureStatus | None
) -> None:
    put_value(served, world.DAILY, "AAA", [1.0, 2.0, 3.0], world.NOW_US - age_us)
    [answer] = served.client.predict(["AAA"], include_features=True)
    found = issues_of(answer, world.DAILY)
    assert found == ({} if expected is None else dict.fromkeys(world.DAILY.plan.outputs, expected))
    assert np.isnan(values_of(answer, world.DAILY)).all() == (expected is not None)


def test_a_value_of_the_clocks_future_is_hidden(served: Served) -> None:
    put_value(served, world.DAILY, "AAA", [1.0, 2.0, 3.0], world.NOW_US - 1, world.NOW_US + 1)
    [answer] = served.client.predict(["AAA"], include_features=True)
    assert set(issues_of(answer, world.DAILY).values()) == {FeatureStatus.NOT_YET_AVAILABLE}
    assert np.isnan(values_of(answer, world.DAILY)).all()


def test_a_state_that_knows_more_than_the_clock_is_not_continued(served: Served) -> None:
    """It holds a correction, say, that is published only after this moment."""
    history = world.bar_history(21, 60)
    world.put_bars(served.store, "tapeline", "AAA", history, STORED)
    key = state_key("tapeline", world.DAILY.name, 1, "AAA")
    state = decode_state(served.store.get(key), plan_hash=world.DAILY.plan.hash)
    live = {"AAA": [bar(history, STORED)]}
    for available_us, expected in ((world.NOW_US, set()), (world.NOW_US + 1, {FeatureStatus.NOT_YET_AVAILABLE})):
        served.store.set(key, encode_state(dataclasses.replace(state, available_us=available_us)))
        [answer] = served.client.predict(["AAA"], live_bars=live, include_features=True)
        assert set(issues_of(answer, world.DAILY).values()) == expected
        assert np.isnan(values_of(answer, world.DAILY)).all() == bool(expected)


def test_live_rows_that_are_too_old_are_stale(served: Served) -> None:
    history = world.bar_history(22, 60, last_us=world.NOW_US - 2 * world.DAILY.ttl_us)
    world.put_bars(served.store, "tapeline", "AAA", history, STORED)
    [answer] = served.client.predict(["AAA"], live_bars={"AAA": [bar(history, STORED)]}, include_features=True)
    assert set(issues_of(answer, world.DAILY).values()) == {FeatureStatus.STALE}
    assert np.isnan(values_of(answer, world.DAILY)).all()


def test_nulls_are_missing_and_nan_without_a_state_is_undefined(served: Served) -> None:
    put_value(served, world.DAILY, "AAA", [1.0, NAN, 0.0], world.NOW_US, nulls=np.array([[False, False, True]]))
    [answer] = served.client.predict(["AAA"])
    assert issues_of(answer, world.DAILY) == {"rsi_14": FeatureStatus.UNDEFINED, "obv": FeatureStatus.MISSING}


def test_warm_up_is_told_from_invalid_input(served: Served) -> None:
    """Ten rows warm SMA(5) up and RSI(14) not; then a bar without a price."""
    history = world.bar_history(11, 60)
    first = 60 - 12
    short = world.BarHistory(
        history.event_us[first:], history.start_us[first:], history.session[first:],
        {name: column[first:] for name, column in history.columns.items()},
    )  # fmt: skip
    world.put_bars(served.store, "tapeline", "NEW", short, 11)
    [stored] = served.client.predict(["NEW"])
    assert issues_of(stored, world.DAILY) == {"rsi_14": FeatureStatus.NOT_WARMED_UP}
    [live] = served.client.predict(["NEW"], live_bars={"NEW": [bar(short, 11)]})
    assert issues_of(live, world.DAILY) == {"rsi_14": FeatureStatus.NOT_WARMED_UP}
    [broken] = served.client.predict(["NEW"], live_bars={"NEW": [bar(short, 11, close=NAN)]})
    assert issues_of(broken, world.DAILY) == {
        "sma_5": FeatureStatus.INVALID_INPUT,
        "rsi_14": FeatureStatus.NOT_WARMED_UP,
        "obv": FeatureStatus.INVALID_INPUT,
    }
    short.columns["close"][11] = NAN
    world.put_bars(served.store, "tapeline", "NEW", short, 12)
    [stored] = served.client.predict(["NEW"])
    assert issues_of(stored, world.DAILY)["sma_5"] is FeatureStatus.INVALID_INPUT


def test_live_rows_without_a_state(served: Served) -> None:
    history = world.bar_history(12, 60)
    put_value(served, world.DAILY, "AAA", [1.0, 2.0, 3.0], world.NOW_US)
    [answer] = served.client.predict(["AAA"], live_bars={"AAA": [bar(history, 59)]})
    assert set(issues_of(answer, world.DAILY).values()) == {FeatureStatus.NO_STATE}


def test_damaged_and_foreign_values_are_errors(served: Served) -> None:
    put_value(served, world.DAILY, "AAA", [1.0, 2.0, 3.0], world.NOW_US)
    key = view_prefix("tapeline", world.DAILY.name, 1) + entity_key_sorted(["AAA"])
    packed = served.store.get(key)
    for damage in (packed[:-8], b"\x00" + packed[1:], packed[:4] + b"otherone" + packed[12:]):
        served.store.set(key, damage)
        with pytest.raises(ServerError) as caught:
            served.client.predict(["AAA"])
        assert caught.value.code == "DATA_LOSS"
    history = world.bar_history(13, 60)
    world.put_bars(served.store, "tapeline", "AAA", history, 59)
    key = state_key("tapeline", world.DAILY.name, 1, "AAA")
    state = bytearray(served.store.get(key))
    state[-10] ^= 1
    served.store.set(key, bytes(state))
    with pytest.raises(ServerError, match="damaged"):
        served.client.predict(["AAA"], live_bars={"AAA": [bar(history, 59)]})


def test_concurrent_requests_do_not_mix(served: Served) -> None:
    """Requests whose replies and model runs are batched get their own numbers back."""
    from concurrent.futures import ThreadPoolExecutor

    symbols = [f"S{i}" for i in range(40)]
    for i, symbol in enumerate(symbols):
        put_value(served, world.DAILY, symbol, [float(i), 50.0, -float(i)], world.NOW_US - MINUTE_US * i)

    def ask(i: int) -> None:
        group = symbols[i % 40 : i % 40 + 1 + i % 3]
        for answer in served.client.predict(group, include_features=True):
            number = int(answer.symbol[1:])
            assert answer.features["daily_small:sma_5"] == float(number)
            assert answer.views[0].event_us == world.NOW_US - MINUTE_US * number
            expected = 1 / (1 + np.exp(-(number * -0.02 + 50.0 * -0.0075 + -number * 0.005 + 0.1)))
            assert answer.outputs["score"] == pytest.approx(expected, abs=1e-5)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(400)))
