"""Reading of values against Python's own: times in every zone, text that reads back, whole numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import InvalidDataError, UnknownNameError
from tapeline.ingestion.layout import Layout
from tapeline.ingestion.reading import as_text, read_columns

ZONES = ["America/Chicago", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Tokyo", "UTC"]
_wall = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1))  # noqa: DTZ001
# Nights in which summer time begins or ends somewhere among the zones.
_night = st.sampled_from(["2013-03-10", "2013-11-03", "2013-03-31", "2013-10-27", "2013-04-07", "2013-10-06"])
_switch = st.tuples(_night, st.timedeltas(timedelta(0), timedelta(hours=4))).map(
    lambda pair: datetime.fromisoformat(pair[0]) + pair[1]
)


def read(values: list[object], layout: Layout, name: str = "event_timestamp") -> pl.DataFrame:
    frame = pl.DataFrame({"row": range(1, len(values) + 1), name: values}, strict=False)
    return read_columns(frame.with_columns(pl.col("row").cast(pl.Int64)), "trades", layout, "test")


@settings(max_examples=60, deadline=None)
@given(walls=st.lists(_wall | _switch, min_size=1, max_size=40), zone=st.sampled_from(ZONES), typed=st.booleans())
def test_local_times_are_what_python_says(walls: list[datetime], zone: str, typed: bool) -> None:
    layout = Layout(timezone=zone)
    frame = read(list(walls) if typed else [wall.isoformat(" ") for wall in walls], layout)
    for wall, value, rule in zip(walls, frame["event_timestamp"], frame["rule"], strict=True):
        first, last = (wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1))
        exists = first.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall
        expected = "nonexistent_time" if not exists else "ambiguous_time" if first != last else None
        assert rule == expected
        assert value == (first if expected is None else None)


@settings(max_examples=60, deadline=None)
@given(
    moments=st.lists(_wall, min_size=1, max_size=20),
    minutes=st.integers(-14 * 60, 14 * 60),
    form=st.sampled_from(["{0:%Y-%m-%dT%H:%M:%S.%f%z}", "{1}", "{2}"]),
)
def test_offsets_in_text_are_kept(moments: list[datetime], minutes: int, form: str) -> None:
    from datetime import timezone

    aware = [moment.replace(tzinfo=timezone(timedelta(minutes=minutes))) for moment in moments]
    texts = [
        form.format(one, one.isoformat(" "), one.astimezone(UTC).isoformat().replace("+00:00", "Z")) for one in aware
    ]
    frame = read(texts, Layout())
    assert frame["rule"].null_count() == len(texts)
    assert frame["event_timestamp"].to_list() == aware
    again = read(as_text(frame.select("event_timestamp"))["event_timestamp"].to_list(), Layout())
    assert again["event_timestamp"].to_list() == aware


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats() | st.none(), min_size=1, max_size=30))
def test_numbers_read_back_from_their_text(values: list[float | None]) -> None:
    series = pl.Series(values, dtype=pl.Float64)
    texts = as_text(pl.DataFrame({"price": series}))["price"].to_list()
    again = read(texts, Layout(), "price")
    assert again["rule"].null_count() == len(values)
    assert again["price"].equals(series)


@pytest.mark.parametrize(
    ("name", "values", "expected", "bad"),
    [
        ("sequence", [1.0, 1.5, 3.0], [1, None, 3], [2]),
        ("sequence", ["7", "7.5", " 8 "], [7, None, 8], [2]),
        ("side", ["BUY", "s", "x", "0", ""], [1, -1, None, 0, None], [3]),
        ("deleted", ["true", "0", "maybe"], [True, False, None], [3]),
        ("price", ["1e3", "1,5", "-", "inf"], [1000.0, None, None, float("inf")], [2, 3]),
        ("symbol", [" A ", "  ", "B"], ["A", None, "B"], []),
    ],
)
def test_values(name: str, values: list[object], expected: list[object], bad: list[int]) -> None:
    frame = read(values, Layout(), name)
    assert frame[name].to_list() == expected
    assert frame.filter(pl.col("rule") == "unreadable_value")["row"].to_list() == bad


def test_a_column_of_the_wrong_type_is_named() -> None:
    with pytest.raises(InvalidDataError, match="column price has type"):
        read([datetime(2013, 3, 1, tzinfo=UTC)], Layout(), "price")


def test_an_unknown_zone_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="America/Chicago"):
        Layout(timezone="America/Chicage")


@pytest.mark.parametrize("zone", ["Europe/London", "Asia/Tokyo", "America/New_York", "UTC"])
def test_the_date_of_a_moment_is_the_one_on_the_wall_there(zone: str) -> None:
    """London's summer midnight is 23:00 UTC of the day before: by that date, each bar would be known a session early."""
    days = [datetime(2012, 6, 5), datetime(2012, 12, 4), datetime(2012, 6, 5, 22)]  # noqa: DTZ001
    column = pl.Series("date", days).dt.replace_time_zone(zone)
    frame = pl.DataFrame({"row": pl.Series([1, 2, 3], dtype=pl.Int64), "date": column})
    read_in = read_columns(frame, "bars", Layout(), "test")
    assert read_in["date"].to_list() == [day.date() for day in days]
    assert read_in["rule"].null_count() == 3


@pytest.mark.parametrize(("form", "unit"), [("epoch_s", 1.0), ("epoch_ms", 1e3), ("epoch_us", 1e6), ("epoch_ns", 1e9)])
def test_fractions_of_typed_epochs_are_kept(form: str, unit: float) -> None:
    seconds = [1_377_900_000.75, 1_377_900_001.0, -0.5, float("nan"), float("inf")]
    frame = read([value * unit for value in seconds], Layout(time_format=form))
    assert frame["event_timestamp"].dt.epoch("us").to_list() == [1_377_900_000_750_000, 1_377_900_001_000_000, -500_000, None, None]  # fmt: skip
    assert frame.filter(pl.col("rule") == "unreadable_value")["row"].to_list() == [4, 5]
