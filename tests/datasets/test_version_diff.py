"""What two versions of a view differ in, against the same counted in plain Python over the same rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from tapeline.cli import build_app
from tapeline.core.errors import ParameterError, UnknownNameError, VersionStateError
from tapeline.core.settings import Settings
from tapeline.core.timestamps import DAY_US, to_us
from tapeline.datasets.version_diff import definition_changes, diff_versions
from tapeline.datasets.version_difference import VersionDiff
from tapeline.features.request import FeatureRequest
from tapeline.storage.feature_tables import register_view, registered_views
from tapeline.storage.migrations import migrate
from tapeline.storage.view_decisions import promote, retire, rollback
from tapeline.storage.view_versions import promoted_versions, require_usable
from typer.testing import CliRunner

from tests.feast_ext.versioned_world import V1, V2, process_settings

Connection = psycopg.Connection[Any]
START = datetime(2013, 1, 1, 21, tzinfo=UTC)
ROWS = 400
ODD = [math.nan, None, 0.0, -0.0, math.inf, -math.inf, 1.5]


def insert(connection: Connection, table: str, columns: tuple[str, ...], rows: list[tuple]) -> None:
    """Rows of symbol, day, sequence, minutes until available, values."""
    names = ", ".join(("symbol", "event_timestamp", "sequence", "available_timestamp", *columns))
    marks = ", ".join(["%s"] * (4 + len(columns)))
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO features.{table} ({names}) VALUES ({marks})",
            [
                (symbol, START + timedelta(days=day), sequence, START + timedelta(days=day, minutes=late), *values)
                for symbol, day, sequence, late, *values in rows
            ],
        )


@pytest.fixture
def rows(connection: Connection) -> tuple[list[tuple], list[tuple]]:
    """Both versions' tables, with odd values, corrections and rows that only one has."""
    random = np.random.default_rng(5)
    tables: tuple[list[tuple], list[tuple]] = ([], [])
    for spec, table, shift in ((V1, tables[0], 0.0), (V2, tables[1], 0.5)):
        register_view(connection, spec)
        base = np.random.default_rng(1).normal(size=ROWS)
        for number in range(ROWS):
            symbol, day = ("AAA", "BBB", "CCC")[number % 3], number // 3
            average = float(base[number]) + (shift if number % 4 == 0 else 0.0)
            if number % 10 == 3:
                average = ODD[int(random.integers(len(ODD)))]
            values = {"sma_3": average, "rsi_4": 1.0, "mom_2": 2.0}
            table.append((symbol, day, number % 2, 15, *(values[column] for column in spec.columns)))
        # a correction, known later, that the comparison must take instead of the first sighting
        table.append(("AAA", 0, 0, 60, *((77.0 + shift if c == "sma_3" else 1.0) for c in spec.columns)))
    del tables[0][5]
    del tables[1][9:11]
    for spec, table in ((V1, tables[0]), (V2, tables[1])):
        insert(connection, spec.table, spec.columns, table)
    return tables


def newest(table: list[tuple], column: int) -> dict[tuple, float | None]:
    found: dict[tuple, tuple[int, float | None]] = {}
    for symbol, day, sequence, late, *values in table:
        key = (symbol, day, sequence)
        if key not in found or found[key][0] < late:
            found[key] = (late, values[column])
    return {key: value for key, (_, value) in found.items()}


def same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return (math.isnan(a) and math.isnan(b)) or np.float64(a).tobytes() == np.float64(b).tobytes()


def test_values_and_distributions_are_those_of_a_plain_count(
    connection: Connection, rows: tuple[list[tuple], list[tuple]]
) -> None:
    found = diff_versions(connection, ("small", 1), ("small", 2))
    before = newest(rows[0], V1.columns.index("sma_3"))
    after = newest(rows[1], V2.columns.index("sma_3"))
    keys = sorted(before.keys() & after.keys())
    assert (found.rows, found.only_before, found.only_after) == (
        len(keys),
        len(before) - len(keys),
        len(after) - len(keys),
    )
    assert (found.only_before, found.only_after) == (2, 1)
    assert (found.added, found.removed) == (("mom_2",), ("rsi_4",))
    (feature,) = found.features
    assert feature.feature == "sma_3"
    differing = [key for key in keys if not same(before[key], after[key])]
    assert (feature.equal, feature.different) == (len(keys) - len(differing), len(differing))
    finite = [key for key in differing if all(v is not None and math.isfinite(v) for v in (before[key], after[key]))]
    for largest, size in (
        (feature.largest_absolute, lambda a, b: abs(a - b)),
        (feature.largest_relative, lambda a, b: abs(a - b) / max(abs(a), abs(b)) if a or b else -1.0),
    ):
        best = max(finite, key=lambda key: (size(before[key], after[key]), [-ord(c) for c in key[0]], -key[1], -key[2]))
        assert largest is not None
        assert largest.difference == size(before[best], after[best])
        assert (largest.symbol, largest.event_us, largest.sequence) == (
            best[0],
            to_us(START) + best[1] * DAY_US,
            best[2],
        )
        assert (largest.before, largest.after) == (before[best], after[best])
    for side, values in ((feature.before, before), (feature.after, after)):
        common = [values[key] for key in keys]
        numbers = sorted(v for v in common if v is not None and not math.isnan(v))
        assert (side.rows, side.nulls) == (len(keys), common.count(None))
        assert side.nans == sum(v is not None and math.isnan(v) for v in common)
        for name, level in (("p01", 0.01), ("p50", 0.5), ("p99", 0.99)):
            assert side.quantiles[name] == numbers[max(math.ceil(level * len(numbers)) - 1, 0)]


def test_distances_tell_a_shift_from_none(connection: Connection) -> None:
    random = np.random.default_rng(0)
    sample = random.normal(size=2_000)
    for spec, shift in ((V1, 0.0), (V2, 0.5)):
        register_view(connection, spec)
        numbers = sample + shift
        insert(
            connection,
            spec.table,
            spec.columns,
            [("AAA", day, 0, 0, *(float(numbers[day]) for _ in spec.columns)) for day in range(len(sample))],
        )
    (feature,) = diff_versions(connection, ("small", 1), ("small", 2)).features
    exact = max(
        abs(np.searchsorted(np.sort(sample), v, "right") - np.searchsorted(np.sort(sample + 0.5), v, "right"))
        for v in np.concatenate([sample, sample + 0.5])
    ) / len(sample)
    assert exact - 1 / 200 <= feature.ks <= exact
    assert 0.15 < feature.psi < 0.4  # of two normal distributions half a deviation apart, 0.25
    assert feature.before.mean == pytest.approx(sample.mean())
    assert feature.after.std == pytest.approx(sample.std())
    (equal,) = diff_versions(connection, ("small", 2), ("small", 2 - 1), symbols=["NONE"]).features
    assert (equal.before.rows, equal.psi, equal.ks, equal.before.mean, equal.largest_absolute) == (
        0,
        None,
        None,
        None,
        None,
    )


def test_entities_and_times_are_chosen(connection: Connection, rows: tuple[list[tuple], list[tuple]]) -> None:
    def count(**chosen: Any) -> int:
        return diff_versions(connection, ("small", 1), ("small", 2), **chosen).rows

    whole = count()
    assert sum(count(symbols=[symbol]) for symbol in ("AAA", "BBB", "CCC")) == whole
    middle = to_us(START) + 50 * DAY_US
    assert count(end_us=middle) + count(start_us=middle + 1) == whole
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert connection.isolation_level is None


def test_many_columns_are_compared_some_at_a_time(connection: Connection) -> None:
    features = tuple(FeatureRequest.of("SMA", timeperiod=n) for n in range(2, 42))
    wide = [replace(V1, name="wide", version=v, features=features, dividends=v == 2) for v in (1, 2)]
    for spec in wide:
        register_view(connection, spec)
        numbers = [float(n + (spec.version == 2 and n in (7, 30))) for n in range(len(spec.columns))]
        insert(connection, spec.table, spec.columns, [("AAA", day, 0, 0, *numbers) for day in range(3)])
    done: list[int] = []
    found = diff_versions(connection, ("wide", 1), ("wide", 2), notify=done.append)
    assert done == [16, 16, 8]
    assert [f.feature for f in found.features] == list(wide[0].columns)
    assert {f.feature for f in found.features if f.different} == {wide[0].columns[7], wide[0].columns[30]}
    assert found.definition == ("prices are now adjusted for dividends",)


def test_definitions_are_told_apart(connection: Connection) -> None:
    later = replace(V2, ttl_us=DAY_US, description="Better", features=(FeatureRequest.of("SMA", timeperiod=5),))
    for spec in (V1, later):
        register_view(connection, spec)
    first, second = registered_views(connection)
    assert definition_changes(first, first) == ()
    changes = definition_changes(first, second)
    assert any(change.startswith("SMA(") and change.endswith("was removed") for change in changes)
    assert any(change.startswith("SMA(") and change.endswith("was added") for change in changes)
    assert "TTL in µs was 604800000000, is 86400000000" in changes
    assert "description was '', is 'Better'" in changes


def test_unknown_and_equal_versions_are_refused(connection: Connection) -> None:
    register_view(connection, V1)
    with pytest.raises(UnknownNameError, match="small@1"):
        diff_versions(connection, ("small", 1), ("small", 7))
    with pytest.raises(ParameterError, match="compared with itself"):
        diff_versions(connection, ("small", 1), ("small", 1))


def test_the_commands(settings: Settings, connection: Connection, rows: tuple[list[tuple], list[tuple]]) -> None:
    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(build_app(), ["versions", *arguments], env={"COLUMNS": "200"})
        if result.exception is not None:
            raise result.exception
        return json.loads(result.stdout) if "--json" in arguments else result.stdout

    with process_settings(settings):
        assert run("promote", "small@2", "--reason", "sharper", "--json") == {"view": "small", "before": 1, "after": 2}
        assert run("rollback", "small", "--json") == {"view": "small", "before": 2, "after": 1}
        assert run("retire", "small@v2", "--json")["state"] == "retired"
        listed = run("list", "small", "--json")
        assert [(row["version"], row["state"]) for row in listed["versions"]] == [(1, "promoted"), (2, "retired")]
        assert [row["decision"] for row in listed["history"]] == ["promote", "rollback", "retire"]
        assert listed["history"][0]["reason"] == "sharper"
        assert listed["history"][0]["by"]
        assert "small@2" in run("list")
        found = run("diff", "small@1", "small@2", "--entities", "AAA", "--start", "2013-01-02", "--json")
        api: VersionDiff = diff_versions(
            connection, ("small", 1), ("small", 2), symbols=["AAA"], start_us=to_us("2013-01-02T00:00:00+00:00")
        )
        assert found["rows"] == api.rows
        assert found["features"][0]["different"] == api.features[0].different
        text = run("diff", "small@1", "small@2")
        assert "sma_3" in text
        assert "MOM" in text
        for arguments in (("promote", "small"), ("diff", "small", "small@2")):
            with pytest.raises(ParameterError, match="names no version"):
                run(*arguments)


def test_under_every_edition(edition_database: tuple[str, str]) -> None:
    """Promotion, rollback, retirement and comparison over hypertables as over plain tables."""
    _, url = edition_database
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        migrate(connection)
        for spec in (V1, V2):
            register_view(connection, spec)
            average = spec.columns.index("sma_3")
            days = [
                ("AAA", day, 0, 15, *(float(day * (spec.version if c == average else 1)) for c in range(2)))
                for day in range(0, 120, 10)
            ]
            insert(connection, spec.table, spec.columns, days)
        (feature,) = diff_versions(connection, ("small", 1), ("small", 2)).features
        assert (feature.equal, feature.different) == (1, 11)  # zero is zero
        assert feature.largest_absolute is not None
        assert feature.largest_absolute.difference == 110.0
        promote(connection, "small", 2)
        assert promoted_versions(connection) == {"small": 2}
        assert rollback(connection, "small").after == 1
        retire(connection, "small", 2)
        with pytest.raises(VersionStateError, match="small@2 is retired"):
            require_usable(connection, [("small", 2)], where="test")
