from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.compute.sessions import SessionTimes
from tapeline.core.errors import EmptyDataError, ParameterError, UnknownNameError
from tapeline.core.timestamps import HOUR_US, MINUTE_US, to_us
from tapeline.datasets.labels import MISSING_US, LabelSpec, compute_labels
from tapeline.datasets.prices import Prices, Splits, read_prices
from tapeline.storage.raw import append_rows

from tests.datasets.market import sessions_from

DAY = 24 * HOUR_US
NO_SPLITS = Splits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def one(prices, sessions, splits=NO_SPLITS, events=None):
    return {"A": Prices(sessions.close_us if events is None else events, np.asarray(prices, dtype=float), splits)}


def label(spec, moments, prices, sessions):
    moments = np.asarray(moments, dtype=np.int64)
    return compute_labels(LabelSpec.parse(spec), np.array(["A"] * len(moments)), moments, prices, sessions)


@pytest.mark.parametrize(
    ("text", "sessions", "hours"),
    [
        ("direction:5d", 5, 0),
        ("forward_return:1w", 5, 0),
        ("volatility:1mo", 21, 0),
        ("direction:4h", 0, 4),
        ("triple_barrier:10d:1.5", 10, 0),
        ("triple_barrier:4h", 0, 4),
        ("volatility:1h", 0, 1),
        ("meta_label:1w:0.123456789:sma_3", 5, 0),
    ],
)
def test_texts(text, sessions, hours):
    spec = LabelSpec.parse(text)
    assert (spec.sessions, spec.hours) == (sessions, hours)
    assert LabelSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    "text",
    ["direction", "direction:0d", "direction:5", "direction:5d:2", "direction:999mo", "volatility:0h", "volatility:1h:2",
     "meta_label:5d", "meta_label:5d:1", "meta_label:5d:1:", "meta_label:5d:1:a:b", "triple_barrier:5d:x", "triple_barrier:5d:-1"],
)  # fmt: skip
def test_malformed_texts(text):
    with pytest.raises(ParameterError, match=r"Write it|Use"):
        LabelSpec.parse(text)


def test_an_unknown_label_names_the_nearest():
    with pytest.raises(UnknownNameError, match="direction"):
        LabelSpec.parse("directon:5d")


def test_five_sessions_ahead_over_holidays_and_half_days():
    sessions = sessions_from("2012-11-19", 12)  # Thanksgiving closes the 22nd, the 23rd is a half day
    prices = np.array([10, 11, 12, 13, 14, 15, 14, 13, 12, 11, 10, 9], dtype=float)
    got = label("direction:5d", sessions.close_us + 15 * MINUTE_US, one(prices, sessions), sessions)
    assert got.end_us[:7].tolist() == sessions.close_us[5:].tolist()
    np.testing.assert_allclose(got.forward_return[:7], prices[5:] / prices[:7] - 1)
    assert got.value[:7].tolist() == (prices[5:] > prices[:7]).astype(float).tolist()
    assert np.isnan(got.value[7:]).all()
    assert (got.end_us[7:] == MISSING_US).all()


@settings(max_examples=60, deadline=None)
@given(offset=st.integers(0, 30 * DAY), horizon=st.integers(1, 6), seed=st.integers(0, 5))
def test_the_end_is_the_nth_close_after_and_the_base_the_last_before(offset, horizon, seed):
    sessions = sessions_from("2012-11-01", 40)
    prices = 50 + np.cumsum(np.random.default_rng(seed).normal(size=40))
    moment = int(sessions.close_us[0]) + offset
    got = label(f"forward_return:{horizon}d", [moment], one(prices, sessions), sessions)
    base = max(i for i in range(40) if sessions.close_us[i] <= moment)
    end = [i for i in range(40) if sessions.close_us[i] > moment][horizon - 1]
    assert got.end_us[0] == sessions.close_us[end]
    assert got.forward_return[0] == pytest.approx(prices[end] / prices[base] - 1)


def test_later_prices_never_matter():
    sessions = sessions_from("2012-01-03", 30)
    prices = 50 + np.cumsum(np.random.default_rng(1).normal(size=30))
    for spec in ("direction:5d", "volatility:5d", "triple_barrier:5d:1", "forward_return:5d"):
        full = label(spec, sessions.close_us[:25], one(prices, sessions), sessions)
        other = prices.copy()
        other[25:] *= 3
        cut = label(spec, sessions.close_us[:25], one(other, sessions), sessions)
        early = full.end_us < sessions.close_us[25]
        assert 0 < early.sum() < 25
        np.testing.assert_array_equal(full.value[early], cut.value[early])


def test_a_split_on_the_way_is_undone():
    sessions = sessions_from("2005-02-22", 10)  # AAPL split two for one at the open of 2005-02-28, session 4
    split = Splits(sessions.open_us[4:5], sessions.open_us[4:5], np.array([2.0]))
    traded = np.array([88, 89, 88, 89, 45, 44, 45, 46, 47, 48], dtype=float)
    got = label("forward_return:2d", sessions.close_us, one(traded, sessions, split), sessions)
    share = np.where(np.arange(10) >= 4, 2.0, 1.0) * traded
    np.testing.assert_allclose(got.forward_return[:8], share[2:] / share[:8] - 1)
    late = Splits(sessions.open_us[4:5], sessions.close_us[9:], np.array([2.0]))
    unaware = label("forward_return:2d", sessions.close_us, one(traded, sessions, late), sessions)
    assert unaware.forward_return[3] == pytest.approx(44 / 89 - 1)
    path = label("volatility:5d", sessions.close_us[:4], one(traded, sessions, split), sessions)
    assert path.value[0] < 0.1


def test_a_session_without_a_price_gives_no_label():
    sessions = sessions_from("2012-01-03", 12)
    prices = np.arange(12.0) + 50
    keep = np.arange(12) != 6
    got = label(
        "direction:2d", sessions.close_us, one(prices[keep], sessions, events=sessions.close_us[keep]), sessions
    )
    assert np.flatnonzero(np.isnan(got.value)).tolist() == [4, 6, 10, 11]
    nobody = compute_labels(LabelSpec.parse("direction:2d"), np.array(["B"]), sessions.close_us[:1], {}, sessions)
    assert np.isnan(nobody.value).all()


def test_no_change_is_not_up():
    sessions = sessions_from("2012-01-03", 3)
    assert label("direction:1d", sessions.close_us[:1], one([5, 5, 6], sessions), sessions).value[0] == 0.0


def test_hours_count_only_while_the_venue_is_open():
    sessions = sessions_from("2012-01-03", 3)
    minutes = np.concatenate([np.arange(o + MINUTE_US, c + 1, MINUTE_US) for o, c in zip(sessions.open_us, sessions.close_us, strict=True)])  # fmt: skip
    prices = np.arange(len(minutes), dtype=float) + 100
    market = one(prices, sessions, events=minutes)
    start = int(sessions.close_us[0]) - 30 * MINUTE_US
    got = label("forward_return:1h", [start, int(sessions.open_us[0]) + HOUR_US], market, sessions)
    assert got.end_us[0] == sessions.open_us[1] + 30 * MINUTE_US
    assert got.forward_return[0] == pytest.approx(60 / prices[minutes == start][0])
    assert got.end_us[1] == sessions.open_us[0] + 2 * HOUR_US
    to_close = label("direction:1h", [int(sessions.close_us[0]) - HOUR_US], market, sessions)
    assert to_close.end_us[0] == sessions.close_us[0]
    between = label("direction:1h", [int(sessions.close_us[0]) + 3 * HOUR_US], market, sessions)
    assert between.end_us[0] == sessions.open_us[1] + HOUR_US
    past = label("direction:1h", [int(sessions.close_us[2]) - MINUTE_US], market, sessions)
    assert past.end_us[0] == MISSING_US


def test_without_a_trade_until_the_end_there_is_no_label():
    sessions = sessions_from("2012-01-03", 2)
    events = sessions.open_us[0] + np.array([10, 20, 200]) * MINUTE_US
    got = label(
        "direction:1h", [int(sessions.open_us[0]) + 30 * MINUTE_US], one([5, 6, 7], sessions, events=events), sessions
    )
    assert np.isnan(got.value[0])


def every_minute(sessions, seed):
    """Prices of every minute but some, with a split at the second session's open."""
    random = np.random.default_rng(seed)
    minutes = np.concatenate([np.arange(o + MINUTE_US, c + 1, MINUTE_US) for o, c in zip(sessions.open_us, sessions.close_us, strict=True)])  # fmt: skip
    prices = 100 * np.exp(np.cumsum(random.normal(scale=0.002, size=len(minutes))))
    prices[minutes > sessions.open_us[1]] /= 2
    keep = random.random(len(minutes)) < 0.7
    keep[-1] = True
    split = Splits(sessions.open_us[1:2], sessions.open_us[:1], np.array([2.0]))
    return {"A": Prices(minutes[keep], prices[keep], split)}


def walked_path(market, sessions, moment, steps):
    """Moments every five open minutes from one moment on (or back), and the last prices then, by a plain loop."""
    opened = [(m, s) for s in range(len(sessions.open_us)) for m in range(int(sessions.open_us[s]), int(sessions.close_us[s]) + 1, MINUTE_US)]  # fmt: skip
    # Open time runs from close to open: a close and the next open are the same point of it, kept as the close.
    line = [m for m, s in opened if m != sessions.open_us[s] or s == 0]
    at = max(i for i, m in enumerate(line) if m <= moment)
    moments = [moment, *(line[at + 5 * k] for k in range(1, steps + 1))] if steps > 0 else [line[at - 5 * k] for k in range(-steps, 0, -1)] + [moment]  # fmt: skip
    prices = market["A"]
    share = np.where(prices.event_us >= sessions.open_us[1], 2.0, 1.0) * prices.price
    return moments, [float(share[prices.event_us <= m][-1]) for m in moments]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hours", [1, 4])
def test_paths_in_hours_against_a_plain_loop(hours, seed):
    sessions = sessions_from("2012-11-19", 9)  # with a half day
    market = every_minute(sessions, seed)
    moments = np.array([int(sessions.open_us[s]) + m * MINUTE_US for s in (4, 5, 6) for m in (60, 175, 209, 300, 500)])
    volatility = label(f"volatility:{hours}h", moments, market, sessions)
    barrier = label(f"triple_barrier:{hours}h:1.2", moments, market, sessions)
    early = 0
    for row, moment in enumerate(moments.tolist()):
        when, path = walked_path(market, sessions, moment, hours * 12)
        steps = np.diff(np.log(path))
        assert volatility.end_us[row] == when[-1]
        assert volatility.value[row] == pytest.approx(np.sqrt((steps**2).sum()), rel=1e-9)
        _, past = walked_path(market, sessions, moment, -20 * 12)
        distance = 1.2 * np.std(np.diff(np.log(past)), ddof=1) * np.sqrt(12 * hours)
        touch = next((k for k in range(1, len(path)) if abs(np.log(path[k] / path[0])) >= distance), len(path) - 1)
        early += touch < len(path) - 1
        assert barrier.end_us[row] == when[touch]
        assert barrier.forward_return[row] == pytest.approx(path[touch] / path[0] - 1, rel=1e-9)
        assert barrier.value[row] == float(path[touch] > path[0])
    assert 0 < early < len(moments)


@pytest.mark.parametrize("spec", ["volatility:4h", "triple_barrier:4h:1"])
def test_later_prices_never_matter_in_hours(spec):
    sessions = sessions_from("2012-11-19", 9)
    market = every_minute(sessions, 1)
    moments = sessions.open_us[4:8] + 100 * MINUTE_US
    full = label(spec, moments, market, sessions)
    prices = market["A"]
    for cut in full.end_us:
        other = {"A": Prices(prices.event_us, np.where(prices.event_us > cut, prices.price * 3, prices.price), prices.splits)}  # fmt: skip
        again = label(spec, moments, other, sessions)
        np.testing.assert_array_equal(again.value[full.end_us <= cut], full.value[full.end_us <= cut])
    assert np.isnan(label(spec, sessions.open_us[:1] + MINUTE_US, market, sessions).value[0]) == (spec[0] == "t")


def test_long_paths_are_cut_into_pieces(monkeypatch):
    sessions = sessions_from("2012-11-19", 9)
    market = every_minute(sessions, 2)
    moments = sessions.open_us[4] + np.arange(50) * MINUTE_US
    whole = [label(spec, moments, market, sessions) for spec in ("volatility:2h", "triple_barrier:2h")]
    monkeypatch.setattr("tapeline.datasets.labels._CELLS_MAX", 100)
    for spec, before in zip(("volatility:2h", "triple_barrier:2h"), whole, strict=True):
        after = label(spec, moments, market, sessions)
        np.testing.assert_array_equal(after.value, before.value)
        np.testing.assert_array_equal(after.end_us, before.end_us)


@pytest.mark.parametrize("horizon", ["10d:1", "2h:1"])
def test_a_meta_label_says_whether_the_bet_gained(horizon):
    hourly = horizon.endswith("h:1")
    sessions = sessions_from("2012-11-01", 60)
    walk = 50 * np.exp(np.cumsum(np.random.default_rng(4).normal(scale=0.02, size=60)))
    market = every_minute(sessions, 4) if hourly else one(walk, sessions)
    moments = sessions.open_us[20:50] + HOUR_US if hourly else sessions.close_us[20:50]
    side = np.tile([2.5, -0.1, 0.0, np.nan, -np.inf], 6)
    plain = label(f"triple_barrier:{horizon}", moments, market, sessions)
    spec = LabelSpec.parse(f"meta_label:{horizon}:signal")
    got = compute_labels(spec, np.array(["A"] * 30), moments, market, sessions, side)
    bet = np.tile([1.0, -1.0, np.nan, np.nan, -1.0], 6)
    np.testing.assert_array_equal(got.forward_return, bet * plain.forward_return)
    known = ~np.isnan(bet)
    np.testing.assert_array_equal(got.value[known], (bet * plain.forward_return > 0)[known])
    np.testing.assert_array_equal(got.end_us[known], plain.end_us[known])
    assert np.isnan(got.value[~known]).all()
    assert (got.end_us[~known] == MISSING_US).all()
    assert {0.0, 1.0} == set(got.value[known])
    if hourly:  # with nothing before it to take the barriers' distance from
        early = compute_labels(spec, np.array(["A"]), sessions.open_us[:1] + HOUR_US, market, sessions, np.ones(1))
        assert np.isnan(early.value[0])
    for wrong, sides in ((spec, None), (LabelSpec.parse("direction:5d"), side), (spec, side[:3])):
        with pytest.raises(ParameterError, match="sides"):
            compute_labels(wrong, np.array(["A"] * 30), moments, market, sessions, sides)


def test_an_end_that_the_prices_do_not_reach_gives_no_label():
    """The last price so far is not the price at the end: more of that session may still come."""
    sessions = sessions_from("2012-01-03", 3)
    minutes = np.concatenate([np.arange(o + MINUTE_US, c, MINUTE_US) for o, c in zip(sessions.open_us, sessions.close_us, strict=True)])  # fmt: skip
    seen_to = int(sessions.open_us[1]) + 90 * MINUTE_US
    events = minutes[minutes <= seen_to]
    market = one(np.arange(len(events)) + 100.0, sessions, events=events)
    moments = seen_to - HOUR_US - np.array([1, 0, -1]) * MINUTE_US
    hours = label("forward_return:1h", moments, market, sessions)
    assert hours.end_us.tolist() == [seen_to - MINUTE_US, seen_to, MISSING_US]
    days = label("direction:1d", sessions.close_us[:1], market, sessions)
    assert days.end_us.tolist() == [MISSING_US]
    whole = one(np.arange(len(minutes)) + 100.0, sessions, events=minutes)
    days = label("direction:1d", sessions.close_us[:2], whole, sessions)
    assert days.end_us.tolist() == [sessions.close_us[1], MISSING_US]


def test_a_corrected_split_counts_as_known_at_the_end():
    sessions = sessions_from("2005-02-22", 10)
    traded = np.where(np.arange(10) >= 4, 30.0, 90.0)
    opens, closes = sessions.open_us, sessions.close_us
    # Announced as two for one; said to be three for one at the close of session 6.
    both = Splits(opens[[4, 4]], np.array([opens[0], closes[6]]), np.array([2.0, 3.0]), np.array([closes[6], 2**62]))
    got = label("forward_return:2d", closes, one(traded, sessions, both), sessions)
    assert got.forward_return[2] == pytest.approx(30 * 2 / 90 - 1)
    got = label("forward_return:5d", closes, one(traded, sessions, both), sessions)
    assert got.forward_return[:3].tolist() == pytest.approx([30 * 2 / 90 - 1, 0, 0])


@pytest.mark.parametrize("kind", ["bars", "trades"])
def test_all_versions_of_a_split_are_read(connection, kind):
    when = datetime(2012, 1, 3, tzinfo=UTC)
    versions = [(0, 2.0, False), (5, 3.0, False), (9, 3.0, True)]
    for day, ratio, deleted in versions:
        with connection.transaction():
            connection.execute(
                "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, ratio,"
                " source, deleted) VALUES ('A', 'split', %s, %s, %s, 's', %s)",
                (when, when + timedelta(days=day), ratio, deleted),
            )
    rows = pl.DataFrame({"symbol": ["A"], "event_timestamp": [when], "sequence": [0], "price": [1.0], "size": [1.0]})
    if kind == "bars":
        names = ("open", "high", "low", "close")
        rows = rows.select("symbol", "event_timestamp", *(pl.lit(1.0).alias(name) for name in names))
        rows = rows.with_columns(start_timestamp=pl.lit(when - timedelta(hours=1)))
    append_rows(connection, kind, rows, "s")
    now_us = to_us(datetime.now(UTC)) + DAY
    found = read_prices(connection, kind, "s", ["A"], vintage_us=now_us, first_us=0, last_us=now_us)["A"].splits
    start = to_us(when)
    # A bar that ends as the split takes effect is still of the old share; a trade at that moment is of the new one.
    assert found.event_us.tolist() == [start + (kind == "bars")] * 2
    assert found.available_us.tolist() == [start, start + 5 * DAY]
    assert found.superseded_us.tolist() == [start + 5 * DAY, start + 9 * DAY]
    assert found.ratio.tolist() == [2.0, 3.0]


def test_barriers_end_the_label_when_they_are_touched():
    sessions = sessions_from("2012-01-03", 40)
    random = np.random.default_rng(4)
    calm = 100 * np.exp(np.cumsum(random.normal(scale=0.01, size=25)))
    prices = np.concatenate([calm, calm[-1] * np.array([1.0, 1.2, 1.2, 0.5, 0.5]), np.full(10, calm[-1] * 0.5)])
    got = label("triple_barrier:5d:2", sessions.close_us[[24, 26, 32]], one(prices, sessions), sessions)
    assert got.end_us.tolist() == sessions.close_us[[26, 28, 37]].tolist()
    assert got.value.tolist() == [1.0, 0.0, 0.0]


def test_volatility():
    sessions = sessions_from("2012-01-03", 4)
    prices = np.array([100.0, 110.0, 99.0, 99.0])
    got = label("volatility:3d", sessions.close_us[:1], one(prices, sessions), sessions)
    assert got.value[0] == pytest.approx(np.sqrt(np.log(1.1) ** 2 + np.log(0.9) ** 2))


def test_a_calendar_that_begins_too_late():
    sessions = sessions_from("2012-01-03", 4)
    with pytest.raises(EmptyDataError, match="begins after"):
        label("direction:1d", [int(sessions.close_us[0]) - 1], one(np.ones(4), sessions), sessions)


def test_symbols_do_not_mix():
    sessions = sessions_from("2012-01-03", 3)
    market = {"A": Prices(sessions.close_us, np.array([1.0, 2, 3]), NO_SPLITS),
              "B": Prices(sessions.close_us, np.array([3.0, 2, 1]), NO_SPLITS)}  # fmt: skip
    symbols = np.array(["A", "B", "A", "B"], dtype=object)
    times = np.repeat(sessions.close_us[:2], 2)
    got = compute_labels(LabelSpec.parse("direction:1d"), symbols, times, market, SessionTimes("XNYS", sessions.open_us, sessions.close_us))  # fmt: skip
    assert got.value.tolist() == [1.0, 0.0, 1.0, 0.0]
