"""Statistics of a day against plain sums over the same values; packed, added up, and kept in the database."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tapeline.compute import backfill
from tapeline.core.errors import EmptyDataError, IntegrityError, ParameterError, UnknownNameError
from tapeline.core.timestamps import DAY_US, from_us
from tapeline.features.view import FeatureViewSpec
from tapeline.quality.daily import ViewTable, day_of, read_days, reference, refresh
from tapeline.quality.distances import distances
from tapeline.quality.statistics import FeatureStatistics, added, decode, encode, statistics_of
from tapeline.storage.feature_tables import qualified_name, registered_views
from tapeline.storage.migrations import migrate

from tests.compute.oracle import BARS, FIRST_US, Row, Scenario, bar_scenario, record

_NUMBERS = itertools.count()
CELLS = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0]), st.floats(-1e6, 1e6, allow_subnormal=False)
)
MATRICES = hnp.arrays(np.float64, st.tuples(st.integers(1, 25), st.just(3)), elements=CELLS)


def plain(values: np.ndarray, nulls: np.ndarray, place: int) -> dict[str, float]:
    """One feature's statistics by the book, exactly."""
    cells = [None if null else float(value) for value, null in zip(values[:, place], nulls[:, place], strict=True)]
    finite = [cell for cell in cells if cell is not None and math.isfinite(cell)]
    mean = math.fsum(finite) / len(finite) if finite else math.nan
    return {
        "null": cells.count(None),
        "nan": sum(cell is not None and math.isnan(cell) for cell in cells),
        "inf": sum(cell is not None and math.isinf(cell) for cell in cells),
        "count": len(finite),
        "mean": mean,
        "std": math.sqrt(math.fsum((x - mean) ** 2 for x in finite) / (len(finite) - 1))
        if len(finite) > 1
        else math.nan,
        "min": min(finite, default=math.nan),
        "max": max(finite, default=math.nan),
    }


def figures(one: FeatureStatistics, place: int) -> dict[str, float]:
    return {
        "null": one.nulls[place],
        "nan": one.nans[place],
        "inf": one.infinite[place],
        "count": one.values[place],
        "mean": one.mean[place],
        "std": one.deviation[place],
        "min": one.least[place],
        "max": one.most[place],
    }


def same(one: FeatureStatistics, other: FeatureStatistics) -> bool:
    return encode(one) == encode(other)


@settings(deadline=None)
@given(MATRICES, st.integers(0, 2**25))
def test_statistics_are_those_of_a_plain_sum_and_survive_packing(values: np.ndarray, mask: int) -> None:
    nulls = np.array([mask >> row & 1 for row in range(len(values))], dtype=np.bool_)[:, None]
    one = statistics_of(values, nulls)
    for place in range(3):
        expected = plain(values, np.broadcast_to(nulls, values.shape), place)
        assert figures(one, place) == pytest.approx(expected, rel=1e-9, abs=1e-7, nan_ok=True)
        assert one.histogram(place)[1].sum() == expected["count"]
    assert same(decode(encode(one), 3), one)


@settings(deadline=None)
@given(st.lists(MATRICES, min_size=1, max_size=4))
def test_parts_added_up_are_the_whole(parts: list[np.ndarray]) -> None:
    none = [np.zeros((len(part), 1), np.bool_) for part in parts]
    whole = statistics_of(np.concatenate(parts), np.concatenate(none))
    summed = added([statistics_of(part, null) for part, null in zip(parts, none, strict=True)])
    for place in range(3):
        assert figures(summed, place) == pytest.approx(figures(whole, place), rel=1e-9, abs=1e-6, nan_ok=True)
        for one, other in zip(summed.histogram(place), whole.histogram(place), strict=True):
            assert one.tolist() == other.tolist()


def test_a_large_mean_takes_nothing_from_the_spread() -> None:
    values = 1e12 + np.array([[0.0], [1.0], [2.0]])
    assert statistics_of(values, np.zeros((3, 1), np.bool_)).deviation[0] == 1.0


def test_damaged_statistics_are_refused() -> None:
    data = encode(statistics_of(np.ones((2, 3)), np.zeros((2, 1), np.bool_)))
    for broken in (data[:-1], data + b"x", data[:10], b"nope" + data[4:]):
        with pytest.raises(IntegrityError):
            decode(broken, 3)
    with pytest.raises(IntegrityError, match="of 3 features cannot be those of 4"):
        decode(data, 4)
    with pytest.raises(ParameterError, match="cannot be added"):
        added([])


def recomputed(connection: psycopg.Connection, spec: FeatureViewSpec) -> dict[str, FeatureStatistics]:
    """Day → statistics, by a dictionary over the table's rows."""
    newest: dict[tuple, tuple] = {}
    columns = ", ".join(spec.columns)
    query = (
        f"SELECT event_timestamp, symbol, sequence, available_timestamp, created_timestamp, {columns}"
        f" FROM {qualified_name(spec)} ORDER BY available_timestamp, created_timestamp"
    )
    for row in connection.execute(query):
        newest[(row[0], row[2], row[1])] = row[5:]
    days: dict[str, list[tuple]] = {}
    for key in sorted(newest):
        days.setdefault(str(key[0].astimezone(UTC).date()), []).append(newest[key])
    found = {}
    for day, rows in days.items():
        nulls = np.array([[cell is None for cell in row] for row in rows])
        values = np.array([[math.nan if cell is None else cell for cell in row] for row in rows], dtype=np.float64)
        found[day] = statistics_of(values, nulls)
    return found


def table_of(connection: psycopg.Connection, spec: FeatureViewSpec) -> ViewTable:
    with connection.transaction():
        return next(ViewTable.of(connection, one) for one in registered_views(connection) if one.view == spec.name)


def is_registered(connection: psycopg.Connection) -> bool:
    with connection.transaction():
        return bool(registered_views(connection))


def stale(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM tapeline.stale_statistics").fetchone()
    connection.commit()
    return row[0]


@given(seed=st.integers(0, 100_000), refreshed=st.lists(st.booleans(), min_size=3, max_size=3))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kept_statistics_are_those_of_the_table_however_the_rows_came(
    connection: psycopg.Connection, seed: int, refreshed: list[bool]
) -> None:
    rng = np.random.default_rng(seed)
    scenario = bar_scenario(f"S{next(_NUMBERS)}", rng, runs=3)
    for run in range(3):
        record(connection, BARS, [scenario], run)
        if any(row.run <= run for row in scenario.rows):
            backfill(connection, BARS)
        if refreshed[run] and is_registered(connection):
            refresh(connection, table_of(connection, BARS))
    if not is_registered(connection):
        return
    table = table_of(connection, BARS)
    kept = {str(day): one for day, one in read_days(connection, table)}
    expected = recomputed(connection, BARS)
    connection.commit()
    assert kept.keys() == expected.keys()
    assert all(same(kept[day], expected[day]) for day in expected)
    assert stale(connection) == 0
    assert refresh(connection, table) == 0  # and again: nothing to do


def history(symbol: str, days: int, run: int = 0, close: float = 100.0) -> Scenario:
    rng = np.random.default_rng(5)
    rows = []
    for day in range(days):
        event_us = FIRST_US + day * DAY_US
        price = close + float(rng.normal())
        values = (float(event_us - DAY_US // 4), price - 0.5, price + 1, price - 1, price, float(rng.integers(1, 99)))
        rows.append(Row(run, event_us, 0, event_us + 60, False, values))
    return Scenario(symbol, tuple(rows), ())


def test_a_refresh_killed_half_way_is_taken_up_again(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(connection, BARS, [history("A", 30)], 0)
    backfill(connection, BARS)
    table = table_of(connection, BARS)
    connection.commit()
    calls = []

    def die(days: int) -> None:
        calls.append(days)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tapeline.quality.daily.CELLS_MAX", 40)  # ten days of one symbol and four features
        with pytest.raises(KeyboardInterrupt):
            refresh(connection, table, die)
        assert calls == [10]
        assert stale(connection) == 1
        assert refresh(connection, table) == 30
    expected = recomputed(connection, BARS)
    connection.commit()
    assert {str(day): encode(one) for day, one in read_days(connection, table)} == {
        day: encode(one) for day, one in expected.items()
    }


def test_spans_and_distances_and_names(connection: psycopg.Connection) -> None:
    record(connection, BARS, [history("A", 60), history("B", 60, close=200.0)], 0)
    backfill(connection, BARS)
    table = table_of(connection, BARS)
    connection.commit()
    first, middle, last = (from_us(FIRST_US + day * DAY_US).date() for day in (0, 30, 60))
    whole, past, present = (
        reference(connection, table),
        *(reference(connection, table, start, end) for start, end in ((first, middle), (middle, last))),
    )
    assert (whole.rows, past.rows, present.rows) == (120, 60, 60)
    place = table.place_of("ema_2")
    near = distances(past, present, place)
    assert near["psi"] < 0.5
    assert near["ks"] < 0.3
    alone = [one for _, one in read_days(connection, table)]
    assert same(added(alone), whole)
    assert distances(past, past, place)["psi"] == distances(past, past, place)["wasserstein"] == 0
    with pytest.raises(EmptyDataError, match="no rows from 2020"):
        reference(connection, table, day_of("2020-01-01"))
    with pytest.raises(ParameterError, match="no day lies"):
        read_days(connection, table, middle, middle)
    with pytest.raises(UnknownNameError, match="ema_2"):
        table.place_of("ema_3")
    assert day_of("2013-03-01T23:30:00-02:00") == datetime(2013, 3, 2, tzinfo=UTC).date()


def test_statistics_are_kept_on_every_edition(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    spec = BARS
    with psycopg.connect(url) as connection:
        migrate(connection)
        record(connection, spec, [history("A", 40)], 0)
        backfill(connection, spec)
        table = table_of(connection, spec)
        connection.commit()
        assert refresh(connection, table) == 40
        days = read_days(connection, table)
        expected = recomputed(connection, spec)
        assert [(str(day), encode(one)) for day, one in days] == [(day, encode(one)) for day, one in expected.items()]
        assert days[-1][0] - days[0][0] == timedelta(days=39)
