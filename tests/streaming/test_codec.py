"""Blocks: what goes in comes out; whatever is none is refused with a reason and never crashes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import InvalidDataError, LimitError
from tapeline.streaming.codec import (
    ACTIONS,
    EVENTS_MAX,
    TEXTS,
    VALUES,
    EventKind,
    Events,
    decode_block,
    encode_block,
    faults,
    make_events,
)
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.reading import Entry, read_entries

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_SYMBOL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
_TIME = st.integers(0, 2**52)


@st.composite
def blocks(draw: st.DrawFn) -> Events:
    kind = draw(st.sampled_from(EventKind))
    count = draw(st.integers(1, 12))

    def many(one: st.SearchStrategy) -> list:
        return draw(st.lists(one, min_size=count, max_size=count))

    event_us = np.array(many(_TIME))
    values = np.array(many(st.lists(st.floats(width=64), min_size=len(VALUES[kind]), max_size=len(VALUES[kind]))))
    if kind is EventKind.bars:
        values[:, 0] = event_us - 1
    return make_events(
        kind,
        many(_SYMBOL),
        event_us,
        np.array(many(_TIME)),
        event_us + np.array(many(st.integers(0, 1_000))),
        values.reshape(count, len(VALUES[kind])),
        change=np.array(many(st.integers(0, 2))),
        side=np.array(many(st.integers(-1, 1))),
        actions=many(st.sampled_from(ACTIONS)) if kind is EventKind.book_events else None,
        texts=[many(_TEXT) for _ in TEXTS.get(kind, ())],
    )


@given(blocks())
@settings(max_examples=150, deadline=None)
def test_a_block_comes_back_bit_for_bit(events: Events) -> None:
    back = decode_block(encode_block(events))
    assert (back.kind, back.symbols, back.texts) == (events.kind, events.symbols, events.texts)
    assert back.records.tobytes() == events.records.tobytes()
    assert not faults(back.kind, back.records).any()


@given(
    blocks(), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6), st.booleans()
)
@settings(max_examples=400, deadline=None)
def test_hostile_bytes_are_refused_or_are_a_block(events: Events, changes: list[tuple[int, int]], sealed: bool) -> None:
    data = bytearray(encode_block(events))
    for place, value in changes:
        data[place % len(data)] = value
    if sealed:  # the checksum fits, so that what lies behind it is reached
        data[-4:] = zlib.crc32(bytes(data[:-4])).to_bytes(4, "little")
    try:
        found = decode_block(bytes(data))
    except InvalidDataError:
        return
    faults(found.kind, found.records)
    assert decode_block(encode_block(found)).records.tobytes() == found.records.tobytes()


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(InvalidDataError) as refused:
        decode_block(data)
    assert refused.value.what


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("change", 3, "change"),
        ("side", 2, "side"),
        ("event_us", -(2**62), "event time"),
        ("sequence", -1, "sequence"),
        ("available_us", 0, "available before"),
    ],
)
def test_an_impossible_event_goes_to_the_dead_letters_and_its_neighbours_are_taken(
    column: str, value: int, reason: str
) -> None:
    plan = StreamPlan("live", "tape", partitions=1)
    times = np.array([10, 20, 30])
    events = make_events(EventKind.trades, ["A"] * 3, times, times, times, np.ones((3, 2)))
    events.records[column][1] = value
    refused: list[tuple[int, bytes, str, bytes]] = []
    [block] = read_entries(
        plan, [Entry.of(0, b"5-1", [b"e", encode_block(events)])], lambda *letter: refused.append(letter)
    )
    assert block.records["event_us"].tolist() == [10, 30]
    assert block.part.tolist() == [65536, 65538]
    [(partition, entry, why, data)] = refused
    assert (partition, entry) == (0, b"5-1")
    assert reason in why
    assert decode_block(data).records.tobytes() == events.records[1:2].tobytes()


def test_entries_that_are_no_block_are_refused_one_by_one() -> None:
    plan = StreamPlan("live", "tape", partitions=4)
    times = np.array([10])
    home = plan.partition_of("A")
    good = encode_block(make_events(EventKind.trades, ["A"], times, times, times, np.ones((1, 2))))
    reasons: list[str] = []
    blocks = read_entries(
        plan,
        [
            Entry.of(home, b"1-1", [b"e", b"nonsense"]),
            Entry.of(home, b"1-2", [b"x", good]),
            Entry.of((home + 1) % 4, b"1-3", [b"e", good]),
            Entry.of(home, b"1-18446744073709551615", [b"e", good]),
            Entry.of(home, b"2-0", [b"e", good]),
        ],
        lambda _, __, reason, ___: reasons.append(reason),
    )
    assert [len(block) for block in blocks] == [1]
    assert len(reasons) == 4
    assert "belongs to partition" in reasons[2]


def test_too_many_events_and_too_long_symbols_are_refused() -> None:
    times = np.arange(EVENTS_MAX + 1)
    with pytest.raises(LimitError, match="do not fit a block"):
        encode_block(make_events(EventKind.trades, ["A"] * len(times), times, times, times, np.ones((len(times), 2))))
    with pytest.raises(LimitError, match="65 bytes"):
        encode_block(make_events(EventKind.trades, ["A" * 65], times[:1], times[:1], times[:1], np.ones((1, 2))))
