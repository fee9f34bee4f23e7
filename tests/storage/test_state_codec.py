"""Saved states come back bit for bit, and damaged ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tapeline.core.errors import IntegrityError
from tapeline.storage.state_codec import POSITION_OFFSET, SavedState, decode_state, encode_state, state_key

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = hnp.arrays(np.float64, st.integers(0, 9), elements=st.floats(width=64))
STATES = st.builds(
    SavedState,
    plan_hash=st.binary(min_size=32, max_size=32).map(bytes.hex),
    event_us=INT64,
    sequence=INT64,
    available_us=INT64,
    recorded_us=INT64,
    rows_seen=st.integers(0, 2**60),
    plan_state=st.binary(max_size=200),
    bar_state=st.none() | FLOATS,
    outputs=FLOATS,
)


def _bits(array: np.ndarray | None) -> bytes | None:
    return None if array is None else array.tobytes()


@given(STATES)
def test_round_trip_is_bit_equal(saved: SavedState) -> None:
    read = decode_state(encode_state(saved), plan_hash=saved.plan_hash)
    assert _bits(read.bar_state) == _bits(saved.bar_state)
    assert _bits(read.outputs) == _bits(saved.outputs)
    for name in ("plan_hash", "event_us", "sequence", "available_us", "recorded_us", "rows_seen", "plan_state"):
        assert getattr(read, name) == getattr(saved, name)


@given(STATES, st.data())
def test_any_flipped_bit_and_any_cut_is_refused(saved: SavedState, data: st.DataObject) -> None:
    good = encode_state(saved)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(IntegrityError):
        decode_state(bytes(bad))
    with pytest.raises(IntegrityError):
        decode_state(good[:at])
    with pytest.raises(IntegrityError):
        decode_state(good + b"\0")


def test_the_state_of_another_plan_is_refused() -> None:
    saved = SavedState("ab" * 32, 1, 2, 3, 4, 5, b"x", None, np.empty(0))
    with pytest.raises(IntegrityError, match=r"belongs to plan abababababab"):
        decode_state(encode_state(saved), plan_hash="cd" * 32)


def test_the_position_stands_where_the_redis_script_reads_it() -> None:
    saved = SavedState("00" * 32, -5, 7, 11, 13, 17, b"", np.zeros(3), np.zeros(2))
    position = np.frombuffer(encode_state(saved), dtype="<i8", count=5, offset=POSITION_OFFSET)
    assert position.tolist() == [-5, 7, 11, 13, 17]


def test_keys_of_different_entities_differ() -> None:
    assert state_key("p", "daily", 1, "AAPL") == b"tl:p:state:daily@1:{s4:AAPL}"
    assert state_key("p", "daily", 1, "A") != state_key("p", "daily", 11, "A")
