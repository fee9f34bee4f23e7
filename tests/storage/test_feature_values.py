"""Ad-hoc values, enhancements, metrics and tiers: written once, corrected by new rows, read as of a moment."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pyarrow as pa
import pytest
from psycopg.types.json import Jsonb
from tapeline.core.clock import ReplayClock
from tapeline.core.errors import InvalidDataError, LimitError, NaiveTimestampError, ParameterError, UnknownNameError
from tapeline.core.timestamps import to_us
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.point_in_time import as_of_join
from tapeline.storage.feature_values import (
    VALUES_MAX,
    append_enhancements,
    append_feature_values,
    append_metrics,
    enhancement_query,
    entity_text,
    pivot_query,
)
from tapeline.storage.migrations import migrate
from tapeline.storage.tiers import UserTier, read_tier, read_tiers, write_tier

START = datetime(2013, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
UTC_US = pa.timestamp("us", tz="UTC")
LATER = ReplayClock(to_us(START + 100 * HOUR))


def rows(
    hours: list[int], scores: list[float | None], notes: list[str | None] | None = None, symbol: str | None = "AAPL"
) -> pa.Table:
    data = {
        "symbol": pa.array([symbol] * len(hours), pa.string()),
        "event_timestamp": pa.array([START + hour * HOUR for hour in hours], UTC_US),
        "score": pa.array(scores, pa.float64()),
    }
    if notes is not None:
        data["note"] = pa.array(notes, pa.string())
    return pa.table(data)


def selection(query: str, features: tuple[str, ...], join_keys: tuple[str, ...] = ("symbol",)) -> ViewSelection:
    return ViewSelection(
        view="adhoc", version=1, table=f"({query})", entity_columns=join_keys, join_keys=join_keys,
        features=features, output_names=features,
    )  # fmt: skip


def joined(
    connection: psycopg.Connection, one: ViewSelection, hours: list[float], **keys: str
) -> list[dict[str, object]]:
    entity_rows = pa.table(
        {name: [value] * len(hours) for name, value in (keys or {"symbol": "AAPL"}).items()}
        | {"event_timestamp": pa.array([START + hour * HOUR for hour in hours], UTC_US)}
    )
    found = as_of_join(connection, [one], entity_rows).select(list(one.output_names)).to_pylist()
    connection.commit()
    return found


def test_values_are_written_once_and_corrected_by_new_rows(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    with psycopg.connect(url) as connection:
        migrate(connection)
        table = rows([0, 1, 2], [1.5, math.nan, None], ["a", None, "c"])
        first = append_feature_values(connection, "notes", table)
        assert (first.added, first.corrections, first.unchanged) == (3, 0, 0)
        again = append_feature_values(connection, "notes", table)
        assert (again.added, again.corrections, again.unchanged) == (0, 0, 3)
        changed = append_feature_values(connection, "notes", rows([0, 1], [1.5, 7.0], ["a", None]), clock=LATER)
        assert (changed.added, changed.corrections, changed.unchanged) == (0, 1, 1)
        stored = connection.execute(
            "SELECT event_timestamp, available_timestamp, feature, value, text_value FROM tapeline.feature_values"
            " WHERE event_timestamp = %s ORDER BY available_timestamp, feature",
            (START + HOUR,),
        ).fetchall()
        assert [row[1] for row in stored] == [START + HOUR] * 2 + [START + 100 * HOUR] * 2
        assert [row[2:] for row in stored[2:]] == [("note", None, None), ("score", 7.0, None)]


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        ({"a": 1.0, "b": None}, {"b": None, "a": 1.0}, False),
        ({"a": 1.0, "b": None}, {"a": 1.0}, True),
        ({"a": 1.0}, {"a": 1.0, "b": None}, True),
        ({"a": 1.0, "b": None}, {"a": 1.0, "c": None}, True),
        ({"a": "NaN"}, {"a": math.nan}, True),
        ({"a": "x"}, {"a": None}, True),
        ({"a": math.nan}, {"a": math.nan}, False),
        ({"a": True}, {"a": 1}, False),
        ({"value": 1.0, "entity": "x", "place": 2.0}, {"value": 1.0, "entity": "x", "place": 2.0}, False),
    ],
)
def test_the_features_of_a_row_are_compared_together(
    connection: psycopg.Connection, first: dict[str, object], second: dict[str, object], *, differs: bool
) -> None:
    keys = {"symbol": ["AAPL"], "event_timestamp": pa.array([START], UTC_US)}
    for features, expected in ((first, (1, 0)), (second, (0, int(differs)))):
        table = pa.table(keys | {name: [value] for name, value in features.items()})
        counts = append_feature_values(connection, "notes", table)
        assert (counts.added, counts.corrections) == expected
    newest = connection.execute(
        "SELECT feature FROM tapeline.feature_values WHERE created_timestamp ="
        " (SELECT max(created_timestamp) FROM tapeline.feature_values) ORDER BY 1"
    ).fetchall()
    assert [name for (name,) in newest] == sorted(second)


def test_a_first_sighting_is_available_after_the_lag_and_a_correction_from_its_arrival(
    connection: psycopg.Connection,
) -> None:
    said = rows([0], [1.0]).append_column("available_timestamp", pa.array([START], UTC_US))
    append_feature_values(connection, "notes", said, lag_us=60_000_000)
    append_feature_values(connection, "notes", rows([0, 1], [2.0, 3.0]), lag_us=60_000_000, clock=LATER)
    stored = connection.execute(
        "SELECT value, available_timestamp FROM tapeline.feature_values ORDER BY value"
    ).fetchall()
    minute = timedelta(minutes=1)
    assert stored == [(1.0, START), (2.0, START + 100 * HOUR), (3.0, START + HOUR + minute)]


def test_a_pivot_is_read_as_of_a_moment(connection: psycopg.Connection) -> None:
    append_feature_values(connection, "notes", rows([0, 2], [1.0, 2.0], ["a", "b"]), lag_us=60_000_000)
    append_feature_values(connection, "notes", rows([2], [5.0], ["b"]), clock=LATER)
    append_feature_values(connection, "notes", rows([1], [9.0], ["z"], symbol="IBM"))
    append_feature_values(connection, "other", rows([1], [8.0], ["y"]))
    view = selection(pivot_query("notes", ["score", "note"], texts=["note"]), ("score", "note"))
    assert joined(connection, view, [0, 1, 2, 3, 100, 200]) == [
        {"score": None, "note": None},
        {"score": 1.0, "note": "a"},
        {"score": 1.0, "note": "a"},
        {"score": 2.0, "note": "b"},
        {"score": 5.0, "note": "b"},
        {"score": 5.0, "note": "b"},
    ]


def test_composite_keys_do_not_run_into_each_other(connection: psycopg.Connection) -> None:
    times = pa.array([START] * 3, UTC_US)
    append_feature_values(
        connection,
        "flows",
        pa.table({"symbol": ["A", "AB", "A"], "venue": ["BC", "C", "X"], "event_timestamp": times, "flow": [1, 2, 3]}),
        join_keys=("venue", "symbol"),
    )
    view = selection(pivot_query("flows", ["flow"], join_keys=("symbol", "venue")), ("flow",), ("symbol", "venue"))
    for symbol, venue, flow in (("A", "BC", 1.0), ("AB", "C", 2.0), ("A", "X", 3.0), ("AB", "X", None)):
        assert joined(connection, view, [1], symbol=symbol, venue=venue) == [{"flow": flow}]
    assert entity_text({"venue": "C", "symbol": "A"}) == entity_text({"symbol": "A", "venue": "C"})


def test_a_lookup_reads_only_the_key_index(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO tapeline.feature_values (namespace, feature, entity, event_timestamp, available_timestamp, value)"
        " SELECT 'big', f, 'S' || s, t, t, 1 FROM unnest(ARRAY['a', 'b']) f, generate_series(1, 20) s,"
        " generate_series(%s::timestamptz, %s, interval '1 hour') t",
        (START, START + 500 * HOUR),
    )
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE tapeline.feature_values")
    query = pivot_query("big", ["a", "b"])
    plan = "\n".join(
        line
        for (line,) in connection.execute(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT * FROM ({query}) s WHERE s.symbol = 'S7'"
            " AND s.event_timestamp <= '2013-03-10+00' AND s.available_timestamp <= '2013-03-10+00'"
            " ORDER BY event_timestamp DESC, sequence DESC, available_timestamp DESC, created_timestamp DESC LIMIT 1"
        )
    )
    assert "Index Only Scan using feature_values_key" in plan, plan
    assert "Heap Fetches: 0" in plan


@pytest.mark.parametrize(
    ("table", "error", "complaint"),
    [
        (rows([0], [1.0]).drop_columns(["event_timestamp"]), InvalidDataError, "lack event_timestamp"),
        (rows([0], [1.0]).drop_columns(["score"]), ParameterError, "no feature"),
        (rows([0], [1.0]).rename_columns(["symbol", "event_timestamp", "Score"]), ParameterError, "Score"),
        (rows([0, 0], [1.0, 2.0]), InvalidDataError, "twice"),
        (rows([0], [1.0], ["x" * 1001]), InvalidDataError, "refused"),
        (rows([0], [1.0]).append_column("day", pa.array([START.date()])), InvalidDataError, "day holds date32"),
        (rows([0], [1.0]).append_column("big", pa.array([2**53 + 1])), InvalidDataError, "big does not fit"),
        (rows([0], [1.0], symbol=None), InvalidDataError, "symbol has no value"),
        (
            rows([0], [1.0]).append_column("available_timestamp", pa.array([START - HOUR], UTC_US)),
            InvalidDataError,
            "before its event",
        ),
        (
            rows([0], [1.0]).set_column(1, "event_timestamp", pa.array([0], pa.timestamp("us"))),
            NaiveTimestampError,
            "time zone",
        ),
    ],
)
def test_bad_rows_are_refused_whole(
    connection: psycopg.Connection, table: pa.Table, error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        append_feature_values(connection, "notes", table)
    assert connection.execute("SELECT count(*) FROM tapeline.feature_values").fetchone() == (0,)


def test_names_and_sizes_are_limited(connection: psycopg.Connection) -> None:
    with pytest.raises(ParameterError, match="namespace"):
        append_feature_values(connection, "No", rows([0], [1.0]))
    with pytest.raises(ParameterError, match="'a\\) OR true'"):
        pivot_query("notes", ["a) OR true"])
    long = pa.table({"symbol": ["A"] * (VALUES_MAX + 1), "event_timestamp": pa.array([START] * (VALUES_MAX + 1), UTC_US),
                     "x": pa.nulls(VALUES_MAX + 1, pa.float64())})  # fmt: skip
    with pytest.raises(LimitError):
        append_feature_values(connection, "notes", long)


def test_enhancements_are_kept_by_producer_and_version(connection: psycopg.Connection) -> None:
    def table(value: float, version: str) -> pa.Table:
        return pa.table(
            {
                "name": ["regime"], "entity": ["AAPL"], "event_timestamp": pa.array([START], UTC_US), "value": [value],
                "producer": ["hmm"], "producer_version": [version],
            }
        )  # fmt: skip

    for value, version in ((1.0, "1.0.0"), (2.0, "2.0.0"), (2.0, "2.0.0")):
        append_enhancements(connection, table(value, version))
    for version, value in (("1.0.0", 1.0), ("2.0.0", 2.0), ("3.0.0", None)):
        view = selection(enhancement_query("regime", "hmm", version), ("regime",))
        assert joined(connection, view, [-1, 1]) == [{"regime": None}, {"regime": value}]
    assert connection.execute("SELECT count(*) FROM tapeline.enhancement_values").fetchone() == (2,)


def test_metrics_belong_to_registered_models(connection: psycopg.Connection) -> None:
    table = pa.table(
        {
            "model": ["up"], "version": ["1.0.0"], "metric": ["brier"], "value": [0.24], "sample_size": [500],
            "window_start": pa.array([START], UTC_US), "event_timestamp": pa.array([START + 24 * HOUR], UTC_US),
        }
    )  # fmt: skip
    with pytest.raises(InvalidDataError, match="performance_metrics"):
        append_metrics(connection, table)
    add_model(connection)
    assert [append_metrics(connection, table).added for _ in range(2)] == [1, 0]
    corrected = table.set_column(3, "value", pa.array([0.25]))
    assert append_metrics(connection, corrected).corrections == 1


def test_predictions_are_the_served_ones_by_output(connection: psycopg.Connection) -> None:
    add_model(connection)
    requests = [uuid.uuid4() for _ in range(3)]
    for request, version, prediction in zip(
        requests, ("1.0.0", "9.9.9", "1.0.0"), ([0.7, 1.2], [0.1], []), strict=True
    ):
        connection.execute(
            "INSERT INTO tapeline.served_vectors VALUES (%s, 'AAPL', 'up', %s, 'x', now(), %s, now(), '', '', %s, '[]')",
            (request, version, START, prediction),
        )
    found = connection.execute(
        "SELECT request_id, entity, output, value, model_version, event_timestamp FROM tapeline.predictions ORDER BY value"
    ).fetchall()
    assert found == [
        (requests[1], "AAPL", "output_1", 0.1, "9.9.9", START),
        (requests[0], "AAPL", "probability", 0.7, "1.0.0", START),
        (requests[0], "AAPL", "score", 1.2, "1.0.0", START),
    ]


def test_tiers_have_limits_that_the_database_checks(connection: psycopg.Connection) -> None:
    assert [tier.tier for tier in read_tiers(connection)] == ["free", "standard", "professional", "internal"]
    own = UserTier("desk", 5, 10, 20, 0, features_allowed=["daily@2:rsi_14", "trades"])
    write_tier(connection, own)
    write_tier(connection, own)
    assert read_tier(connection, "desk") == own
    assert own.allows_feature("daily", 2, "rsi_14")
    assert not own.allows_feature("daily", 1, "rsi_14")
    assert own.allows_feature("trades", 7, "anything")
    for wrong in (
        UserTier("desk", -1, 10, 20, 0),
        UserTier("desk", 5, None, 20, 0),
        UserTier("desk", 5, 10, 0, 0),
        UserTier("desk", 5, 10, 20, -1),
        UserTier("desk", 5, 10, 20, 0, features_allowed=[]),
        UserTier("Desk", 5, 10, 20, 0),
    ):
        with pytest.raises(InvalidDataError, match="tier"):
            write_tier(connection, wrong)
    assert read_tier(connection, "desk") == own
    with pytest.raises(UnknownNameError, match="desk"):
        read_tier(connection, "dusk")


def add_model(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO tapeline.models (model, version, bundle_sha256, manifest, metrics) VALUES ('up', '1.0.0', 'x', %s, '{}')",
        (Jsonb({"outputs": ["probability", "score"]}),),
    )
    connection.commit()
