"""Whatever a venue does, what was recorded is what an undisturbed run records, bit for bit."""

from __future__ import annotations

import psycopg
import pytest
from tapeline.live.gaps import GapState, list_gaps

from tests.live.venue import Faults, Venue
from tests.live.world import (
    SYMBOLS,
    Listener,
    Row,
    books_at,
    expected,
    make_source,
    make_venue,
    places,
    require_final_books,
    sent_rows,
    truth_of_trades,
    without_available,
)

COUNT = 460
DEPTH = {"binance": None, "kraken": 10, "json": None}
CASES = {
    "drop": {"drop": [("trade", 60), ("book", 200), ("book", 201), ("trade", 340)]},
    "silence": {"silence": [("trade", 100), ("book", 350)]},
    "gaps": {"skip": [("trade", 60), ("book", 120), ("trade", 240), ("book", 330)]},
    "repetitions": {"twice": [("trade", at) for at in range(40, 400, 40)] + [("book", at) for at in range(60, 400, 40)]},
    "reordering": {"swap": [("trade", 50), ("book", 130), ("trade", 260), ("book", 370)]},
    "malformed": {"garbage": [("trade", 80), ("book", 180), ("quote", 250), ("trade", 360)]},
    "oversized": {"oversized": [("trade", 90), ("book", 300)]},
    "all": {
        "drop": [("trade", 60), ("book", 420)], "silence": [("book", 150)], "skip": [("trade", 220), ("book", 260)],
        "twice": [("trade", 290), ("book", 300)], "swap": [("trade", 310), ("book", 340)], "garbage": [("book", 370)],
        "oversized": [("trade", 390)],
    },
}  # fmt: skip


def listen(
    venue: Venue, adapter: str, database: str, redis_url: str, **changes: object
) -> tuple[dict[str, list[Row]], Listener]:
    """Listen to all that the venue plays; returns what was sent."""
    with venue.running(expected(adapter)):
        source = make_source(adapter, venue, **changes)
        with Listener(source, database, redis_url) as listener:
            trades = len(truth_of_trades(venue, SYMBOLS[adapter]))
            listener.until(lambda: venue.done.is_set() and listener.runner.seen.trades >= trades)
            listener.until(lambda: books_are_whole(venue, adapter, listener))
            with psycopg.connect(database, autocommit=True) as connection:
                listener.until(lambda: list_gaps(connection, source.source, state=GapState.found) == [])
                listener.gaps = list_gaps(connection, source.source, limit=1_000)
            listener.end()
            assert listener.error is None
            return sent_rows(listener.client, listener.plan), listener
    raise AssertionError


def books_are_whole(venue: Venue, adapter: str, listener: Listener) -> bool:
    """Whether the last change of each book was sent."""
    rows = sent_rows(listener.client, listener.plan)
    try:
        require_final_books(venue, SYMBOLS[adapter], rows["book_events"], DEPTH[adapter])
    except (AssertionError, KeyError, ValueError):
        return False
    return True


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, dict[str, list[Row]]]:
    """What each venue's undisturbed run recorded."""
    return {}


@pytest.mark.parametrize("adapter", ["binance", "kraken", "json"])
@pytest.mark.parametrize("case", CASES)
def test_after_any_fault_the_record_is_that_of_an_undisturbed_run(
    database: str, redis_url: str, adapter: str, case: str, undisturbed: dict[str, dict[str, list[Row]]]
) -> None:
    if adapter not in undisturbed:
        quiet = make_venue(adapter, COUNT, seed=3)
        undisturbed[adapter], listener = listen(quiet, adapter, database, redis_url)
        assert without_available(undisturbed[adapter]["trades"]) == truth_of_trades(quiet, SYMBOLS[adapter])
        assert listener.gaps == []
        with psycopg.connect(database) as connection:
            connection.execute("DELETE FROM tapeline.live_gaps")  # of the end
        assert listener.runner.connections.connected == 1
        listener.client.flushdb()
    faults = Faults()
    venue = make_venue(adapter, COUNT, seed=3, faults=faults)
    pairs = {"skip", "swap"}
    for name, wanted in CASES[case].items():
        getattr(faults, name).update(
            places(venue, kind, after, pair=name in pairs)
            for kind, after in wanted
            if adapter != "json" or kind == "trade" or name in {"drop", "silence", "twice"}
        )
    timing = {"silence_s": 0.4} if adapter == "binance" else {"ping_s": 0.1, "pong_s": 0.2}
    rows, listener = listen(venue, adapter, database, redis_url, timing=timing)
    quiet_rows = undisturbed[adapter]
    assert without_available(rows["trades"]) == without_available(quiet_rows["trades"])
    mine, theirs = books_at(rows["book_events"]), books_at(quiet_rows["book_events"])
    for symbol, books in theirs.items():
        common = set(books) & set(mine[symbol])
        assert len(common) > len(books) / 2
        assert all(mine[symbol][moment] == books[moment] for moment in common)
        assert max(mine[symbol]) == max(books)
    gaps = listener.gaps
    assert {gap.state for gap in gaps if gap.kind.name != "quotes"} <= {GapState.filled}
    assert not [gap for gap in gaps if gap.missing]
    quotes = [gap for gap in gaps if gap.kind.name == "quotes"]
    assert all(gap.state is GapState.unfillable for gap in quotes)
    assert bool(quotes) == (adapter != "json" and bool(faults.drop or faults.silence or faults.oversized))
    cut = len(faults.drop) + len(faults.silence) + len(faults.oversized)
    assert listener.runner.connections.connected >= 1 + cut
    assert bool(gaps) == (case != "repetitions")
    assert (listener.runner.seen.refused > 0) == bool(faults.garbage)
    assert listener.client.xlen(listener.plan.shared_key("dead")) == listener.runner.seen.refused
