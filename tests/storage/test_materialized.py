"""The record of how far online values were brought."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from tapeline.core.errors import ParameterError, UnavailableError
from tapeline.storage.keys import materialized_key
from tapeline.storage.materialized import Materialized, UnfinishedRun, read_materialized, write_materialized
from tapeline.storage.online import delete_untagged, delete_view
from tapeline.storage.redis import open_redis

RUN = UnfinishedRun(1, 10, 5, 20, ("A", 7))


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.mark.parametrize(
    "known", [Materialized(), Materialized(10, 20), Materialized(10, None, RUN), Materialized(3, 4, UnfinishedRun(None, 1, None, None))]
)  # fmt: skip
def test_it_is_read_as_written(client: redis.Redis, known: Materialized) -> None:
    write_materialized(client, "p", "daily", 2, known)
    assert read_materialized(client, "p", "daily", 2) == known
    assert read_materialized(client, "p", "daily", 1) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"end_us": "x", "recorded_us": 1, "run": null}', b'{"end_us": 1, "recorded_us": 1, "run": {}}',
     b'{"end_us": 1, "recorded_us": 1, "run": {"after": [1.5], "end_us": 1, "recorded_us": 1, "since_us": 1, "start_us": 1}}'],
)  # fmt: skip
def test_what_cannot_be_read_counts_as_unknown(client: redis.Redis, content: bytes) -> None:
    client.set(materialized_key("p", "daily", 2), content)
    assert read_materialized(client, "p", "daily", 2) is None


def test_a_run_over_an_earlier_range_says_nothing_of_later_ones() -> None:
    assert Materialized(5, 8, RUN).finished(RUN) == Materialized(10, 20)
    assert Materialized(11, 8, RUN).finished(RUN) == Materialized(11, 8)
    assert Materialized().finished(RUN) == Materialized(10, 20)
    assert Materialized(5, 8).finished(UnfinishedRun(1, 10, 5, None)) == Materialized(10, 8)


def test_it_goes_with_the_values(client: redis.Redis) -> None:
    for version in (1, 11):
        write_materialized(client, "p", "daily", version, Materialized(1, 2))
    write_materialized(client, "p", "daily2", 1, Materialized(1, 2))
    delete_view(client, "p", "daily", 1)
    assert set(client.keys()) == {materialized_key("p", "daily", 11), materialized_key("p", "daily2", 1)}
    delete_view(client, "p", "daily")
    assert client.keys() == [materialized_key("p", "daily2", 1)]


def test_keys_of_the_older_form_are_removed_and_no_others(client: redis.Redis) -> None:
    old = [b"tl:p:daily@1:s4:AAPL", b"tl:p:daily@1:i1:7s1:{", b"tl:p:state:daily@1:s4:AAPL", b"tl:p:actions:s4:AAPL"]
    kept = [
        b"tl:p:daily@1:{s4:AAPL}", b"tl:p:state:daily@1:{s4:AAPL}", b"tl:p:actions:{s4:AAPL}", b"tl:q:daily@1:s4:AAPL",
        b"tl:p:layout:0123456789abcdef", b"tl:p:materialized:{daily@1}", b"other", b"tl:p:daily@1:{s7:a@1:b:c}",
    ]  # fmt: skip
    client.mset(dict.fromkeys(old + kept, b"x"))
    assert delete_untagged(client, "p") == len(old)
    assert sorted(client.keys()) == sorted(kept)


def test_names_and_servers_that_do_not_do(client: redis.Redis) -> None:
    with pytest.raises(ParameterError):
        materialized_key("p", "a:b", 1)
    absent = open_redis("unix:///nonexistent/redis.sock")
    with pytest.raises(UnavailableError):
        read_materialized(absent, "p", "daily", 1)
    with pytest.raises(UnavailableError):
        write_materialized(absent, "p", "daily", 1, Materialized())
