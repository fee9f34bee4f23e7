"""What is old goes, and nothing that somebody still needs; whoever needs it is named."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from tapeline.compute import backfill
from tapeline.core.errors import InvalidDataError, ParameterError, UnknownNameError
from tapeline.core.timestamps import DAY_US, from_us, to_us
from tapeline.datasets import Generated, export, rebuild
from tapeline.datasets.plan import RetrievalPlan, ViewSelection
from tapeline.storage.feature_matrix import feature_matrix
from tapeline.storage.migrations import migrate
from tapeline.storage.retention import (
    apply_retention,
    forget_dataset,
    plan_retention,
    retention_rules,
    set_retention,
)

from tests.conftest import _fresh_database
from tests.datasets.market import LAG_US, PLAN, SOURCE, SPEC, add_prices, sessions_from
from tests.support.session import SessionServers

NOW = datetime.now(UTC)
VIEW = "features.tiny__v1"
PLAN_ROWS = Generated(symbols=("AAA",), every="session", start_us=to_us("2012-09-03T00:00:00+00:00"), end_us=None)


def age(day: str) -> timedelta:
    """How long rows must be kept for those before a day to go."""
    return NOW - datetime.fromisoformat(f"{day}T00:00:00+00:00")


def fill(connection: psycopg.Connection) -> None:
    """Three years of two shares' sessions from 2010 on, back-filled in three runs, so that there are snapshots between."""
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us, calendar) VALUES (%s, 'bars', %s, 'XNYS')",
            (SOURCE, LAG_US),
        )
    sessions = sessions_from("2010-01-04", 750)
    random = np.random.default_rng(0)
    for begin in (0, 250, 500):
        part = type(sessions)("XNYS", sessions.open_us[begin : begin + 250], sessions.close_us[begin : begin + 250])
        for symbol in ("AAA", "BBB"):
            add_prices(connection, symbol, part, 50 + np.abs(np.cumsum(random.normal(size=250))))
        backfill(connection, SPEC)


@pytest.fixture(scope="module")
def filled(servers: SessionServers, _template: str) -> str:
    name = "tapeline_retention"
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {_template}")
    with psycopg.connect(servers.postgres_url(name)) as connection:
        fill(connection)
    return name


@pytest.fixture
def market(servers: SessionServers, filled: str) -> Iterator[psycopg.Connection]:
    """A database of this test's own with that market."""
    for url in _fresh_database(servers, filled):
        with psycopg.connect(url) as connection:
            yield connection


def events(connection: psycopg.Connection, table: str) -> tuple[str, int]:
    row = connection.execute(f"SELECT min(event_timestamp)::date::text, count(*) FROM {table}").fetchone()
    connection.commit()
    assert row is not None
    return row


def test_old_rows_go_and_what_is_newer_stays(market: psycopg.Connection) -> None:
    before = market.execute(f"SELECT * FROM {VIEW} WHERE event_timestamp >= '2011-06-01' ORDER BY symbol, 2").fetchall()
    market.commit()
    set_retention(market, VIEW, age("2011-06-01"))
    planned = plan_retention(market, VIEW, age("2011-06-01"))
    done = apply_retention(market, VIEW)
    assert done.dropped > 0
    assert planned.drop_before_us is not None
    assert done.dropped_before_us is not None
    assert done.dropped_before_us <= to_us("2011-06-01T00:00:00+00:00")
    left = market.execute(f"SELECT * FROM {VIEW} WHERE event_timestamp >= '2011-06-01' ORDER BY symbol, 2").fetchall()
    market.commit()
    assert repr(left) == repr(before)
    assert events(market, VIEW)[0] > "2010-12-01", "as far as the states' last snapshots before the cutoff"
    assert apply_retention(market, VIEW).dropped == 0


def test_a_data_set_keeps_what_it_was_made_of(market: psycopg.Connection, tmp_path: Path) -> None:
    manifest = export(
        market, PLAN, Generated(symbols=None, every="session", start_us=to_us("2010-06-01T00:00:00+00:00"), end_us=None),
        tmp_path / "set", labels="direction:5d",
    )  # fmt: skip
    name = f"data set {manifest.content_sha256[:12]} ({PLAN.service})"
    first_us = to_us(manifest.first_event)
    for table, look_back_us in ((VIEW, SPEC.ttl_us), ("tapeline.bars", 60 * DAY_US)):
        set_retention(market, table, age("2012-06-01"))
        plan = plan_retention(market, table, age("2012-06-01"))
        need = next(need for need in plan.needs if need.kind == "data set")
        assert need.from_us == first_us - look_back_us
        done = apply_retention(market, table)
        assert name in done.held_by
        assert done.dropped_before_us == plan.drop_before_us == first_us - look_back_us
    assert rebuild(market, tmp_path / "set").same
    assert forget_dataset(market, manifest.content_sha256[:10]) == manifest.content_sha256
    assert plan_retention(market, VIEW, age("2012-06-01")).needs == tuple(
        need for need in plan_retention(market, VIEW, age("2012-06-01")).needs if need.kind != "data set"
    )
    assert apply_retention(market, VIEW).dropped > 0
    assert not rebuild(market, tmp_path / "set").same


def test_a_query_that_names_the_table_keeps_all_of_it(market: psycopg.Connection, tmp_path: Path) -> None:
    selection = ViewSelection(
        view="tiny", version=1, table=f"(SELECT * FROM {VIEW})", entity_columns=("symbol",), join_keys=("symbol",),
        features=SPEC.columns, output_names=SPEC.columns, ttl_us=SPEC.ttl_us,
    )  # fmt: skip
    export(market, RetrievalPlan("by_query", (selection,)), PLAN_ROWS, tmp_path / "set")
    plan = plan_retention(market, VIEW, age("2012-06-01"))
    assert [need.from_us for need in plan.needs if need.kind == "data set"] == [None]
    assert plan.drop_before_us is None
    set_retention(market, VIEW, age("2012-06-01"))
    assert apply_retention(market, VIEW).dropped == 0
    assert apply_retention(market, VIEW).dropped_before_us is None


def test_a_model_in_use_keeps_its_data_set_and_what_it_reads(market: psycopg.Connection, tmp_path: Path) -> None:
    manifest = export(market, PLAN, PLAN_ROWS, tmp_path / "set")
    views = [{"view": "tiny", "version": 1, "ttl_us": 0}]
    with market.transaction():
        market.execute(
            "INSERT INTO tapeline.models (model, version, bundle_sha256, dataset_sha256, manifest, metrics)"
            " VALUES ('up', '1.0.0', 'x', %s, %s, '{}'), ('up', '2.0.0', 'x', NULL, %s, '{}')",
            (manifest.content_sha256, Jsonb({"views": views}), Jsonb({"views": []})),
        )
        market.execute("INSERT INTO tapeline.model_aliases (model, alias, version) VALUES ('up', 'champion', '1.0.0')")
    with pytest.raises(ParameterError, match=r"trained up@1\.0\.0"):
        forget_dataset(market, manifest.content_sha256)
    plan = plan_retention(market, VIEW, age("2012-06-01"))
    assert ("model", "up@1.0.0", None) in [(need.kind, need.name, need.from_us) for need in plan.needs]
    with market.transaction():
        market.execute("INSERT INTO tapeline.model_aliases (model, alias, version) VALUES ('up', 'champion', '2.0.0')")
    forget_dataset(market, manifest.content_sha256)
    assert {need.kind for need in plan_retention(market, VIEW, age("2012-06-01")).needs} <= {"state"}


def test_features_go_on_over_dropped_raw_rows_as_if_they_were_there(
    market: psycopg.Connection, servers: SessionServers, filled: str
) -> None:
    """A correction of what is still taken gives, after retention, the very rows that it gives without."""
    dropped = market
    for url in _fresh_database(servers, filled):
        whole = psycopg.connect(url)
        set_retention(dropped, "tapeline.bars", age("2011-09-01"))
        assert apply_retention(dropped, "tapeline.bars").dropped > 100
        assert events(dropped, "tapeline.bars")[0] > "2010-06-01"
        corrected = sessions_from("2011-11-01", 1)
        for connection in (dropped, whole):
            add_prices(connection, "AAA", corrected, np.array([77.0]))
            assert backfill(connection, SPEC).rows_added > 100
        assert newest_since(dropped, "2011-09-01") == newest_since(whole, "2011-09-01")
        whole.close()


def test_a_raw_row_that_would_need_what_was_dropped_is_refused(market: psycopg.Connection) -> None:
    set_retention(market, "tapeline.bars", age("2011-09-01"))
    apply_retention(market, "tapeline.bars")
    with pytest.raises(InvalidDataError, match="retention"):
        add_prices(market, "AAA", sessions_from("2011-08-01", 1), np.array([1.0]))
    add_prices(market, "AAA", sessions_from("2011-10-03", 1), np.array([1.0]))


def test_rows_that_no_state_has_seen_stay(market: psycopg.Connection) -> None:
    add_prices(market, "NEW", sessions_from("2010-02-01", 5), np.arange(5) + 1.0)
    plan = plan_retention(market, "tapeline.bars", age("2012-06-01"))
    assert plan.drop_before_us is not None
    assert from_us(plan.drop_before_us).date().isoformat() == "2010-02-01"
    assert [(need.kind, need.name) for need in plan.needs] == [("state", "tiny@1")]


def test_the_newest_rows_follow(market: psycopg.Connection) -> None:
    with market.transaction():
        market.execute(f"DELETE FROM {VIEW} WHERE symbol = 'BBB' AND event_timestamp >= '2010-06-01'")
        market.execute("DELETE FROM latest.tiny__v1 WHERE symbol = 'BBB'")
        market.execute("SELECT tapeline.renew_latest('features.tiny__v1', ARRAY['BBB'], '-infinity')")
        market.execute("DELETE FROM tapeline.state_snapshots WHERE entity = 'BBB' AND event_timestamp >= '2010-06-01'")
        market.execute(
            "INSERT INTO tapeline.state_snapshots SELECT view, version, 'BBB', '2010-06-01', 0, '2010-06-01', '2010-06-01',"
            " now(), plan_hash, 1, state FROM tapeline.state_snapshots WHERE entity = 'AAA' LIMIT 1"
        )
    at_us = to_us("2010-06-02T00:00:00+00:00")
    assert feature_matrix(market, "tiny", ["BBB"], at_us=at_us).found.tolist() == [True]
    set_retention(market, VIEW, age("2011-06-01"))
    assert apply_retention(market, VIEW).dropped > 0
    assert feature_matrix(market, "tiny", ["BBB"], at_us=at_us).found.tolist() == [False]
    assert market.execute("SELECT symbol FROM latest.tiny__v1").fetchall() == [("AAA",)]


def test_rules_are_checked_and_can_be_removed(connection: psycopg.Connection) -> None:
    with pytest.raises(UnknownNameError, match=r"tapeline\.trades"):
        set_retention(connection, "tapeline.trade", timedelta(days=1))
    with pytest.raises(ParameterError, match="no retention"):
        set_retention(connection, "tapeline.models", timedelta(days=1))
    with pytest.raises(ParameterError, match="positive"):
        set_retention(connection, "tapeline.trades", timedelta(0))
    with pytest.raises(ParameterError, match="tapeline retention set"):
        apply_retention(connection, "tapeline.trades")
    with pytest.raises(UnknownNameError):
        forget_dataset(connection, "0" * 64)
    set_retention(connection, "tapeline.trades", timedelta(days=700))
    set_retention(connection, "tapeline.trades", timedelta(days=800))
    assert retention_rules(connection) == {"tapeline.trades": timedelta(days=800)}
    set_retention(connection, "tapeline.trades", None)
    assert retention_rules(connection) == {}


def test_every_edition_drops_by_its_own_means(edition_database: tuple[str, str]) -> None:
    edition, url = edition_database
    with psycopg.connect(url) as connection:
        migrate(connection)
        connection.execute(
            "INSERT INTO tapeline.trades (source, symbol, event_timestamp, available_timestamp, sequence, price, size)"
            " SELECT 'ticks', 'ES', t, t, 0, 1, 1 FROM generate_series(%s, %s, interval '1 day') t",
            (NOW - timedelta(days=400), NOW),
        )
        connection.commit()
        set_retention(connection, "tapeline.trades", timedelta(days=100))
        if edition == "community":
            run_retention(connection, "tapeline.trades")
        else:
            assert apply_retention(connection, "tapeline.trades").dropped > (100 if edition == "none" else 5)
        first, count = (
            connection.execute("SELECT now() - min(event_timestamp), count(*) FROM tapeline.trades").fetchone() or ()
        )
        assert timedelta(days=99) < first < timedelta(days=102 if edition == "none" else 131)
        assert 99 <= count <= 131


@pytest.mark.edition("community")
def test_a_bare_policy_comes_under_the_guard(community_database: str) -> None:
    with psycopg.connect(community_database) as connection:
        migrate(connection)
        connection.execute("SELECT add_retention_policy('tapeline.trades', interval '3 years')")
        connection.commit()
        migrate(connection)
        assert retention_rules(connection) == {
            "tapeline.served_vectors": timedelta(days=365),
            "tapeline.trades": timedelta(days=3 * 365),
        }
        jobs = connection.execute(
            "SELECT proc_name, config ->> 'table' FROM timescaledb_information.jobs WHERE proc_name IN ('policy_retention', 'retention_job')"
            " ORDER BY 2"
        ).fetchall()
        assert jobs == [("retention_job", "tapeline.served_vectors"), ("retention_job", "tapeline.trades")]


def run_retention(connection: psycopg.Connection, table: str) -> None:
    """Do now what Community's scheduler does each day."""
    row = connection.execute(
        "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'retention_job' AND config ->> 'table' = %s",
        (table,),
    ).fetchone()
    assert row is not None
    connection.commit()
    connection.autocommit = True
    connection.execute(f"CALL run_job({row[0]})")
    connection.autocommit = False


def newest_since(connection: psycopg.Connection, day: str) -> str:
    rows = connection.execute(
        f"SELECT DISTINCT ON (symbol, event_timestamp) symbol, event_timestamp, sequence, sma_3, rsi_4 FROM {VIEW}"
        " WHERE event_timestamp >= %s::timestamptz"
        " ORDER BY symbol, event_timestamp, available_timestamp DESC, created_timestamp DESC",
        (day,),
    ).fetchall()
    connection.commit()
    assert len(rows) > 500
    return repr(rows)
