"""Features of longer time frames: bars made from base rows inside the plan, seen only when they are finished."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import talib
from bokeh_sampledata.stocks import GOOG
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tapeline.compute.sessions import session_times
from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import HOUR_US, MINUTE_US, to_us
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.features.leakage import find_leaks
from tapeline.features.timeframes import FrameCalendar, TimeFrame
from tapeline.indicators import Indicator, all_indicators
from tapeline.indicators.schema import schemas_of

from tests.features.frames import Rows, expected, values_of_bars
from tests.indicators.market import same_bits

of = FeatureRequest.of
WANTED = (
    of("RSI", timeperiod=3),
    of("ATR", timeperiod=2),
    of("SMA", timeperiod=4),
    of("STOCH", fastk_period=3),
    of("OBV"),
    of("GAP"),
    of("BBANDS", timeperiod=3),
    of("DONCHIAN", timeperiod=3),
)
HOURLY = tuple(replace(request, frame=TimeFrame.parse("1h")) for request in WANTED)
PARTIAL = tuple(replace(request, frame=TimeFrame.parse("1h/partial")) for request in WANTED)
START_US = to_us("2013-03-01T14:00:00+00:00")


@cache
def plan(*, moments: bool = False) -> FeaturePlan:
    """Base rows, their hours, and the hours as they are so far."""
    return FeaturePlan.of([*WANTED[:2], *HOURLY, *PARTIAL], moments=moments)


def _hour_end(moment_us: int) -> int:
    return moment_us // HOUR_US * HOUR_US + HOUR_US


@st.composite
def minutes(draw: st.DrawFn, max_size: int = 120) -> Rows:
    """Rows of up to a few hours: gaps, hours of one row, whole hours missing, bad values, rows of one moment."""
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, max_size))
    rng = np.random.default_rng(seed)
    steps = rng.choice([0, 1, 5, 10, 60, 120, 175], size=count, p=[0.05, 0.2, 0.3, 0.2, 0.1, 0.1, 0.05])
    event = START_US + MINUTE_US * np.cumsum(steps) + rng.choice([0, 1, -1], size=count, p=[0.9, 0.05, 0.05])
    event = np.maximum.accumulate(event)
    rows = []
    for at in event.tolist():
        low, high = sorted((100 * np.exp(rng.normal(0, 0.05, 2))).tolist())
        row = {"open": rng.uniform(low, high), "high": high, "low": low, "close": rng.uniform(low, high)}
        row["volume"] = float(rng.integers(0, 50))
        if rng.random() < 0.1:
            row[str(rng.choice(list(row)))] = float(rng.choice([math.nan, math.inf, 0.0, -1.0]))
        rows.append((at, row))
    return rows


def _arrays(p: FeaturePlan, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    event = np.array([at for at, _ in rows], dtype=np.int64)
    values = np.array([[(row | {"split_ratio": 1.0})[name] for name in p.inputs] for _, row in rows])
    return event, np.arange(len(rows), dtype=np.int64), values


def _batch(p: FeaturePlan, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    event, sequence, values = _arrays(p, rows)
    features, ends = p.batch(event, sequence, event, values, np.array([0, len(rows)]))
    return features, ends[0]


def same(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Equal bit for bit, but for the bits of a NaN."""
    return same_bits(np.where(np.isnan(a), math.nan, a), np.where(np.isnan(b), math.nan, b))


def _columns(p: FeaturePlan, frame: str | None) -> list[int]:
    return [i for i, f in enumerate(p.frames) if (f.text if f else None) == frame]


@settings(max_examples=60, deadline=None)
@given(minutes(), st.booleans())
def test_hours_equal_those_of_a_plan_over_hours_bit_for_bit(rows: Rows, moments: bool) -> None:
    p = plan(moments=moments)
    features, _ = _batch(p, rows)
    wanted = expected(WANTED, rows, _hour_end, moments=moments)
    assert same(features[:, _columns(p, "1h")], wanted)
    own = values_of_bars(WANTED[:2], [row for _, row in rows])
    assert same(features[:, _columns(p, None)], own)


@settings(max_examples=15, deadline=None)
@given(minutes(max_size=40), st.booleans())
def test_partial_ones_show_the_unfinished_hour_and_leave_no_trace(rows: Rows, moments: bool) -> None:
    p = plan(moments=moments)
    features, _ = _batch(p, rows)
    assert same(
        features[:, _columns(p, "1h/partial")], expected(WANTED, rows, _hour_end, moments=moments, partial=True)
    )
    without = FeaturePlan.of([*WANTED[:2], *HOURLY], moments=moments)
    finished = features[:, [*_columns(p, None), *_columns(p, "1h")]]
    assert same(finished, _batch(without, rows)[0])


@settings(max_examples=40, deadline=None)
@given(minutes(), st.data())
def test_stream_equals_batch_and_a_saved_state_goes_on(rows: Rows, data: st.DataObject) -> None:
    p = plan()
    event, sequence, values = _arrays(p, rows)
    features, end = _batch(p, rows)
    cut = data.draw(st.integers(0, len(rows)))
    state, out = p.new_state(), np.empty(len(p.outputs))
    for i in range(len(rows)):
        if i == cut:
            state = p.restore(p.save(state))
        p.update(state, int(event[i]), int(sequence[i]), int(event[i]), values[i], out)
        assert same_bits(out, features[i])
    assert same_bits(state, end)


@settings(max_examples=20, deadline=None)
@given(minutes().filter(lambda rows: len(rows) > 2), st.data())
def test_nothing_of_the_future_is_seen(rows: Rows, data: st.DataObject) -> None:
    event, _, values = _arrays(plan(), rows)
    cut = data.draw(st.integers(1, len(rows) - 1))
    assert find_leaks(plan(), event, event, values, [cut]) == ()


def test_a_feature_changes_only_with_a_finished_bar() -> None:
    p = FeaturePlan.of([of("SMA", frame="1h", timeperiod=2)])
    at = [START_US + m * MINUTE_US for m in (30, 60, 61, 119, 120, 121, 150, 300, 360)]
    features, _ = _batch(p, [(t, {"close": float(i)}) for i, t in enumerate(at, start=1)])
    nan = math.nan
    # Hours end with 2, 5, 7 (seen at 300, which is an hour of its own) and 8 at once, then 9.
    np.testing.assert_array_equal(features[:, 0], [nan, nan, nan, nan, 3.5, 3.5, 3.5, 7.5, 8.5])


def test_a_row_may_finish_two_bars_and_a_finished_one_stays_as_it_is() -> None:
    p = FeaturePlan.of([of("SMA", frame="1h", timeperiod=2), of("RETURN", frame="1h")])
    rows = [
        (START_US + 30 * MINUTE_US, 1.0),
        (START_US + 2 * HOUR_US, 3.0),
        (START_US + 2 * HOUR_US, 9.0),
        (START_US + 3 * HOUR_US, 5.0),
    ]
    features, _ = _batch(p, [(at, {"close": value}) for at, value in rows])
    np.testing.assert_array_equal(features, [[math.nan] * 2, [2.0, 2.0], [2.0, 2.0], [4.0, 5.0 / 3.0 - 1.0]])


# Sessions ------------------------------------------------------------------------------------------------------------


def _goog() -> tuple[list[dt.date], NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    days = [dt.date.fromisoformat(text) for text in GOOG["date"]]
    times = session_times("XNYS")
    close = {dt.datetime.fromtimestamp(at / 1e6, dt.UTC).date(): at for at in times.close_us.tolist()}
    event = np.array([close[day] for day in days], dtype=np.int64)
    return (
        days,
        event,
        {name: np.array(GOOG[name], dtype=np.float64) for name in ("open", "high", "low", "close", "volume")},
    )


@pytest.mark.parametrize("unit", ["week", "month"])
def test_weeks_and_months_of_real_days_agree_with_talib(unit: str) -> None:
    days, event, columns = _goog()
    p = FeaturePlan.of(
        [
            of("RSI", frame=unit, timeperiod=14),
            of("ATR", frame=unit, timeperiod=14),
            of("SMA", frame=unit, timeperiod=5),
        ]
    )
    assert p.inputs == ("high", "low", "close", f"end_{unit}", "split_ratio")
    frame = TimeFrame.parse(unit)
    times = session_times("XNYS")
    ends = FrameCalendar(times.open_us, times.close_us).column(frame, event - 1)
    rows = np.column_stack([columns["high"], columns["low"], columns["close"], ends, np.ones(len(event))])
    features, _ = p.batch(event, np.zeros(len(event), np.int64), event, rows, np.array([0, len(event)]))

    keys = [day.isocalendar()[:2] if unit == "week" else (day.year, day.month) for day in days]
    first = [i for i in range(len(keys)) if i == 0 or keys[i] != keys[i - 1]]
    bounds = list(zip(first, [*first[1:], len(keys)], strict=True))
    high = np.array([columns["high"][a:b].max() for a, b in bounds])
    low = np.array([columns["low"][a:b].min() for a, b in bounds])
    close = np.array([columns["close"][b - 1] for _, b in bounds])
    whole = [talib.RSI(close, 14), talib.ATR(high, low, close, 14), talib.SMA(close, 5)]
    late = 0
    for number, (a, b) in enumerate(bounds[:-1]):
        last = days[b - 1]
        regular = last.weekday() == 4 if unit == "week" else _last_weekday(last) == last
        late += not regular
        seen = b - 1 if regular else b
        for column, values in enumerate(whole):
            np.testing.assert_allclose(features[seen, column], values[number], rtol=1e-9, equal_nan=True)
            if number and a < seen:
                np.testing.assert_allclose(features[seen - 1, column], values[number - 1], rtol=1e-9, equal_nan=True)
    assert 0 < late < len(bounds) / 10


def _last_weekday(day: dt.date) -> dt.date:
    after = (day.replace(day=28) + dt.timedelta(days=4)).replace(day=1) - dt.timedelta(days=1)
    return after - dt.timedelta(days=max(0, after.weekday() - 4))


def _ends(frame: str, calendar: str, moments: list[str]) -> list[str | None]:
    times = session_times(calendar)
    ends = FrameCalendar(times.open_us, times.close_us).ends(
        TimeFrame.parse(frame), np.array([to_us(m) for m in moments])
    )
    return [
        None if e < 0 else dt.datetime.fromtimestamp(e / 1e6, dt.UTC).strftime("%m-%d %H:%M") for e in ends.tolist()
    ]


@pytest.mark.parametrize(
    ("frame", "moment", "end"),
    [
        ("1h/session", "2013-03-08T14:30:00+00:00", "03-08 15:30"),  # winter: New York opens at 14:30
        ("1h/session", "2013-03-11T13:30:00+00:00", "03-11 14:30"),  # summer: at 13:30
        ("1h/session", "2013-03-11T19:59:59+00:00", "03-11 20:00"),  # the last half hour is a bar of its own
        ("1h/session", "2013-03-11T20:00:00+00:00", None),  # after the close
        ("1h/session", "2013-03-11T13:29:59+00:00", None),
        ("1h/session", "2012-07-03T16:45:00+00:00", "07-03 17:00"),  # half day
        ("session", "2012-07-03T13:30:00+00:00", "07-03 17:00"),
        ("session", "2013-03-09T15:00:00+00:00", None),
        ("week", "2013-03-04T15:00:00+00:00", "03-08 21:00"),
        ("week", "2013-03-25T15:00:00+00:00", "03-29 00:00"),  # Good Friday: known to be over after Thursday, see below
        (
            "week",
            "2001-09-10T15:00:00+00:00",
            "09-15 00:00",
        ),  # nobody knew on the tenth that it would stay the only day
        ("month", "2013-03-04T15:00:00+00:00", "03-30 00:00"),
        ("month", "2013-04-04T15:00:00+00:00", "04-30 20:00"),
        ("1h", "2013-03-09T15:00:00+00:00", "03-09 16:00"),
    ],
)
def test_ends_follow_the_exchange(frame: str, moment: str, end: str | None) -> None:
    if (frame, moment) == ("week", "2013-03-25T15:00:00+00:00"):
        end = "03-30 00:00"  # the bar ends with its last regular day, a holiday; the next row finishes it
    assert _ends(frame, "XNYS", [moment]) == [end]


def test_a_week_of_a_futures_exchange_begins_on_sunday_evening() -> None:
    moments = ["2013-08-25T22:30:00+00:00", "2013-08-30T20:00:00+00:00", "2013-09-01T22:30:00+00:00"]
    friday, same, following = _ends("week", "CMES", moments)
    assert friday == same
    assert friday is not None
    assert friday.startswith("08-30")
    assert following is not None
    assert following.startswith("09-06")


# Splits and dividends ------------------------------------------------------------------------------------------------


def test_a_split_inside_a_bar_changes_no_bit() -> None:
    p = plan()
    rng = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 400)))
    rows = [
        (START_US + i * 7 * MINUTE_US, {"open": c * 1.01, "high": c * 1.02, "low": c * 0.98, "close": c, "volume": 8.0})
        for i, c in enumerate(close.tolist())
    ]
    plain, _ = _batch(p, rows)
    event, sequence, values = _arrays(p, rows)
    at = 205
    for place, name in enumerate(p.inputs):
        if name == "split_ratio":
            values[at, place] = 4.0
        else:
            values[at:, place] *= 4.0 if name == "volume" else 0.25
    split, _ = p.batch(event, sequence, event, values, np.array([0, len(rows)]))
    assert same_bits(split[:at], plain[:at])
    power = {"price": 0.25, "shares": 4.0}
    for column, unit in enumerate(p.units):
        assert same(split[at:, column], plain[at:, column] * power.get(unit, 1.0)), p.outputs[column]


# Words ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical", "suffix"),
    [
        ("60m", "1h", "1h"), ("90s", "90s", "90s"), ("24h", "1d", "1d"), ("5m/session", "5m/session", "5m_session"),
        ("session", "session", "session"), ("week/partial", "week/partial", "week_partial"),
        ("1h/partial/session", "1h/session/partial", "1h_session_partial"),
    ],
)  # fmt: skip
def test_frames_have_one_spelling(text: str, canonical: str, suffix: str) -> None:
    frame = TimeFrame.parse(text)
    assert (frame.text, frame.suffix) == (canonical, suffix)
    assert TimeFrame.parse(frame.text) == frame
    request = of("RSI", frame=text, timeperiod=14)
    assert request.columns == (f"rsi_14_{suffix}",)
    assert FeatureRequest.from_definition(request.definition()) == request


@pytest.mark.parametrize(
    "text", ["", "1w", "25h", "0m", "hour", "1h/open", "1h/session/session", "week/session", "1h/"]
)
def test_impossible_frames_are_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        TimeFrame.parse(text)


def test_the_plan_says_what_is_of_which_frame() -> None:
    p = FeaturePlan.of(
        [of("RSI", timeperiod=14), of("RSI", frame="1h", timeperiod=14), of("RSI", frame="week", timeperiod=14)]
    )
    assert p.outputs == ("rsi_14", "rsi_14_1h", "rsi_14_week")
    assert [frame.text if frame else None for frame in p.frames] == [None, "1h", "week"]
    assert p.warm_up == (15, 15, 15)  # rows, hours, weeks
    assert p.inputs == ("close", "end_week", "split_ratio")
    other = FeaturePlan.of(
        [of("RSI", timeperiod=14), of("RSI", frame="2h", timeperiod=14), of("RSI", frame="week", timeperiod=14)]
    )
    assert other.hash != p.hash
    with pytest.raises(ParameterError, match="rsi_14_1h"):
        FeaturePlan.of([of("RSI", frame="1h", timeperiod=14), of("RSI", frame="60m", timeperiod=14)])


def test_bars_shared_by_features_are_made_once() -> None:
    one = FeaturePlan.of([of("SMA", frame="1h", timeperiod=20)])
    two = FeaturePlan.of([of("SMA", frame="1h", timeperiod=20), of("DIST_SMA", frame="1h", timeperiod=20)])
    assert two.state_size == one.state_size + 1  # the second value that is kept between bars


@pytest.mark.parametrize("indicator", all_indicators(), ids=lambda indicator: indicator.name)
def test_every_feature_of_bars_has_a_frame_and_none_of_ticks(indicator: Indicator) -> None:
    request = FeatureRequest(indicator.name, frame=TimeFrame.parse("week"))
    if schemas_of(indicator.inputs) == {"ticks"}:
        with pytest.raises(ParameterError, match="bars of a time frame have no"):
            FeaturePlan.of([request])
        return
    framed, plain = FeaturePlan.of([request]), FeaturePlan.of([FeatureRequest(indicator.name)])
    assert framed.outputs == tuple(f"{name}_week" for name in plain.outputs)
    assert (framed.warm_up, framed.units) == (plain.warm_up, plain.units)
    assert set(framed.inputs) == {*plain.inputs, "end_week"}
