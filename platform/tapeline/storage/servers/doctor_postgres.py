"""What the doctor asks the database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tapeline.core.errors import SchemaError
from tapeline.core.settings import Settings
from tapeline.storage.migrations import require_schema
from tapeline.storage.postgres import postgres_url
from tapeline.storage.servers.checks import Check, is_local, megabytes

_VERSION_MIN = (
    150000  # pg_stat_activity, date_trunc with a zone, and by_range of TimescaleDB 2.13+ are there from 15 on
)
_HORIZON_LAG_WARN_S = 600.0
_CLOCK_SKEW_WARN_S = 1.0
_CONNECTIONS_WARN = 0.8

_LAG_BEYOND_TTL = """
SELECT DISTINCT v.view, v.version, s.source, s.declared_lag_us, (v.definition->>'ttl_us')::bigint
FROM tapeline.feature_view_versions AS v
JOIN tapeline.sources AS s ON s.source = v.definition->'rows'->>'source'
WHERE (v.definition->>'ttl_us')::bigint BETWEEN 1 AND s.declared_lag_us
ORDER BY 1, 2
"""
_LAG_TOO_SHORT = """
SELECT s.source, s.declared_lag_us, count(*), count(*) FILTER (WHERE l.created_timestamp > l.available_timestamp)
FROM tapeline.sources AS s
CROSS JOIN LATERAL tapeline.live_sightings(s.source, now() - interval '14 days') AS l
WHERE s.kind IN ('bars', 'trades', 'quotes', 'book_events')
GROUP BY 1, 2 ORDER BY 1
"""
_OLDEST = """
SELECT pid, application_name, state, extract(epoch FROM clock_timestamp() - xact_start)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
ORDER BY xact_start LIMIT 1
"""


def examine_database(connection: psycopg.Connection[Any], settings: Settings) -> Iterator[Check]:
    """All checks of a database that answers.

    Parameters
    ----------
    connection
        In autocommit mode, so that one refused question does not spoil the next.
    settings
        Its address and the rest.
    """
    yield _version(connection)
    yield _transport(settings)
    yield from _durability(connection)
    yield _text(connection)
    yield _time_zone(settings)
    yield _clock(connection)
    yield _jit(connection)
    yield _connections(connection)
    yield _edition(connection)
    try:
        require_schema(connection)
    except SchemaError as error:
        yield Check("schema", "fail", error.what, error.remedy)
        return
    yield Check("schema", "ok", "is this version's")
    yield _horizon(connection)
    yield from _lag_beyond_ttl(connection)
    yield from _lag_too_short(connection)


def _one(connection: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    assert row is not None
    return row


def _setting(connection: psycopg.Connection[Any], name: str) -> str:
    return str(_one(connection, f"SELECT current_setting('{name}')")[0])


def _version(connection: psycopg.Connection[Any]) -> Check:
    number = connection.info.server_version
    version = _setting(connection, "server_version")
    size = megabytes(_one(connection, "SELECT pg_database_size(current_database())")[0])
    if number < _VERSION_MIN:
        return Check("postgresql", "fail", f"version {version}", "Upgrade to PostgreSQL 15 or later")
    return Check("postgresql", "ok", f"version {version}, {size}")


def _transport(settings: Settings) -> Check:
    parameters = conninfo_to_dict(settings.postgres_url or "")
    host = str(parameters.get("host") or parameters.get("hostaddr") or "")
    if all(is_local(each) for each in host.split(",")):
        return Check("postgresql transport", "ok", "stays on this machine")
    mode = str(parameters.get("sslmode") or "prefer")
    if mode == "verify-full":
        return Check("postgresql transport", "ok", f"TLS to {host}, server verified")
    return Check(
        "postgresql transport",
        "warn",
        f"sslmode={mode} to {host}: somebody between could pose as the server",
        "Put sslmode=verify-full and sslrootcert into TAPELINE_POSTGRES_URL",
    )


def _durability(connection: psycopg.Connection[Any]) -> Iterator[Check]:
    off = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if _setting(connection, name) == "off"]
    if off:
        found = f"{', '.join(off)} off: a crash can lose or damage what was acknowledged"
        yield Check("durability", "fail", found, f"ALTER SYSTEM RESET {off[0]}; then reload")
    else:
        yield Check("durability", "ok", "acknowledged means on disk")


def _text(connection: psycopg.Connection[Any]) -> Check:
    encoding = _setting(connection, "server_encoding")
    if encoding != "UTF8":
        return Check("encoding", "fail", f"the database is in {encoding}", "Create it anew with ENCODING 'UTF8'")
    provider, collation = _one(
        connection,
        "SELECT datlocprovider, coalesce(to_jsonb(d)->>'datlocale', datcollate) FROM pg_database AS d "
        "WHERE datname = current_database()",
    )
    return Check("encoding", "ok", f"UTF8, collation {collation}{' (built in)' if provider == 'b' else ''}")


def _time_zone(settings: Settings) -> Check:
    # A connection of its own: Tapeline's set their zone, and the question is what everybody else's have.
    with psycopg.connect(postgres_url(settings), connect_timeout=5) as plain:
        zone = _setting(plain, "TimeZone")
    if zone in {"UTC", "Etc/UTC", "GMT"}:
        return Check("time zone", "ok", zone)
    return Check(
        "time zone",
        "warn",
        f"{zone}: Tapeline's own sessions use UTC, but other clients will cut days elsewhere",
        "ALTER DATABASE … SET timezone = 'UTC'",
    )


def _clock(connection: psycopg.Connection[Any]) -> Check:
    before = time.time()
    (there,) = _one(connection, "SELECT clock_timestamp()")
    assert isinstance(there, datetime)
    after = time.time()
    skew = max(before - there.timestamp(), there.timestamp() - after, 0.0)
    if skew > _CLOCK_SKEW_WARN_S:
        return Check(
            "clocks",
            "warn",
            f"the database's clock and this machine's differ by {skew:.1f} s",
            "Run a time service (chrony, systemd-timesyncd) on both: arrival times come from them",
        )
    return Check("clocks", "ok", f"the database's and this machine's agree within {max(skew, after - before):.3f} s")


def _jit(connection: psycopg.Connection[Any]) -> Check:
    if _setting(connection, "jit") == "on":
        return Check(
            "jit",
            "warn",
            "on: point-in-time queries are compiled anew each time, which costs more than they take",
            "ALTER DATABASE … SET jit = off",
        )
    return Check("jit", "ok", "off")


def _connections(connection: psycopg.Connection[Any]) -> Check:
    used, limit = _one(
        connection,
        "SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity WHERE datid IS NOT NULL",
    )
    verdict = "warn" if used > _CONNECTIONS_WARN * limit else "ok"
    remedy = None if verdict == "ok" else "Raise max_connections, or put a pooler in front"
    return Check("connections", "warn" if verdict == "warn" else "ok", f"{used} of {limit}", remedy)


def _edition(connection: psycopg.Connection[Any]) -> Check:
    version, licence = _one(
        connection,
        "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), "
        "current_setting('timescaledb.license', true)",
    )
    if version is not None:
        edition = "apache" if licence == "apache" else "community"
        gain = "" if edition == "community" else "; compression, continuous aggregates and retention need community"
        return Check("timescaledb", "ok", f"{edition} edition, {version}{gain}")
    offered = connection.execute(
        "SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'"
    ).fetchone()
    if offered is None:
        return Check("timescaledb", "ok", "edition none: plain tables, good up to some ten million rows")
    loaded = connection.execute("SELECT 1 FROM pg_settings WHERE name LIKE 'timescaledb.%'").fetchone()
    remedy = (
        "As a superuser: CREATE EXTENSION timescaledb; then: tapeline migrate"
        if loaded
        else "Add it to shared_preload_libraries, restart PostgreSQL, then: tapeline migrate"
    )
    return Check("timescaledb", "warn", f"{offered[0]} is installed but not in use", remedy)


def _horizon(connection: psycopg.Connection[Any]) -> Check:
    try:
        (lag,) = _one(connection, "SELECT extract(epoch FROM clock_timestamp() - tapeline.safe_horizon())::float8")
    except psycopg.Error as error:
        return Check("safe horizon", "fail", str(error.diag.message_primary), error.diag.message_hint)
    if lag > _HORIZON_LAG_WARN_S:
        oldest = connection.execute(_OLDEST).fetchone()
        who = "" if oldest is None else f", held by process {oldest[0]} ({oldest[1]}, {oldest[2]})"
        return Check(
            "safe horizon",
            "warn",
            f"{lag:.0f} s ago{who}: exports cannot see later rows",
            "End that transaction" + ("" if oldest is None else f": SELECT pg_terminate_backend({oldest[0]})"),
        )
    return Check("safe horizon", "ok", f"{max(lag, 0.0) * 1000:.0f} ms ago")


def _lag_beyond_ttl(connection: psycopg.Connection[Any]) -> Iterator[Check]:
    rows = connection.execute(_LAG_BEYOND_TTL).fetchall()
    for view, version, source, lag_us, ttl_us in rows:
        yield Check(
            "time to live",
            "warn",
            f"{view} version {version} lives {ttl_us / 1e6:g} s, but its source {source} is {lag_us / 1e6:g} s late:"
            " its values expire before they are available",
            "Register a version with a longer TTL",
        )
    if not rows:
        yield Check("time to live", "ok", "every view outlives its source's lag")


def _lag_too_short(connection: psycopg.Connection[Any]) -> Iterator[Check]:
    """Of the last two weeks' rows that arrived live, those that came after they claim to have been available."""
    rows = connection.execute(_LAG_TOO_SHORT).fetchall()
    for source, lag_us, count, late in rows:
        if late:
            yield Check(
                "declared lag",
                "warn",
                f"{late} of {count} live rows of {source} arrived later than the {lag_us / 1e6:g} s it declares:"
                " what was trained on them was not known then",
                f"See how late they come: tapeline quality lag {source}",
            )
    if not any(late for *_, late in rows):
        yield Check("declared lag", "ok", f"{sum(row[2] for row in rows)} live rows of two weeks, none too late")
