"""The packed codec: round trips of anything it may hold, and nothing but IntegrityError for anything else."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import IntegrityError, InvalidDataError, LimitError, ParameterError
from tapeline.storage import packed
from tapeline.storage.keys import entity_key, glob, view_prefix
from tapeline.storage.packed import UNKNOWN, Column, Layout, RowTimes, decode_many, encode_many, layout_id, row_times

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
    tails = [[draw(st.binary(max_size=40)) for _ in layout.tails] for _ in range(rows)]
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
    kind = data.draw(st.sampled_from(["truncate", "extend", "magic", "layout", "length", "noise"]))
    hostile = {
        "truncate": value[:cut],
        "extend": value + data.draw(st.binary(min_size=1, max_size=9)),
        "magic": b"TLP\x02" + value[4:],
        "layout": value[:4] + bytes(8 * [value[4] ^ 1]) + value[12:],
        "length": value[:12]
        + struct.pack("<I", (len(value) + data.draw(st.integers(1, 2**32 - 1))) % 2**32)
        + value[16:],
        "noise": data.draw(st.binary(max_size=200)),
    }[kind]
    values[victim] = hostile
    with pytest.raises(IntegrityError) as caught:
        decode_many(layout, values)
    assert f"key {victim} " in str(caught.value)


@pytest.mark.parametrize("offset", [0, 4])
def test_oversized_lengths_inside_the_tail_are_refused(offset: int) -> None:
    layout = Layout("view", 1, (Column("a", "string"), Column("b", "string")))
    (value,) = encode_many(layout, np.zeros((1, 4), np.int64), np.zeros((1, 0)), tails=[[b"", b"xyz"]])
    start = layout.fixed_bytes + offset
    hostile = value[:start] + struct.pack("<I", 0xFFFFFFFF) + value[start + 4 :]
    with pytest.raises(IntegrityError, match="damaged"):
        decode_many(layout, [hostile])


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


def test_number_block_is_read_in_place() -> None:
    layout = Layout.of_floats("view", 1, [f"f{i}" for i in range(100)])
    rows = decode_many(layout, encode_many(layout, np.zeros((50, 4), np.int64), np.ones((50, 100))))
    assert rows.slots.base is not None
    assert not rows.slots.flags.owndata
    assert layout.fixed_bytes == 48 + 16 + 800


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
    assert entity_key({"symbol": "AAPL"}) == b"s4:AAPL"
    assert entity_key({"venue": "XNAS", "account": 42}) == entity_key({"account": 42, "venue": "XNAS"})
    assert entity_key({"venue": "XNAS", "account": 42}) == b"i2:42s4:XNAS"
    assert view_prefix("tapeline", "daily", 2) == b"tl:tapeline:daily@2:"
    assert glob(b"tl:p[1]:*\\") == rb"tl:p\[1\]:\*\\*"


@pytest.mark.parametrize("value", [1.5, None, ["a"], "\ud800"])
def test_what_cannot_be_an_entity_is_refused(value) -> None:
    with pytest.raises(InvalidDataError):
        entity_key({"x": value})


@pytest.mark.parametrize(
    ("project", "view", "version"), [("a:b", "v", 1), ("p", "v@2", 1), ("p", "", 1), ("p", "v", -1)]
)
def test_names_that_would_make_keys_ambiguous_are_refused(project: str, view: str, version: int) -> None:
    with pytest.raises(ParameterError):
        view_prefix(project, view, version)
