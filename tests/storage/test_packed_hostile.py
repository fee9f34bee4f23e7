"""The packed codec under hostile bytes: a value is refused with IntegrityError, or read as some row of the right shape.

Each example mutates a valid value many times, so that a run sees more than 10⁵ of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import IntegrityError
from tapeline.storage.online_reader import ReadPlan
from tapeline.storage.packed import (
    MAGIC,
    Column,
    Layout,
    decode_many,
    encode_many,
    layout_id,
    row_times,
    translate,
)

FLOATS = Layout.of_floats("floats", 1, [f"f{i}" for i in range(70)])
MIXED = Layout(
    "mixed", 1,
    (Column("x"), Column("n", "int64"), Column("s", "string"), Column("b", "bool"), Column("a", "array_float64"), Column("y")),
)  # fmt: skip
BARE = Layout("bare", 1, (Column("s", "string"),))
LAYOUTS = (FLOATS, MIXED, BARE)
MUTATIONS = 200
EXAMPLES = 520
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)


def valid(layout: Layout, chance: random.Random) -> bytes:
    times = np.array([[chance.getrandbits(63) for _ in range(4)]], dtype=np.int64)
    slots = np.frombuffer(chance.randbytes(8 * len(layout.slots)), dtype="<f8").reshape(1, -1)
    nulls = np.array([[chance.random() < 0.3 for _ in layout.columns]])
    tails = [[chance.randbytes(chance.randrange(12)) for _ in layout.tails]]
    (value,) = encode_many(layout, times, slots, nulls=nulls, tails=tails)
    return value


def mutated(value: bytes, other: bytes, chance: random.Random) -> bytes:
    data = bytearray(value)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(data):
                data[at] = chance.choice(INTERESTING)
            case 2:
                del data[at : at + chance.randrange(1, 20)]
            case 3:
                data[at:at] = chance.randbytes(chance.randrange(1, 20))
            case 4:  # a length somewhere, huge or off by one
                data[at : at + 4] = chance.choice([2**32 - 1, 2**31, len(data) + 1, max(len(data) - 1, 0), 0]).to_bytes(
                    4, "little"
                )
            case 5:
                data[at:] = other[at:]
            case 6:
                data = bytearray(chance.randbytes(chance.randrange(0, 400))) if chance.random() < 0.1 else data
    return bytes(data)


def refusal(call: Callable[[bytes], object], data: bytes) -> IntegrityError | None:
    """How a call refuses bytes; none if it takes them. Any other error fails the test."""
    try:
        call(data)
    except IntegrityError as error:
        return error
    return None


def decode_one(layout: Layout, data: bytes) -> None:
    decode_many(layout, [data])


def check_rows(layout: Layout, data: bytes) -> None:
    """Read one value, and see that it is a row which survives being written again."""
    rows = decode_many(layout, [data])
    assert rows.times.shape == (1, 4)
    assert rows.slots.shape == (1, len(layout.slots))
    assert rows.nulls.shape == (1, len(layout.columns))
    assert len(rows.tails[0]) == len(layout.tails)
    assert rows.numbers().shape == (1, len(layout.slots))
    tails = [list(row) for row in rows.tails] if layout.tails else None
    again = decode_many(layout, encode_many(layout, rows.times, rows.slots, nulls=rows.nulls, tails=tails))
    assert again.slots.tobytes() == rows.slots.tobytes()
    assert np.array_equal(again.times, rows.times)
    assert np.array_equal(again.nulls, rows.nulls)
    assert again.tails == rows.tails


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**64 - 1), st.sampled_from(range(len(LAYOUTS))))
def test_hostile_bytes_are_refused_or_read_as_a_row(seed: int, number: int) -> None:
    chance = random.Random(seed)
    layout, other = LAYOUTS[number], LAYOUTS[(number + 1) % len(LAYOUTS)]
    value, foreign = valid(layout, chance), valid(other, chance)
    plan = ReadPlan("p", [layout])
    for number in range(MUTATIONS):
        hostile = mutated(value, foreign, chance)
        thorough = number % 5 == 0
        refused = refusal(partial(check_rows if thorough else decode_one, layout), hostile)
        assert refused is None or layout.label in str(refused)
        assert (refusal(lambda data: plan.decode([data, None, value]), hostile) is None) == (refused is None)
        if not thorough:
            continue
        assert (refusal(lambda data: translate(data, layout, other), hostile) is None) == (refused is None)
        for call in (layout_id, row_times):
            assert refusal(call, hostile) is None or refused is not None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(LAYOUTS), st.sampled_from(MAGIC))
def test_any_bytes_behind_a_right_head_are_refused_or_read(data: bytes, layout: Layout, magic: bytes) -> None:
    """The head alone decides nothing."""
    refused = refusal(partial(check_rows, layout), magic + layout.id + data)
    assert refused is None or "damaged" in str(refused) or "no packed value" in str(refused)


@pytest.mark.parametrize(
    ("layout", "other"), [(layout, other) for layout in LAYOUTS for other in LAYOUTS if layout is not other]
)
def test_every_other_layout_is_refused_by_name(layout: Layout, other: Layout) -> None:
    value = valid(other, random.Random(1))
    with pytest.raises(IntegrityError, match=f"unknown layout {other.id.hex()}, expected {layout.id.hex()}") as caught:
        decode_many(layout, [value])
    assert layout.label in str(caught.value)
