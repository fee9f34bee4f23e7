"""Numbers and books against plain statements of what they mean, whatever comes in whatever order."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.live.book_sync import RESTART_US as BOOK_RESTART_US
from tapeline.live.book_sync import BookRow, BookSync, Standing
from tapeline.live.messages import BookSnapshot, BookUpdate, Level
from tapeline.live.trade_ids import RESTART_US, Seen, TradeIds

Books = tuple[dict[float, float], dict[float, float]]


@settings(max_examples=300)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=80))
def test_gaps_are_what_is_missing_between_the_first_and_the_last(numbers: list[int]) -> None:
    ids = TradeIds()
    seen: set[int] = set()
    for number in numbers:
        observed = ids.observe(number, 1)
        before_first = bool(seen) and number < numbers[0]
        assert (observed.seen is Seen.known) == (number in seen or before_first)
        if observed.seen is not Seen.known:
            seen.add(number)
        for gap in list(ids.gaps):
            if not gap.left:
                ids.close(gap)
        missing = {number for gap in ids.gaps for first, last in gap.left for number in range(first, last + 1)}
        assert missing == set(range(numbers[0], max(seen) + 1)) - seen
        assert sum(gap.missing for gap in ids.gaps) == len(missing)


def test_a_venue_that_counts_anew_is_noticed_and_a_repetition_is_not_taken_for_that() -> None:
    ids = TradeIds()
    assert ids.observe(100, 50).seen is Seen.new
    assert ids.observe(99, 50 + RESTART_US).seen is Seen.known
    observed = ids.observe(3, 51 + RESTART_US)
    assert (observed.seen, observed.restarted) == (Seen.new, True)
    assert ids.observe(4, 52 + RESTART_US).found is None


def history_of(chance: Random) -> list[tuple[BookUpdate, Books]]:
    """Changes of a book, each with the book after it."""
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    number, made = 10, []
    for step in range(chance.randrange(1, 30)):
        sides: dict[int, list[Level]] = {1: [], -1: []}
        for _ in range(chance.randrange(1, 4)):
            side, price, size = chance.choice([1, -1]), chance.randrange(1, 6), chance.randrange(4)
            levels = bids if side == 1 else asks
            sides[side].append(Level(float(price), float(size), str(price), str(size)))
            if size:
                levels[float(price)] = float(size)
            else:
                levels.pop(float(price), None)
        first = number + 1
        number = first + chance.randrange(3)
        update = BookUpdate("A", first, number, 1_000 + step, tuple(sides[1]), tuple(sides[-1]))
        made.append((update, (dict(bids), dict(asks))))
    return made


def _snapshot(number: int, books: Books) -> BookSnapshot:
    bids, asks = (tuple(Level(price, size, str(price), str(size)) for price, size in side.items()) for side in books)
    return BookSnapshot("A", number, None, bids, asks)


def _shown(sync: BookSync) -> Books:
    bids, asks = ({level.price: level.size for level in side} for side in (sync.book.bids, sync.book.asks))
    return bids, asks


def _rebuilt(table: dict[tuple[int, int], BookRow]) -> Books:
    """The book as a reader of the table rebuilds it."""
    sides: dict[int, dict[float, float]] = {1: {}, -1: {}}
    for _, row in sorted(table.items()):
        if row.action == "clear":
            sides[1].clear()
            sides[-1].clear()
        elif row.action == "delete":
            del sides[row.side][row.price]
        else:
            sides[row.side][row.price] = row.size
    return sides[1], sides[-1]


@settings(max_examples=400)
@given(st.integers(0, 1 << 60))
def test_a_numbered_book_is_right_or_says_that_it_is_not(seed: int) -> None:
    """Changes are lost, repeated and reordered, snapshots come early and late; rows rebuild the very book."""
    chance = Random(seed)
    history = history_of(chance)
    order: list[int] = []
    for place in range(len(history)):
        match chance.choice(["once", "once", "once", "lost", "twice", "late"]):
            case "once":
                order.append(place)
            case "twice":
                order += [place, place]
            case "late":
                order.insert(max(0, len(order) - 1), place)
    truth = {update.last: books for update, books in history} | {10: ({}, {})}
    sync = BookSync(numbered=True, depth=None)
    table: dict[tuple[int, int], BookRow] = {}
    for place in [*order, *range(len(history))]:  # at the end all of it once more
        results = [sync.update(history[place][0])]
        if results[0].ask or (sync.asked and chance.random() < 0.5):
            at = chance.randint(0, len(history))
            number = history[at - 1][0].last if at else 10
            assert number is not None
            results.append(sync.snapshot(_snapshot(number, truth[number])))
        for result in results:
            assert not (result.rows and result.lost)
            for row in result.rows:
                key = (row.event_us, row.sequence)
                assert repr(table.setdefault(key, row)) == repr(row)  # a key is never taken by something else
        if sync.standing is Standing.right:
            assert _shown(sync) == _rebuilt(table) == truth[sync.at]
    newest = history[-1][0].last
    assert newest is not None
    sync.snapshot(_snapshot(newest, truth[newest]))
    sync.update(BookUpdate("A", newest + 1, newest + 1, 2_000, (), ()))
    assert sync.standing is Standing.right
    assert _shown(sync) == truth[newest]


def test_a_book_of_a_venue_that_counts_anew_is_asked_for_again() -> None:
    sync = BookSync(numbered=True, depth=None)
    level = Level(1.0, 2.0, "1", "2")
    sync.update(BookUpdate("A", 900, 900, 10, (level,), ()))
    sync.snapshot(BookSnapshot("A", 899, None, (), ()))
    assert sync.standing is Standing.right
    assert sync.update(BookUpdate("A", 5, 6, 11, (), ())).ignored  # a repetition
    result = sync.update(BookUpdate("A", 5, 6, 12 + BOOK_RESTART_US, (level,), ()))
    assert (result.lost, result.ask) == (("renumbered", None, None), True)
    assert sync.snapshot(BookSnapshot("A", 4, None, (), ())).repaired
    assert sync.at == 6


def test_an_unnumbered_book_that_fails_its_checksum_shows_nothing_until_a_snapshot() -> None:
    level = Level(100.5, 2.0, "100.5", "2.0")
    worse = Level(100.4, 1.0, "100.4", "1.0")
    sync = BookSync(numbered=False, depth=10)
    book = BookSync(numbered=False, depth=10).book
    book.apply([level], [])
    whole = BookSnapshot("A", None, None, (level,), (), book.checksum())
    assert sync.update(BookUpdate("A", None, None, 5, (worse,), (), 1)).ask
    assert sync.snapshot(whole).rows == []
    book.apply([worse], [])
    result = sync.update(BookUpdate("A", None, None, 6, (worse,), (), book.checksum()))
    assert [row.action for row in result.rows] == ["clear", "add", "change"]
    assert result.repaired
    wrong = sync.update(BookUpdate("A", None, None, 7, (Level(1.0, 1.0, "1.0", "1.0"),), (), 1))
    assert (wrong.rows, wrong.ask, wrong.lost) == ([], True, ("checksum", None, None))
    assert sync.update(BookUpdate("A", None, None, 8, (), (), 1)).ignored
    damaged = BookSnapshot("A", None, None, (level, worse), (), 1)
    assert sync.snapshot(damaged).ask
    assert sync.snapshot(whole).ask is False
