"""The packed codec: round trips of anything it may hold, and nothing but IntegrityError for anything else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import IntegrityError, InvalidDataError, LimitError, ParameterError
from tapeline.storage import packed
from tapeline.storage.keys import entity_key, glob, view_prefix
from tapeline.storage.packed import (
    UNKNOWN,
    Column,
    Found,
    Layout,
    RowTimes,
    decode_many,
    encode_many,
    layout_id,
    row_times,
)

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
KINDS = st.sampled_from(["float64", "float32", "int64", "bool", "unix_timestamp", "string", "bytes", "array_float64"])


@st.composite
def tables(draw: st.DrawFn):
    kinds = draw(st.lists(KINDS, max_size=70))
    layout = Layout("view", 1, tuple(Column(f"c{i}", kind) for i, kind in enumerate(kinds)))
    rows = draw(st.integers(0, 5))
    times = np.array([[draw(INT64) for _ in range(4)] for _ in range(rows)], dtype=np.int64).reshape(rows, 4)
    bits = draw(st.lists(INT64, min_size=rows * len(layout.slots), max_size=rows * len(layout.slots)))
    slots = np.array(bits, dtype=np.int64).view(np.float64).reshape(rows, len(layout.slots))
    nulls = np.array(
        draw(st.lists(st.booleans(), min_size=rows * len(kinds), max_size=rows * len(kinds))), dtype=np.bool_
    ).reshape(rows, len(kinds))
    item = st.binary(max_size=40) | st.integers(250, 600).map(bytes)
    tails = [[b"" if nulls[row, column] else draw(item) for column in layout.tails] for row in range(rows)]
    return layout, times, slots, nulls, tails


@settings(max_examples=150, deadline=None)
@given(tables(), st.data())
def test_round_trip_is_bit_exact_with_missing_keys_in_between(table, data) -> None:
    layout, times, slots, nulls, tails = table
    values = encode_many(layout, times, slots, nulls=nulls, tails=tails)
    gaps = [data.draw(st.booleans()) for _ in values]
    asked: list[bytes | None] = [
        piece for value, gap in zip(values, gaps, strict=True) for piece in ([None] if gap else []) + [value]
    ]
    rows = decode_many(layout, asked)
    found = np.array([value is not None for value in asked], dtype=np.bool_)
    assert np.array_equal(rows.found, found)
    assert np.array_equal(rows.times[found], times)
    assert np.array_equal(rows.nulls[found], nulls)
    assert rows.slots[found].tobytes() == slots.tobytes()
    assert [tail for tail, there in zip(rows.tails, found, strict=True) if there] == [tuple(row) for row in tails]
    assert (rows.times[~found] == UNKNOWN).all()
    assert rows.nulls[~found].all()
    assert np.isnan(rows.slots[~found]).all()
    for value, row in zip(values, times, strict=True):
        assert row_times(value) == RowTimes(*row.tolist())
        assert layout_id(value) == layout.id


@settings(max_examples=200, deadline=None)
@given(tables(), st.data())
def test_damaged_bytes_are_refused_or_read_as_a_row_but_never_crash(table, data) -> None:
    layout, times, slots, nulls, tails = table
    values = encode_many(layout, times, slots, nulls=nulls, tails=tails)
    if not values:
        return
    victim = data.draw(st.integers(0, len(values) - 1))
    value = values[victim]
    cut = data.draw(st.integers(0, len(value) - 1))
    kind = data.draw(st.sampled_from(["truncate", "extend", "magic", "former", "layout", "noise"]))
    hostile = {
        "truncate": value[:cut],
        "extend": value + data.draw(st.binary(min_size=1, max_size=9)),
        "magic": bytes([data.draw(st.sampled_from([0, 0x7A, 0xF9, 0xFC, 0xFF]))]) + value[1:],
        "former": b"TLP\x01" + value,
        "layout": value[:1] + bytes([value[1] ^ 1]) + value[2:],
        "noise": data.draw(st.binary(max_size=200)),
    }[kind]
    values[victim] = hostile
    with pytest.raises(IntegrityError) as caught:
        decode_many(layout, values)
    assert f"key {victim} " in str(caught.value)


@pytest.mark.parametrize(
    "tail", [b"\x00\x04xyz", b"\x00\xff\xff\xff\xff\xffxyz", b"\x00\xff\x03\x00", b"\x00", b"\x04\x03xyz", b""]
)
def test_oversized_lengths_inside_the_tail_are_refused(tail: bytes) -> None:
    layout = Layout("view", 1, (Column("a", "string"), Column("b", "string")))
    (value,) = encode_many(layout, np.zeros((1, 4), np.int64), np.zeros((1, 0)), tails=[[b"", b"xyz"]])
    assert value.endswith(b"\x00\x03xyz")
    with pytest.raises(IntegrityError, match="damaged"):
        decode_many(layout, [value[:-5] + tail])


BOUNDS = [150, 151, 16_534, 16_535, 1_589_398, 1_589_399, *(1 << bits for bits in range(8, 64, 8))]
EDGES = st.sampled_from(
    [
        UNKNOWN,
        UNKNOWN + 1,
        2**63 - 1,
        *(sign * bound + step for bound in BOUNDS for sign in (-1, 1) for step in (-1, 0, 1)),
    ]
)
TIMES = st.builds(RowTimes, *[EDGES | INT64 | st.integers(-300, 300)] * 4)


@settings(max_examples=200, deadline=None)
@given(st.lists(TIMES, min_size=2, max_size=40))
def test_values_sort_as_their_rows_rank(rows: list[RowTimes]) -> None:
    values = encode_many(Layout("view", 1, ()), np.array(rows, dtype=np.int64), np.zeros((len(rows), 0)))
    assert [row_times(value) for value in values] == rows
    for (one, a), (other, b) in itertools.combinations(zip(rows, values, strict=True), 2):
        assert (one < other) == (a < b)
        assert (one == other) == (a == b)


def test_a_value_costs_its_numbers_and_few_bytes_more() -> None:
    layout = Layout.of_floats("view", 1, [f"f{i}" for i in range(100)])
    second, minute = 1_000_000, 60_000_000
    bar = 1_362_182_400 * second
    times = [
        (bar, 0, bar, bar + 1_500_000),  # a bar that is computed within a second and a half
        (bar + 123_456, 40_000_000, bar + 123_456 + 900, bar + 125_000),  # a trade
        (bar, 7, bar + 15 * minute, bar + 4_000 * 86_400 * second),  # history that is loaded years later
    ]
    nulls = np.zeros((3, 100), np.bool_)
    nulls[2, 99] = True
    values = encode_many(layout, np.array(times, np.int64), np.ones((3, 100)), nulls=nulls)
    assert [len(value) - 800 for value in values] == [17, 23, 6 + 6 + 1 + 5 + 8 + 13]


def test_values_of_the_former_version_are_named_with_their_remedy() -> None:
    layout = Layout.of_floats("daily", 3, ["a"])
    former = b"TLP\x01" + bytes(60)
    for read in (layout_id, row_times, lambda value: decode_many(layout, [value])):
        with pytest.raises(IntegrityError, match=r"codec version 1.*tapeline rebuild-online"):
            read(former)


def test_unknown_layout_is_named() -> None:
    old = Layout.of_floats("daily", 3, ["a", "b"])
    new = Layout.of_floats("daily", 3, ["b", "a"])
    (value,) = encode_many(old, np.zeros((1, 4), np.int64), np.zeros((1, 2)))
    with pytest.raises(IntegrityError, match=f"unknown layout {old.id.hex()}, expected {new.id.hex()}.*daily@v3"):
        decode_many(new, [None, value])


def test_null_is_not_nan_and_integers_are_exact() -> None:
    layout = Layout("view", 1, (Column("x"), Column("n", "int64"), Column("y")))
    slots = np.array([[np.nan, 0.0, 1.5], [2.0, 0.0, 0.0]])
    slots.view(np.int64)[:, 1] = [2**53 - 1, -7]
    nulls = np.array([[False, False, False], [False, False, True]])
    rows = decode_many(layout, encode_many(layout, np.zeros((2, 4), np.int64), slots, nulls=nulls))
    assert rows.nulls.tolist() == nulls.tolist()
    numbers = rows.numbers()
    assert np.isnan(numbers[0, 0])
    assert numbers[0, 1] == 2**53 - 1
    assert numbers[1].tolist()[:2] == [2.0, -7.0]
    assert np.isnan(numbers[1, 2])


def test_values_are_read_where_they_lie() -> None:
    layout = Layout.of_floats("view", 1, ["a", "b"])
    one, two = encode_many(layout, np.zeros((2, 4), np.int64), np.array([[1.0, 2.0], [3.0, 4.0]]))
    data = np.frombuffer(bytearray(b"..." + one + b"." + two), dtype=np.uint8)
    places = np.array([3, 0, 4 + len(one)]), np.array([len(one), -1, len(two)])
    found = Found(data, *places)
    assert found.values() == [one, None, two]
    assert np.array_equal(decode_many(layout, found).slots, [[1.0, 2.0], [np.nan] * 2, [3.0, 4.0]], equal_nan=True)
    assert decode_many(layout, found.at([2, 0])).slots[:, 0].tolist() == [3.0, 1.0]
    assert found.at(slice(1, 3)).values() == [None, two]


def test_a_row_of_no_columns_is_told_from_none() -> None:
    layout = Layout("view", 1, ())
    rows = decode_many(layout, [None, *encode_many(layout, np.ones((1, 4), np.int64), np.zeros((1, 0)))])
    assert rows.found.tolist() == [False, True]
    assert rows.any_null


@pytest.mark.parametrize(
    ("times", "slots", "nulls", "tails"),
    [
        ((2, 3), (2, 1), None, [[b""], [b""]]),
        ((2, 4), (2, 2), None, [[b""], [b""]]),
        ((2, 4), (2, 1), (2, 1), [[b""], [b""]]),
        ((2, 4), (2, 1), (2, 2), [[b""]]),
        ((2, 4), (2, 1), (2, 2), None),
    ],
)
def test_shapes_that_do_not_fit_are_refused(times, slots, nulls, tails) -> None:
    layout = Layout("view", 1, (Column("x"), Column("s", "string")))
    with pytest.raises(ParameterError, match="view@v1"):
        encode_many(
            layout,
            np.zeros(times, np.int64),
            np.zeros(slots),
            nulls=None if nulls is None else np.zeros(nulls, np.bool_),
            tails=tails,
        )


def test_a_value_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "VALUE_BYTES_MAX", 1_000)
    layout = Layout("view", 1, (Column("s", "string"),))
    with pytest.raises(LimitError, match="row 1"):
        encode_many(layout, np.zeros((2, 4), np.int64), np.zeros((2, 0)), tails=[[b""], [b"x" * 1_000]])


def test_names_and_kinds_decide_the_layout_id() -> None:
    ids = {
        Layout("v", 1, columns).id
        for columns in [
            (Column("a"), Column("b")),
            (Column("b"), Column("a")),
            (Column("a"), Column("b", "int64")),
            (Column("a"),),
            (Column("ab"),),
        ]
    }
    assert len(ids) == 5
    assert Layout("v", 1, (Column("a"),)).id == Layout("w", 2, (Column("a"),)).id
    with pytest.raises(ParameterError, match="'a'"):
        Layout("v", 1, (Column("a"), Column("a", "int64")))


ENTITY_VALUES = st.one_of(st.text(max_size=6), st.binary(max_size=6), st.integers(), st.booleans())


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(ENTITY_VALUES, ENTITY_VALUES), min_size=2, max_size=30))
def test_different_composite_entities_have_different_keys(pairs) -> None:
    typed = {(type(a), a, type(b), b) for a, b in pairs}
    assert len({entity_key({"x": a, "y": b}) for _, a, _, b in typed}) == len(typed)


def test_entity_keys_are_readable_and_do_not_depend_on_the_order_given() -> None:
    assert entity_key({"symbol": "AAPL"}) == b"{s4:AAPL}"
    assert entity_key({"venue": "XNAS", "account": 42}) == entity_key({"account": 42, "venue": "XNAS"})
    assert entity_key({"venue": "XNAS", "account": 42}) == b"{i2:42s4:XNAS}"
    assert view_prefix("tapeline", "daily", 2) == b"tl:tapeline:daily@2:"
    assert glob(b"tl:p[1]:*\\") == rb"tl:p\[1\]:\*\\*"


@pytest.mark.parametrize("value", [1.5, None, ["a"], "\ud800"])
def test_what_cannot_be_an_entity_is_refused(value) -> None:
    with pytest.raises(InvalidDataError):
        entity_key({"x": value})


@pytest.mark.parametrize(
    ("project", "view", "version"), [("a:b", "v", 1), ("p", "v@2", 1), ("p", "v{}", 1), ("p", "", 1), ("p", "v", -1)]
)
def test_names_that_would_make_keys_ambiguous_are_refused(project: str, view: str, version: int) -> None:
    with pytest.raises(ParameterError):
        view_prefix(project, view, version)
