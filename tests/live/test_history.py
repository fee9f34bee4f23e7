"""The venue's history: paged, paced, asked again, given up; and what was missed while nobody listened."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import psycopg
import pytest
import redis
from tapeline.core.errors import ConfigurationError
from tapeline.live.fetching import seconds_of
from tapeline.live.gaps import Gap, GapState, list_gaps
from tapeline.live.source import LiveSource
from tapeline.streaming.codec import EventKind

from tests.live.venue import LOST, Faults, Venue
from tests.live.world import (
    SYMBOLS,
    Listener,
    expected,
    make_source,
    make_venue,
    places,
    sent_rows,
    truth_of_trades,
    without_available,
)

COUNT = 300


@contextmanager
def cut_in_the_middle(adapter: str, faults: Faults, *, trades_only: bool = False) -> Iterator[Venue]:
    """A venue that cuts the connection once."""
    venue = make_venue(adapter, COUNT, seed=11, faults=faults)
    faults.drop.add(places(venue, "trade", 100))
    names = {name for name in expected(adapter) if "@trade" in name or not trades_only}
    with venue.running(names):
        yield venue


def gaps_of(database: str, source: LiveSource) -> list[Gap]:
    with psycopg.connect(database) as connection:
        return list_gaps(connection, source.source, kind=EventKind.trades, limit=1_000)


def settled(database: str, source: LiveSource) -> bool:
    gaps = gaps_of(database, source)
    return bool(gaps) and all(gap.state is not GapState.found for gap in gaps)


@pytest.mark.parametrize("adapter", ["binance", "kraken", "json"])
def test_history_is_paged(database: str, redis_url: str, adapter: str) -> None:
    with cut_in_the_middle(adapter, Faults()) as venue:
        source = make_source(adapter, venue, rest={"page": 1})
        if adapter == "kraken":
            venue.words.past_trades = 0  # told on subscribing they would leave nothing to ask for
        with Listener(source, database, redis_url) as listener:
            count = len(truth_of_trades(venue, SYMBOLS[adapter]))
            listener.until(lambda: venue.done.is_set() and listener.runner.seen.trades >= count)
            listener.until(lambda: settled(database, source))
            listener.end()
            rows = sent_rows(listener.client, listener.plan)
        assert without_available(rows["trades"]) == truth_of_trades(venue, SYMBOLS[adapter])
    found = gaps_of(database, source)
    assert {(gap.state.value, gap.remedy.value) for gap in found} == {("filled", "history")}
    assert "disconnect" in {gap.reason.value for gap in found}
    asked = [path for path in venue.requests if "rades" in path]
    missing = sum(gap.last - gap.first + 1 for gap in found)
    # Kraken goes by time: its first page repeats the trade before the gap.
    assert missing <= len(asked) <= 2 * missing + 2 * len(found)


def test_pauses_that_the_venue_asks_for_are_kept(database: str, redis_url: str) -> None:
    with cut_in_the_middle("kraken", faults := Faults()) as venue:
        faults.skip.add(places(venue, "trade", 150, pair=True))
        faults.answers[:] = [
            (429, {"Retry-After": "1"}, "slow down"),
            (503, {}, "busy"),
            (200, {}, '{"error":["EAPI:Rate limit exceeded"]}'),
        ]
        source = make_source("kraken", venue)
        began_s = time.monotonic()
        with Listener(source, database, redis_url) as listener:
            count = len(truth_of_trades(venue, SYMBOLS["kraken"]))
            listener.until(lambda: venue.done.is_set() and listener.runner.seen.trades >= count)
            listener.until(lambda: settled(database, source))
            listener.end()
            assert (listener.runner.fetches.retried, listener.runner.seen.refused) == (2, 1)
            assert listener.runner.fetches.paused_s >= 1
            assert without_available(sent_rows(listener.client, listener.plan)["trades"]) == truth_of_trades(
                venue, SYMBOLS["kraken"]
            )
        assert time.monotonic() - began_s >= 1
    assert {gap.state for gap in gaps_of(database, source)} == {GapState.filled}


def test_pauses_are_told_in_seconds_or_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < (seconds_of(date) or 0) <= 100
    assert [seconds_of(word) for word in (None, "7", "soon", "Sun, 06 Nov 1994 08:49:37 GMT")] == [None, 7.0, None, 0.0]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(200, {}, "[]")] * 30, "the history does not have them"),
        ([(404, {}, "gone")] * 30, "HTTP 404: gone"),
        ([(500, {}, "oops")] * 99, "given up after 2 tries: HTTP 500"),
        ([(200, {}, "<html>")] * 30, "no JSON"),
        ([(200, {}, "x" * 5_000)] * 30, "more than 4000 bytes"),
        ([(302, {"Location": "http://127.0.0.1:1/"}, "")] * 30, "HTTP 302"),
    ],
)
def test_what_history_does_not_tell_is_recorded_as_unfillable(
    database: str, redis_url: str, answers: list[tuple[int, dict[str, str], str]], words: str
) -> None:
    with cut_in_the_middle("binance", faults := Faults(), trades_only=True) as venue:
        faults.answers[:] = answers
        source = make_source(
            "binance", venue, channels=["trades"], limits={"response_bytes_max": 4_000},
            rest={"attempts_max": 2, "empty_max": 2},
        )  # fmt: skip
        with Listener(source, database, redis_url) as listener:
            listener.until(lambda: venue.done.is_set() and settled(database, source))
            listener.end()
            rows = sent_rows(listener.client, listener.plan)["trades"]
    missing = 0
    for gap in gaps_of(database, source):
        assert gap.state is GapState.unfillable
        assert words in gap.detail
        assert gap.missing == gap.last - gap.first + 1
        missing += gap.missing
    assert missing > 0
    assert len(rows) + missing == len(truth_of_trades(venue, SYMBOLS["binance"]))


def test_a_gap_that_is_too_large_is_not_asked_for(database: str, redis_url: str) -> None:
    with cut_in_the_middle("binance", Faults()) as venue:
        source = make_source("binance", venue, limits={"gap_trades_max": 1})
        with Listener(source, database, redis_url) as listener:
            listener.until(lambda: venue.done.is_set() and settled(database, source))
        large = [gap for gap in gaps_of(database, source) if gap.last > gap.first]
        assert large
        assert all("at most 1 are asked for" in gap.detail for gap in large)


def test_what_happened_while_nobody_listened_is_filled(database: str, redis_url: str) -> None:
    """A run ends, time goes on, the next run begins: with what Redis knows, and with what PostgreSQL knows alone."""
    adapter = "binance"
    faults = Faults()
    venue = make_venue(adapter, COUNT, seed=12, faults=faults)
    faults.silence.add(120)  # the venue waits there until somebody listens again
    truth = truth_of_trades(venue, SYMBOLS[adapter])
    with venue.running(expected(adapter)):
        source = make_source(adapter, venue)
        with Listener(source, database, redis_url) as listener:
            listener.until(lambda: venue.position >= 120 + LOST)
        with redis.Redis.from_url(redis_url) as client:
            before = sent_rows(client, listener.plan)["trades"]
        venue.position += 50
        with Listener(source, database, redis_url) as listener:
            listener.until(lambda: venue.done.is_set() and settled(database, source))
            listener.until(lambda: len(sent_rows(listener.client, listener.plan)["trades"]) == len(truth))
            listener.end()
            rows = sent_rows(listener.client, listener.plan)["trades"]
    assert len(before) < len(rows)
    assert without_available(rows) == truth
    gaps = gaps_of(database, source)
    assert {(gap.reason.value, gap.state.value, gap.remedy.value) for gap in gaps} == {
        ("downtime", "filled", "history")
    }


def test_a_gap_that_a_killed_run_left_is_filled_by_the_next(database: str, redis_url: str) -> None:
    adapter = "binance"
    with cut_in_the_middle(adapter, faults := Faults(), trades_only=True) as venue:
        faults.answers[:] = [(503, {"Retry-After": "600"}, "later")]
        source = make_source(adapter, venue, channels=["trades"], rest={"retry_s": 0.05})
        with Listener(source, database, redis_url) as listener:
            # Were the first run not the one that is sent away, the second would be.
            listener.until(lambda: venue.done.is_set() and bool(gaps_of(database, source)) and not faults.answers)
        assert {gap.state for gap in gaps_of(database, source)} == {GapState.found}
        truth = truth_of_trades(venue, SYMBOLS[adapter])
        with Listener(source, database, redis_url) as listener:
            listener.until(lambda: settled(database, source))
            listener.end()
            assert without_available(sent_rows(listener.client, listener.plan)["trades"]) == truth
    assert {(gap.state.value, gap.remedy.value) for gap in gaps_of(database, source)} == {("filled", "history")}


def test_a_database_that_goes_away_gets_the_gaps_when_it_is_back(database: str, redis_url: str) -> None:
    with cut_in_the_middle("binance", Faults()) as venue:
        source = make_source("binance", venue)
        with psycopg.connect(database, autocommit=True) as admin, Listener(source, database, redis_url) as listener:
            listener.until(lambda: listener.runner.connections.connected > 0)
            ended = admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchall()
            assert ended
            listener.until(lambda: venue.done.is_set() and settled(database, source))
            listener.end()
            assert listener.error is None
            rows = sent_rows(listener.client, listener.plan)
    assert without_available(rows["trades"]) == truth_of_trades(venue, SYMBOLS["binance"])
    assert {gap.state for gap in gaps_of(database, source)} == {GapState.filled}


def test_secret_headers_come_from_the_environment(
    database: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cut_in_the_middle("binance", Faults()) as venue:
        source = make_source("binance", venue, rest={"headers_from": {"X-MBX-APIKEY": "BINANCE_KEY_FOR_TEST"}})
        with (
            Listener(source, database, redis_url) as listener,
            pytest.raises(ConfigurationError, match="BINANCE_KEY_FOR_TEST is not set"),
        ):
            listener.until(lambda: False, seconds=5)
        monkeypatch.setenv("BINANCE_KEY_FOR_TEST", "sesame-open")
        heard: list[str] = []
        answer = venue.words.answer

        def listen(target: str, headers: object, position: int) -> object:
            heard.append(headers["X-MBX-APIKEY"])  # type: ignore[index]
            return answer(target, headers, position)

        venue.words.answer = listen
        with Listener(source, database, redis_url, record=tmp_path) as listener:
            listener.until(lambda: bool(heard))
        assert set(heard) == {"sesame-open"}
    assert all(b"sesame-open" not in path.read_bytes() for path in tmp_path.iterdir())
