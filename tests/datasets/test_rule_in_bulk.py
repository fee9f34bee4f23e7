"""The as-of join against the plain rule, thousands of hard cases with each SQL call; `make soak` counts to a million of each."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tapeline.datasets import chunks as chunks_of_tables
from tapeline.datasets import index_lookup, point_in_time, scan_merge
from tapeline.datasets.index_lookup import look_up
from tapeline.datasets.inquiry import Inquiry, KeyedInquiry
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.point_in_time import Method, as_of_join
from tapeline.datasets.requests import distinct_requests, times_of
from tapeline.datasets.scan_merge import MergeEstimate, estimate_merge
from tapeline.datasets.view_query import ViewQuery
from tapeline.storage.arrow import copy_arrow

from tests.datasets.divided import chunks_at
from tests.datasets.hard_histories import History, Key, Row, Rule, asked, history, keys_that_collide
from tests.support.cases import count_cases

UTC_US = pa.timestamp("us", tz="UTC")
CASES = 3_000
PAIRS = ViewSelection(
    view="pairs",
    version=1,
    table="public.pairs",
    entity_columns=("name", "number"),
    join_keys=("k1", "k2"),
    features=("id", "value"),
    output_names=("id", "value"),
)
SINGLES = replace(
    PAIRS, view="singles", table="public.singles", entity_columns=("number",), join_keys=("k2",),
    output_names=("single_id", "single_value"),
)  # fmt: skip
DDL = """
    CREATE TABLE public.pairs (k1 text, k2 bigint, event_timestamp timestamptz, available_timestamp timestamptz,
        created_timestamp timestamptz, sequence bigint, id bigint, value float8);
    CREATE INDEX ON public.pairs (k1, k2, event_timestamp DESC, sequence DESC, available_timestamp DESC, created_timestamp DESC);
    CREATE TABLE public.singles (LIKE public.pairs);
    CREATE INDEX ON public.singles (k2, event_timestamp DESC, sequence DESC, available_timestamp DESC, created_timestamp DESC);
"""
WAYS = ("lookup", "parallel lookup", "auto", "merge", "seeded merge", "parallel merge", "parallel seeded merge")
searched = settings(
    max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)  # a seed cannot be made simpler


@pytest.fixture
def tables(connection: psycopg.Connection) -> psycopg.Connection:
    """Two views: one of composite keys, one of a part of them."""
    connection.execute(DDL)
    connection.commit()
    return connection


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way of finding rows; what the planner would decide by costs is decided here."""
    parallel, seeded = "parallel" in request.param, "seeded" in request.param

    def decided(inquiry: KeyedInquiry, chunks: np.ndarray | None) -> MergeEstimate:
        return replace(estimate_merge(inquiry, chunks), seeded=seeded)

    monkeypatch.setattr(index_lookup, "PARALLEL_REQUESTS_MIN", 0 if parallel else math.inf)
    if "merge" in request.param:
        monkeypatch.setattr(point_in_time, "estimate_merge", decided)
        monkeypatch.setattr(scan_merge, "PARALLEL_ROWS_MIN", 0 if parallel else math.inf)
    return str(request.param)


def moments(values: list[int | None] | list[int]) -> pa.Array:
    return pa.array(values, type=pa.int64()).cast(UTC_US)


def stored(rows: tuple[Row, ...]) -> pa.Table:
    return pa.table(
        {
            "k1": pa.array([row.key[0] for row in rows], type=pa.string()),
            "k2": pa.array([row.key[1] for row in rows], type=pa.int64()),
            "event_timestamp": moments([row.event_us for row in rows]),
            "available_timestamp": moments([row.available_us for row in rows]),
            "created_timestamp": moments([row.created_us for row in rows]),
            "sequence": pa.array([row.sequence for row in rows], type=pa.int64()),
            "id": pa.array(range(len(rows)), type=pa.int64()),
            "value": pa.array([row.value for row in rows], type=pa.float64()),
        }
    )


def fill(connection: psycopg.Connection, table: str, rows: tuple[Row, ...]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {table}")
        copy_arrow(cursor, stored(rows), table)


def entity_rows(requests: list[tuple[Key, int]]) -> pa.Table:
    return pa.table(
        {
            "number": pa.array([key[1] for key, _ in requests], type=pa.int64()),
            "event_timestamp": moments([moment for _, moment in requests]),
            "name": pa.array([key[0] for key, _ in requests], type=pa.string()),
        }
    )


def assert_picked(
    found: pa.ChunkedArray, values: pa.ChunkedArray, want: list[int | None], rows: tuple[Row, ...]
) -> None:
    """The rows taken are the rule's, and their values are those stored: NULL is not NaN, nor is −0 the same as 0."""
    assert found.to_pylist() == want
    taken = stored(rows).column("value").take(pa.array(want, type=pa.int64())).combine_chunks()
    got = values.combine_chunks()
    assert got.is_null().equals(taken.is_null())
    bits = [array.drop_null().to_numpy(zero_copy_only=False).view(np.uint64) for array in (got, taken)]
    assert np.array_equal(*bits)


def singled(known: History) -> History:
    """The history as one of the second part of its keys; rows that the rule could no longer order are left out."""
    rows = {
        (row.key[1], row.event_us, row.available_us, row.created_us, row.sequence): replace(row, key=("", row.key[1]))
        for row in known.rows
    }
    return replace(known, rows=tuple(rows.values()), keys=tuple(dict.fromkeys(("", k[1]) for k in known.keys)))


def test_every_way_of_joining_two_views_is_the_rule(tables: psycopg.Connection, way: str) -> None:
    method: Method = "auto" if way == "auto" else "merge" if "merge" in way else "lookup"

    @searched
    @given(seed=st.integers(0, 2**48), created_by_request=st.booleans())
    def search(seed: int, created_by_request: bool) -> None:
        random = np.random.default_rng(seed)
        known = history(seed, keys=keys_that_collide(40))
        other = singled(history(seed + 1, keys=keys_that_collide(30), rows_a_key=6))
        fill(tables, "public.pairs", known.rows)
        fill(tables, "public.singles", other.rows)
        requests = asked(known, CASES, random)
        requests += requests[:50]  # a repeated entity row is a row of its own
        given_rows = entity_rows(requests)
        result = as_of_join(
            tables,
            [replace(PAIRS, ttl_us=known.ttl_us), replace(SINGLES, ttl_us=other.ttl_us)],
            given_rows,
            vintage_us=known.vintage_us,
            created_by_request=created_by_request,
            method=method,
        )
        tables.rollback()
        assert result.select(given_rows.column_names).equals(given_rows)
        rule = Rule(known.rows, known.ttl_us, known.vintage_us, created_by_request=created_by_request)
        want = [rule.picked(key, moment) for key, moment in requests]
        assert_picked(result.column("id"), result.column("value"), want, known.rows)
        rule = Rule(other.rows, other.ttl_us, known.vintage_us, created_by_request=created_by_request)
        want = [rule.picked(("", key[1]), moment) for key, moment in requests]
        assert_picked(result.column("single_id"), result.column("single_value"), want, other.rows)
        count_cases(f"as-of join, {way}", 2 * len(requests))

    search()


def test_the_lookup_grouped_by_chunks_is_the_rule(tables: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    @searched
    @given(
        seed=st.integers(0, 2**48),
        chunks=st.integers(1, 400),
        group_cost=st.sampled_from([0.0, 100.0, 1e6]),  # a statement for each chunk, for several, for all
        by_name=st.booleans(),
    )
    def search(seed: int, chunks: int, group_cost: float, by_name: bool) -> None:
        for module in (index_lookup, chunks_of_tables):
            monkeypatch.setattr(module, "GROUP_COST", group_cost)
        random = np.random.default_rng(seed)
        known = history(seed, keys=keys_that_collide(40))
        fill(tables, "public.pairs", known.rows)
        requests = asked(known, CASES, random)
        first, last = known.edges_us[0], known.edges_us[-1]
        starts = np.unique(np.append(random.integers(first, last, chunks), [first, last]))
        selection = replace(PAIRS, ttl_us=known.ttl_us)
        given_rows = entity_rows(requests)
        query = ViewQuery.of(tables, selection)
        wanted = distinct_requests(given_rows, selection.entity_columns, times_of(given_rows, "event_timestamp"))
        found = look_up(
            Inquiry.of(tables, query, wanted),
            chunks_at(starts.tolist(), "public.pairs", by_name=by_name),
            with_order=False,
        )
        tables.rollback()
        ids = found.rows.column(0).to_pylist()
        rule = Rule(known.rows, known.ttl_us, None)
        places = found.index[wanted.rows].tolist()
        assert [None if place < 0 else ids[place] for place in places] == [rule.picked(*one) for one in requests]
        count_cases("lookup by chunks", len(requests))

    search()


def test_the_hard_cases_are_among_them() -> None:
    """What these tests rest on: a rule without one of its parts would be told apart by the cases that are made."""
    known = [history(seed, keys=keys_that_collide(40)) for seed in range(3)]
    rows = [row for one in known for row in one.rows]
    assert {"aa", "a111", "a11"} & {f"{row.key[0]}{row.key[1]}" for row in rows}
    assert any(row.value is None for row in rows)
    assert any(row.value is not None and math.isnan(row.value) for row in rows)
    assert any(row.value == 0 and math.copysign(1, row.value) < 0 for row in rows if row.value is not None)
    assert any(row.available_us is not None and row.available_us > row.event_us for row in rows)
    assert any(row.available_us is None for row in rows)
    for one in known:
        requests = asked(one, 1_000, np.random.default_rng(1))
        changed = [(0, None), (one.ttl_us + 1, None), (one.ttl_us, one.edges_us[len(one.edges_us) // 2])]
        answers = [
            [Rule(one.rows, *how).picked(*request) for request in requests] for how in [(one.ttl_us, None), *changed]
        ]
        assert 0.03 < sum(answer is not None for answer in answers[0]) / 1_000 < 1
        assert answers[0] != answers[3]
        assert one.ttl_us == 0 or answers[0] not in answers[1:]
