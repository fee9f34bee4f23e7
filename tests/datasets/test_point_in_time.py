"""The join against a plain statement of the rule, by every way of finding rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapeline.core.errors import (
    InvalidDataError,
    NaiveTimestampError,
    ParameterError,
    SchemaError,
    UnavailableError,
    UnknownNameError,
)
from tapeline.datasets import chunks as chunks_of_tables
from tapeline.datasets import index_lookup, point_in_time, scan_merge
from tapeline.datasets.chunks import Chunks
from tapeline.datasets.index_lookup import estimate_lookups, look_up
from tapeline.datasets.inquiry import Inquiry, KeyedInquiry
from tapeline.datasets.plan import RetrievalPlan, ViewSelection
from tapeline.datasets.point_in_time import Method, as_of_join
from tapeline.datasets.requests import distinct_requests, times_of
from tapeline.datasets.scan_merge import MergeEstimate, estimate_merge
from tapeline.datasets.view_query import ViewQuery
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.postgres import beside

from tests.datasets.divided import chunks_at

UTC_US = pa.timestamp("us", tz="UTC")
BASE_US = 1_362_150_000_000_000
# Pairs that are the same text when their parts are put together without a separator.
KEYS = [("a", 11), ("a1", 1), ("a1", 11), ("", 1), ("ä 'x'", -1), ("b", 0)]

PRICES = ViewSelection(
    view="prices",
    version=1,
    table="public.prices",
    entity_columns=("name", "number"),
    join_keys=("k1", "k2"),
    features=("id", "value", "label"),
    output_names=("id", "value", "label"),
)
DDL = """
    CREATE TABLE public.prices (k1 text, k2 bigint, event_timestamp timestamptz, available_timestamp timestamptz,
        created_timestamp timestamptz, sequence bigint, id bigint, value float8, label text);
    CREATE INDEX prices_key ON public.prices (k1, k2, event_timestamp DESC, sequence DESC, available_timestamp DESC,
        created_timestamp DESC);
"""


@dataclass(frozen=True)
class Row:
    key: tuple[str, int]
    event: int
    available: int | None
    created: int | None
    sequence: int | None
    value: float | None


@dataclass(frozen=True)
class Request:
    key: tuple[str | None, int | None]
    t: int


def picked(rows: list[Row], request: Request, *, ttl: int, vintage: int | None, created_by_request: bool) -> int | None:
    """The rule of the design, word for word: index of the row, or none."""

    def counts(row: Row) -> bool:
        return (
            row.key == request.key
            and row.event <= request.t
            and row.available is not None
            and row.available <= request.t
            and (ttl == 0 or row.event >= request.t - ttl)
            and (vintage is None or (row.created is not None and row.created <= vintage))
            and (not created_by_request or (row.created is not None and row.created <= request.t))
        )

    def least(value: int | None) -> float:
        return -math.inf if value is None else value

    candidates = [i for i, row in enumerate(rows) if counts(row)]
    return max(
        candidates,
        key=lambda i: (rows[i].event, least(rows[i].sequence), least(rows[i].available), least(rows[i].created)),
        default=None,
    )


def moments(values: list[int | None]) -> pa.Array:
    return pa.array([None if v is None else BASE_US + v * 1_000_000 for v in values], type=pa.int64()).cast(UTC_US)


def stored(rows: list[Row]) -> pa.Table:
    return pa.table(
        {
            "k1": pa.array([row.key[0] for row in rows], type=pa.string()),
            "k2": pa.array([row.key[1] for row in rows], type=pa.int64()),
            "event_timestamp": moments([row.event for row in rows]),
            "available_timestamp": moments([row.available for row in rows]),
            "created_timestamp": moments([row.created for row in rows]),
            "sequence": pa.array([row.sequence for row in rows], type=pa.int64()),
            "id": pa.array(range(len(rows)), type=pa.int64()),
            "value": pa.array([row.value for row in rows], type=pa.float64()),
            "label": pa.array([None if i % 7 == 0 else f"rów {i}" * (i % 3) for i in range(len(rows))]),
        }
    )


def entity_rows(requests: list[Request]) -> pa.Table:
    return pa.table(
        {
            "name": pa.array([request.key[0] for request in requests], type=pa.string()),
            "event_timestamp": moments([request.t for request in requests]),
            "number": pa.array([request.key[1] for request in requests], type=pa.int64()),
            "note": pa.array(range(len(requests)), type=pa.int64()),
        }
    )


def fill(connection: psycopg.Connection[Any], rows: list[Row]) -> None:
    connection.execute("TRUNCATE public.prices")
    with connection.cursor() as cursor:
        copy_arrow(cursor, stored(rows), "public.prices")
    connection.commit()


def unique(rows: list[Row]) -> list[Row]:
    """Without rows that the rule cannot order."""
    return list({(r.key, r.event, r.sequence, r.available, r.created): r for r in rows}.values())


second = st.integers(0, 30)
row_strategy = st.builds(
    lambda key, event, lag, created, sequence, value: Row(
        key, event, None if lag is None else event + lag, created, sequence, value
    ),
    st.sampled_from(KEYS[:4]),
    second,
    st.one_of(st.just(0), st.integers(0, 20), st.none()),
    st.one_of(st.integers(0, 40), st.none()),
    st.one_of(st.integers(-2, 2), st.none()),
    st.one_of(st.none(), st.just(math.nan), st.just(-0.0), st.floats(allow_nan=False)),
)
request_strategy = st.builds(
    Request,
    st.one_of(st.sampled_from(KEYS), st.sampled_from([(None, 1), ("a", None)])),
    st.integers(-2, 45),
)


def check(
    connection: psycopg.Connection[Any],
    rows: list[Row],
    requests: list[Request],
    method: Method,
    *,
    ttl: int,
    vintage: int | None,
    created_by_request: bool,
) -> None:
    """One SQL call against the plain rule, exactly: order, duplicates, NULL, NaN, signed zero."""
    given_rows = entity_rows(requests)
    result = as_of_join(
        connection,
        [replace(PRICES, ttl_us=ttl * 1_000_000)],
        given_rows,
        vintage_us=None if vintage is None else BASE_US + vintage * 1_000_000,
        created_by_request=created_by_request,
        with_times=True,
        method=method,
    )
    want = [
        picked(rows, request, ttl=ttl, vintage=vintage, created_by_request=created_by_request) for request in requests
    ]
    assert result.select(given_rows.column_names).equals(given_rows)
    assert result.column("id").to_pylist() == want
    source = stored(rows)
    taken = source.take(pa.array(want, type=pa.int64()))
    assert repr(result.column("value").to_pylist()) == repr(taken.column("value").to_pylist())
    assert result.column("label").to_pylist() == taken.column("label").to_pylist()
    for name in ("event_timestamp", "available_timestamp", "created_timestamp", "sequence"):
        assert result.column(f"prices__{name}").to_pylist() == taken.column(name).to_pylist()


@pytest.fixture(
    params=["lookup", "parallel lookup", "auto", "planned", "merge", "seeded", "parallel", "parallel seeded"]
)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Method:
    """Every way of finding rows; what the merge would decide by costs is decided here."""
    monkeypatch.setattr(index_lookup, "PARALLEL_REQUESTS_MIN", 0 if "parallel" in request.param else math.inf)
    if "lookup" in request.param:
        return "lookup"
    if request.param in ("auto", "planned"):
        monkeypatch.setattr(
            point_in_time, "UNPLANNED_COST", point_in_time.UNPLANNED_COST if request.param == "auto" else 0.0
        )
        return "auto"

    def decided(inquiry: KeyedInquiry, chunks: Chunks | None) -> MergeEstimate:
        return replace(estimate_merge(inquiry, chunks), seeded="seeded" in request.param)

    monkeypatch.setattr(point_in_time, "estimate_merge", decided)
    monkeypatch.setattr(scan_merge, "PARALLEL_ROWS_MIN", 0 if "parallel" in request.param else math.inf)
    return "merge"


def test_rule_on_searched_cases(connection: psycopg.Connection[Any], method: Method) -> None:
    connection.execute(DDL)
    connection.commit()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        rows=st.lists(row_strategy, max_size=60).map(unique),
        requests=st.lists(request_strategy, max_size=60),
        ttl=st.sampled_from([0, 1, 7, 20]),
        vintage=st.one_of(st.none(), st.integers(-1, 41)),
        created_by_request=st.booleans(),
    )
    def search(
        rows: list[Row], requests: list[Request], ttl: int, vintage: int | None, created_by_request: bool
    ) -> None:
        fill(connection, rows)
        check(connection, rows, requests, method, ttl=ttl, vintage=vintage, created_by_request=created_by_request)

    search()


@pytest.mark.parametrize("ttl", [0, 3, 40])
def test_rule_on_many_random_cases(connection: psycopg.Connection[Any], method: Method, ttl: int) -> None:
    random = np.random.default_rng(ttl)
    connection.execute(DDL)
    rows = unique(
        [
            Row(
                KEYS[random.integers(len(KEYS))],
                event := int(random.integers(300)),
                event + int(random.choice([0, 0, 1, 5, 100])),
                int(random.integers(400)),
                int(random.integers(3)),
                float(random.normal()),
            )
            for _ in range(1_500)
        ]
    )
    requests = [Request(KEYS[random.integers(len(KEYS))], int(random.integers(-5, 400))) for _ in range(1_500)]
    fill(connection, rows)
    check(connection, rows, requests, method, ttl=ttl, vintage=None, created_by_request=False)
    check(connection, rows, requests, method, ttl=ttl, vintage=250, created_by_request=True)


@pytest.mark.parametrize("ttl", [0, 2, 12, 60])
@pytest.mark.parametrize("group_cost", [0.0, 100.0, 1e6])  # a statement for each chunk, for several, for all
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("starts", [[0, 10, 20], [5, 6, 7, 8, 40, 100, 150, 200, 290], list(range(-20, 320, 4))])
def test_lookup_by_chunks_gives_the_same(
    connection: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    ttl: int,
    starts: list[int],
    by_name: bool,
    group_cost: float,
) -> None:
    """Chunks bound each statement's event times; wherever they begin, rows in earlier ones are still found."""
    for module in (index_lookup, chunks_of_tables):
        monkeypatch.setattr(module, "GROUP_COST", group_cost)
    random = np.random.default_rng(len(starts))
    connection.execute(DDL)
    first = min(starts)  # a hypertable has no row outside of its chunks
    rows = unique(
        [
            Row(KEYS[random.integers(3)], event, event + int(random.choice([0, 0, 9])), 0, int(random.integers(2)), 1.0)
            for event in random.integers(first, 300, size=80).tolist()
        ]
    )
    requests = [Request(KEYS[random.integers(4)], int(random.integers(first - 5, 400))) for _ in range(500)]
    fill(connection, rows)
    given_rows = entity_rows(requests)
    selection = replace(PRICES, ttl_us=ttl * 1_000_000)
    query = ViewQuery.of(connection, selection)
    asked = distinct_requests(given_rows, selection.entity_columns, times_of(given_rows, "event_timestamp"))
    chunks = chunks_at([BASE_US + start * 1_000_000 for start in starts], "public.prices", by_name=by_name)
    inquiry = Inquiry.of(connection, query, asked)
    assert 0 < estimate_lookups(inquiry, chunks) <= estimate_lookups(inquiry, chunks, 0.0)
    found = look_up(inquiry, chunks, with_order=False)
    index = found.index[asked.rows]
    ids = found.rows.column(0).to_pylist()
    want = [picked(rows, request, ttl=ttl, vintage=None, created_by_request=False) for request in requests]
    assert [None if i < 0 else ids[i] for i in index.tolist()] == want


def test_views_with_different_keys_join_at_once(connection: psycopg.Connection[Any]) -> None:
    connection.execute("""
        CREATE TABLE public.daily (symbol varchar(8), event_timestamp timestamptz, close numeric);
        CREATE TABLE public.venue (id smallint, at timestamp, open boolean, levels float8[], "since" date);
        CREATE TABLE public.world (event_timestamp timestamptz, rate real);
        INSERT INTO public.daily VALUES ('MSFT', '2013-01-02Z', 27.62), ('AAPL', '2013-01-02Z', 78.43);
        INSERT INTO public.venue VALUES (7, '2013-01-01', true, '{1,NULL,2.5}', '2001-02-03'), (8, '2013-01-03', false, NULL, NULL);
        INSERT INTO public.world VALUES ('2012-12-31Z', 0.25), ('-infinity', 9);
    """)
    plain = {"available_column": None, "created_column": None, "sequence_column": None}
    selections = [
        ViewSelection("daily", 1, "public.daily", ("symbol",), ("symbol",), ("close",), ("close",), **plain),
        ViewSelection(
            "venue", 1, "(SELECT * FROM public.venue WHERE id > 0)", ("venue",), ("id",), ("open", "levels", "since"),
            ("is_open", "levels", "since"), event_column="at", **plain,
        ),
        ViewSelection("world", 1, "public.world", (), (), ("rate",), ("rate",), **plain),
    ]  # fmt: skip
    noon = pa.array([1_357_128_000_000_000] * 3 + [0], type=pa.int64()).cast(UTC_US)
    rows = pa.table(
        {
            "event_timestamp": noon,
            "symbol": pa.array(["AAPL", "MSFT", "AAPL", "AAPL"]).dictionary_encode(),
            "venue": pa.array([7, 8, None, 7], type=pa.int32()),
        }
    )
    for method in ("lookup", "merge"):
        result = as_of_join(connection, selections, rows, method=method)
        assert result.column("close").to_pylist() == [78.43, 27.62, 78.43, None]
        assert result.column("is_open").to_pylist() == [True, None, None, None]
        assert result.column("levels").to_pylist() == [[1.0, None, 2.5], None, None, None]
        assert str(result.column("since")[0]) == "2001-02-03"
        assert result.column("rate").to_pylist() == [0.25, 0.25, 0.25, 9.0]
        assert result.schema.field("close").type == pa.float64()


def test_never_available_is_never_seen(connection: psycopg.Connection[Any]) -> None:
    connection.execute(DDL)
    connection.execute("""
        INSERT INTO public.prices VALUES ('a', 11, '2013-01-01Z', 'infinity', '2013-01-01Z', 0, 1, 1, 'late'),
            ('a', 11, '2012-01-01Z', '2012-01-01Z', '2013-01-01Z', 0, 2, 2, 'known')
    """)
    rows = entity_rows([Request(("a", 11), 0)])
    for method in ("lookup", "merge"):
        assert as_of_join(connection, [PRICES], rows, method=method).column("id").to_pylist() == [2]


def test_without_an_index_rows_are_scanned_once(connection: psycopg.Connection[Any]) -> None:
    """The planner's choice: a lookup without an index would read the whole table for each request."""
    connection.execute(DDL)
    connection.execute("""
        INSERT INTO public.prices SELECT 'a', g % 50, '2013-01-01Z'::timestamptz + g * interval '1 s',
            '2013-01-01Z'::timestamptz + g * interval '1 s', now(), 0, g, g, '' FROM generate_series(1, 20000) g;
        ANALYZE public.prices
    """)
    last_us = 1_356_998_400_000_000 + 20_000_000_000
    times = pa.array([last_us - 40_000_000 * i for i in range(200)], type=pa.int64()).cast(UTC_US)
    rows = pa.table({"name": ["a"] * 200, "number": [i % 50 for i in range(200)], "event_timestamp": times})
    asked = distinct_requests(rows, ("name", "number"), times_of(rows, "event_timestamp"))

    def lookups_are_cheaper() -> bool:
        with Inquiry.of(connection, ViewQuery.of(connection, PRICES), asked).keyed() as inquiry:
            looking = estimate_lookups(inquiry, None)
            assert (looking <= point_in_time.UNPLANNED_COST) == (looking < estimate_merge(inquiry, None).cost)
            return looking < estimate_merge(inquiry, None).cost

    assert lookups_are_cheaper()
    connection.execute("DROP INDEX public.prices_key")
    assert not lookups_are_cheaper()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"event_timestamp": pa.array([0], type=pa.timestamp("us"))}, NaiveTimestampError, "no time zone"),
        ({"event_timestamp": pa.array([None], type=UTC_US)}, InvalidDataError, "row 0"),
        ({"event_timestamp": pa.array(["2013"])}, InvalidDataError, "string"),
        ({"number": pa.array(["11"])}, InvalidDataError, "another type"),
        ({"value": pa.array([1.0])}, ParameterError, "value"),
    ],
)
def test_bad_entity_rows_are_refused(
    connection: psycopg.Connection[Any], change: dict[str, pa.Array], error: type[Exception], words: str
) -> None:
    connection.execute(DDL)
    rows = entity_rows([Request(("a", 11), 0)])
    columns = dict(zip(rows.column_names, rows.columns, strict=True)) | change
    with pytest.raises(error, match=words):
        as_of_join(connection, [PRICES], pa.table(columns))


def test_missing_things_are_named(connection: psycopg.Connection[Any]) -> None:
    connection.execute(DDL)
    rows = entity_rows([Request(("a", 11), 0)])
    with pytest.raises(UnknownNameError, match="Did you mean name"):
        as_of_join(connection, [replace(PRICES, entity_columns=("names", "number"))], rows)
    with pytest.raises(UnknownNameError, match="Did you mean value"):
        as_of_join(connection, [replace(PRICES, features=("id", "valu", "label"))], rows)
    with pytest.raises(SchemaError, match="does not exist"):
        as_of_join(connection, [replace(PRICES, table="public.nothing")], rows)
    # The caller's transaction is still usable.
    assert as_of_join(connection, [PRICES], rows).num_rows == 1


def test_no_rows_give_no_rows(connection: psycopg.Connection[Any]) -> None:
    connection.execute(DDL)
    result = as_of_join(connection, [PRICES], entity_rows([]), with_times=True)
    assert result.num_rows == 0
    assert result.schema.field("label").type == pa.string()


def test_plan_survives_json() -> None:
    plan = RetrievalPlan("daily_model", (PRICES, replace(PRICES, view="b", features=("x",), output_names=("x",))))
    assert RetrievalPlan.from_dict(plan.to_dict()) == plan
    assert plan.entity_columns == ("name", "number")
    assert plan.output_names == ("id", "value", "label", "x")
    with pytest.raises(ParameterError, match="occur twice"):
        RetrievalPlan("twice", (PRICES, PRICES))
    with pytest.raises(ParameterError, match="no retrieval plan"):
        RetrievalPlan.from_dict({"service": "x"})


@pytest.mark.edition("apache")
@pytest.mark.parametrize("ttl", [0, 3_600, 200_000])
def test_hypertable_gives_the_same(apache_database: str, ttl: int) -> None:
    """Forty chunks on the real thing, rows of one key in the first of them alone."""
    day_us = 86_400 * 1_000_000
    with psycopg.connect(apache_database) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        connection.execute(DDL)
        connection.execute("""
            SELECT create_hypertable('public.prices', 'event_timestamp', chunk_time_interval => interval '1 day',
                create_default_indexes => false)
        """)
        connection.execute("""
            INSERT INTO public.prices
            SELECT 'a', k, t, t + (g % 3) * interval '2 h', t, 0, g * 10 + k, 1, ''
            FROM generate_series(0, 4) k, generate_series(0, CASE WHEN k = 4 THEN 3 ELSE 959 END) g,
                LATERAL (SELECT '2013-03-01Z'::timestamptz + g * interval '1 h') AS times(t)
        """)
        start_us = 1_362_096_000_000_000
        random = np.random.default_rng(ttl)
        times = pa.array(start_us + random.integers(-day_us, 45 * day_us, size=2_000), type=pa.int64()).cast(UTC_US)
        rows = pa.table({"name": ["a"] * 2_000, "number": random.integers(0, 6, size=2_000), "event_timestamp": times})
        selection = replace(PRICES, ttl_us=ttl * 1_000_000)
        chunks = Chunks.of(connection, selection)
        assert chunks is not None
        assert len(chunks) == 40
        assert chunks.tables is not None
        looked_up = as_of_join(connection, [selection], rows, method="lookup")
        merged = as_of_join(connection, [selection], rows, method="merge")
        assert looked_up.equals(merged)
        assert as_of_join(connection, [selection], rows).equals(merged)
        assert 0 < looked_up.column("id").null_count < 2_000


HYPERTABLE = """
    SELECT create_hypertable('public.prices', 'event_timestamp', chunk_time_interval => interval '1 day',
        create_default_indexes => false);
    INSERT INTO public.prices
    SELECT 'a', k, t, t + (g % 3) * interval '2 h', t, 0, g * 10 + k, 1, ''
    FROM generate_series(0, 2) k, generate_series(0, 239) g,
        LATERAL (SELECT '2013-03-01Z'::timestamptz + g * interval '1 h') AS times(t);
"""


def moments_of_ten_days(seed: int) -> pa.Table:
    day_us = 86_400 * 1_000_000
    random = np.random.default_rng(seed)
    times = 1_362_096_000_000_000 + random.integers(-day_us, 12 * day_us, size=500)
    return pa.table(
        {
            "name": ["a"] * 500,
            "number": random.integers(0, 4, size=500),
            "event_timestamp": pa.array(times).cast(UTC_US),
        }
    )


@pytest.mark.edition("community")
@pytest.mark.parametrize("ttl", [0, 7_200, 200_000])
def test_compressed_chunks_give_the_same(community_database: str, ttl: int) -> None:
    selection = replace(PRICES, ttl_us=ttl * 1_000_000)
    with psycopg.connect(community_database) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        connection.execute(DDL)
        connection.execute(HYPERTABLE)
        rows = moments_of_ten_days(ttl)
        before = as_of_join(connection, [selection], rows, method="lookup")
        connection.execute("""
            ALTER TABLE public.prices SET (timescaledb.compress, timescaledb.compress_segmentby = 'k1, k2',
                timescaledb.compress_orderby = 'event_timestamp DESC')
        """)
        compressed = connection.execute("""
            SELECT count(compress_chunk(c)) FROM (SELECT c FROM show_chunks('public.prices') c ORDER BY c LIMIT 6) AS older
        """).fetchone()
        assert compressed == (6,)
        chunks = Chunks.of(connection, selection)
        assert chunks is not None
        assert chunks.tables is not None
        assert as_of_join(connection, [selection], rows, method="lookup").equals(before)
        assert as_of_join(connection, [selection], rows, method="merge").equals(before)
        assert 0 < before.column("id").null_count < 500
        connection.rollback()


@pytest.mark.edition("apache")
def test_what_a_hypertable_hides_is_not_read_from_its_chunks(apache_database: str) -> None:
    """Rules for rows count for the hypertable alone, and so may rights: then it is read by its own name."""
    with psycopg.connect(apache_database) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        connection.execute(DDL)
        connection.execute(HYPERTABLE)
        connection.execute("""
            CREATE ROLE row_reader;
            GRANT USAGE ON SCHEMA public TO row_reader;
            GRANT SELECT ON public.prices TO row_reader;
        """)
        rows = moments_of_ten_days(1)

        def read() -> tuple[bool, set[int]]:
            connection.execute("SET ROLE row_reader")
            chunks = Chunks.of(connection, PRICES)
            assert chunks is not None
            found = as_of_join(connection, [PRICES], rows, method="lookup").column("id").drop_null().to_pylist()
            connection.execute("RESET ROLE")
            return chunks.tables is not None, {number % 10 for number in found}

        assert read() == (True, {0, 1, 2})
        connection.execute("""
            ALTER TABLE public.prices ENABLE ROW LEVEL SECURITY;
            CREATE POLICY only_one ON public.prices USING (k2 = 1);
        """)
        assert read() == (False, {1})
        connection.execute("ALTER TABLE public.prices DISABLE ROW LEVEL SECURITY")
        first = connection.execute("SELECT c::text FROM show_chunks('public.prices') c LIMIT 1").fetchone()
        assert first is not None
        connection.execute(f"REVOKE SELECT ON {first[0]} FROM row_reader")
        assert read() == (False, {0, 1, 2})
        connection.rollback()


@pytest.mark.edition("apache")
def test_chunks_that_more_than_time_divides_are_not_read_one_by_one(apache_database: str) -> None:
    with psycopg.connect(apache_database) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        connection.execute(DDL)
        connection.execute("""
            SELECT create_hypertable('public.prices', 'event_timestamp', 'k2', 3, chunk_time_interval => interval '1 day',
                create_default_indexes => false)
        """)
        connection.execute(HYPERTABLE.split(";")[1])
        rows = moments_of_ten_days(2)
        chunks = Chunks.of(connection, PRICES)
        assert chunks is not None
        assert chunks.tables is None
        looked_up = as_of_join(connection, [PRICES], rows, method="lookup")
        assert looked_up.equals(as_of_join(connection, [PRICES], rows, method="merge"))
        assert looked_up.column("id").null_count < 500


@pytest.mark.edition("apache")
def test_a_chunk_that_is_dropped_meanwhile(apache_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention may drop one between the look at the list and the lookups: the rest is found all the same."""
    with psycopg.connect(apache_database) as connection, psycopg.connect(apache_database, autocommit=True) as other:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        connection.execute(DDL)
        connection.execute(HYPERTABLE)
        connection.commit()
        rows = moments_of_ten_days(3)
        listed = Chunks.of

        def list_and_drop(*arguments: Any) -> Chunks | None:
            found = listed(*arguments)
            other.execute("SELECT drop_chunks('public.prices', older_than => '2013-03-03Z'::timestamptz)")
            return found

        monkeypatch.setattr(Chunks, "of", list_and_drop)
        found = as_of_join(connection, [PRICES], rows, method="lookup")
        monkeypatch.undo()
        assert found.equals(as_of_join(connection, [PRICES], rows, method="merge"))
        assert 0 < found.column("id").null_count < 500


@pytest.mark.edition("apache")
def test_chunks_of_other_times_than_the_events_are_not_walked(apache_database: str) -> None:
    """Where a function stands between a row's event and its chunk, a chunk's start says nothing about events."""
    with psycopg.connect(apache_database) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        connection.execute(DDL)
        connection.execute("""
            CREATE FUNCTION public.later(timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE
                AS $$ SELECT $1 + interval '25 hours' $$;
            SELECT create_hypertable('public.prices', 'event_timestamp', chunk_time_interval => interval '1 day',
                create_default_indexes => false, time_partitioning_func => 'public.later');
        """)
        connection.execute(HYPERTABLE.split(";")[1])
        rows = moments_of_ten_days(4)
        assert Chunks.of(connection, PRICES) is None
        looked_up = as_of_join(connection, [PRICES], rows, method="lookup")
        assert looked_up.equals(as_of_join(connection, [PRICES], rows, method="merge"))
        assert looked_up.column("id").null_count < 500


@pytest.mark.edition("apache")
def test_a_hypertable_whose_chunks_lie_in_a_closed_schema(apache_database: str) -> None:
    with psycopg.connect(apache_database) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        connection.execute(DDL)
        connection.execute(
            HYPERTABLE.replace("=> false", "=> false, associated_schema_name => 'own_chunks'")
            + "CREATE ROLE table_reader; GRANT USAGE ON SCHEMA public TO table_reader;"
            "GRANT SELECT ON public.prices TO table_reader; SET ROLE table_reader"
        )
        found = as_of_join(connection, [PRICES], moments_of_ten_days(5), method="lookup")
        assert found.column("id").null_count < 500
        connection.rollback()


@pytest.mark.parametrize("way", ["lookup", "merge"])
def test_several_readers_see_what_the_role_of_the_session_may(
    connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, way: Method
) -> None:
    monkeypatch.setattr(index_lookup, "PARALLEL_REQUESTS_MIN", 0)
    monkeypatch.setattr(scan_merge, "PARALLEL_ROWS_MIN", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    connection.execute(DDL)
    fill(connection, [Row(("a", number), 10 * number, 10 * number, 0, 0, 1.0) for number in range(40)])
    connection.execute("""
        CREATE ROLE odd_reader; GRANT USAGE ON SCHEMA public TO odd_reader; GRANT SELECT ON public.prices TO odd_reader;
        ALTER TABLE public.prices ENABLE ROW LEVEL SECURITY;
        CREATE POLICY odd ON public.prices USING (k2 % 2 = 1);
    """)
    rows = entity_rows([Request(("a", number), 1_000) for number in range(40)])
    try:
        connection.execute("SET ROLE odd_reader")
        connection.commit()
        found = as_of_join(connection, [PRICES], rows, method=way).column("id")
    finally:
        connection.rollback()
        connection.execute("RESET ROLE")
        connection.execute("DROP OWNED BY odd_reader; DROP ROLE odd_reader")
        connection.commit()
    assert [value is not None for value in found.to_pylist()] == [number % 2 == 1 for number in range(40)]


def test_one_reader_does_where_the_server_refuses_more(
    database: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_lookup, "PARALLEL_REQUESTS_MIN", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    connection.execute(DDL)
    fill(connection, [Row(("a", number), 10 * number, 10 * number, 0, 0, 1.0) for number in range(40)])
    connection.commit()
    rows = entity_rows([Request(("a", number), 1_000) for number in range(40)])
    name = connection.info.dbname
    with psycopg.connect(database.replace(name, "postgres"), autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        with pytest.raises(UnavailableError), beside(connection):
            pass
        found = as_of_join(connection, [PRICES], rows, method="lookup").column("id")
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert found.null_count == 0
