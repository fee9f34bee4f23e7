from __future__ import annotations

import hashlib
import json
import struct
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import InvalidDataError, ParameterError
from tapeline.datasets.fingerprint import BLOCK_ROWS, StreamingFingerprint, fingerprint

KEYS = ("symbol", "event_timestamp")
ROWS = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.sampled_from(["A", "B", "ÄÖ", ""]),
        st.none() | st.floats(),
        st.none() | st.booleans(),
    ),
    unique_by=lambda row: row[:2],
    max_size=12,
)


def make(rows) -> pa.Table:
    moments, symbols, values, flags = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "symbol": pa.array(symbols, pa.string()),
            "event_timestamp": pa.array(moments, pa.timestamp("us", tz="UTC")),
            "value": pa.array(values, pa.float64()),
            "flag": pa.array(flags, pa.bool_()),
        }
    )


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, order=st.randoms(use_true_random=False))
def test_layout_leaves_no_trace(rows, order):
    expected = fingerprint(make(rows), KEYS)
    shuffled = list(rows)
    order.shuffle(shuffled)
    table = make(shuffled).select(["flag", "value", "event_timestamp", "symbol"])
    table = pa.concat_tables([table.slice(0, len(rows) // 2), table.slice(len(rows) // 2)])
    encoded = table.set_column(3, "symbol", table.column("symbol").dictionary_encode())
    wide = table.set_column(3, "symbol", table.column("symbol").cast(pa.large_string()))
    assert fingerprint(table, KEYS) == expected
    assert fingerprint(encoded, KEYS) == expected
    assert fingerprint(wide, KEYS) == expected


@settings(max_examples=150, deadline=None)
@given(rows=ROWS.filter(bool), data=st.data())
def test_any_changed_value_shows_and_is_located(rows, data):
    index = data.draw(st.integers(0, len(rows) - 1))
    value = data.draw(st.none() | st.floats())
    moment, symbol, old, flag = rows[index]
    changed = [*rows[:index], (moment, symbol, value, flag), *rows[index + 1 :]]
    before, after = fingerprint(make(rows), KEYS), fingerprint(make(changed), KEYS)

    def canonical(x):
        return None if x is None else b"nan" if np.isnan(x) else np.float64(x).tobytes()

    same = canonical(value) == canonical(old)
    assert (before.sha256 == after.sha256) == same
    assert [name for name in before.columns if before.columns[name] != after.columns[name]] == [] if same else ["value"]


def test_every_nan_is_one_nan_and_a_null_is_none_of_them():
    signalling = np.frombuffer(np.uint64(0xFFF8000000000001).tobytes(), dtype=np.float64)
    first = pa.table({"k": [1], "v": pa.array(signalling)})
    second = pa.table({"k": [1], "v": pa.array([float("nan")])})
    null = pa.table({"k": [1], "v": pa.array([None], pa.float64())})
    zero = pa.table({"k": [1], "v": pa.array([0.0])})
    digests = [fingerprint(table, ("k",)).sha256 for table in (first, second, null, zero)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_what_lies_under_a_null_does_not_count():
    values = np.array([1.0, 2.0])
    buffers = [pa.py_buffer(b"\x01"), pa.py_buffer(values.tobytes())]
    hidden = pa.Array.from_buffers(pa.float64(), 2, buffers)
    plain = pa.array([1.0, None])
    digests = [fingerprint(pa.table({"k": [1, 2], "v": column}), ("k",)).sha256 for column in (hidden, plain)]
    assert digests[0] == digests[1]


def test_text_boundaries_count():
    first = pa.table({"k": [1, 2], "v": ["ab", "c"]})
    second = pa.table({"k": [1, 2], "v": ["a", "bc"]})
    assert fingerprint(first, ("k",)).sha256 != fingerprint(second, ("k",)).sha256


def test_a_known_table_keeps_its_value():
    """Guards the format: a changed value here means that old manifests can no longer be compared."""
    table = pa.table(
        {
            "symbol": ["B", "A"],
            "event_timestamp": pa.array([datetime(2013, 3, 1, 21, tzinfo=UTC)] * 2, pa.timestamp("us", tz="UTC")),
            "value": [1.5, None],
        }
    )
    assert fingerprint(table, KEYS).sha256 == "62efa794f1b2cf91cff0038dd9b81e61ffb1271f6034f90a03adc2334de934ba"


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 12), max_size=5), block=st.integers(1, 7))
def test_how_rows_arrive_leaves_no_trace(rows, cuts, block):
    """Tables of any size, however they fall into blocks; blocks are made small, so that rows fill several."""
    table = make(rows)
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tapeline.datasets.fingerprint.BLOCK_ROWS", block)
        expected = fingerprint(table)
        with StreamingFingerprint(table.schema) as stream:
            for begin, end in pairwise(bounds):
                stream.update(table.slice(begin, end - begin))
            assert stream.result() == expected


def test_the_digest_of_a_column_is_what_the_format_says():
    """The format in plain Python, over more than one block."""
    count = BLOCK_ROWS + 3
    values = np.arange(count) * 0.5
    absent = np.arange(count) % 5 == 0
    texts = [f"é{number % 11}" for number in range(count)]
    table = pa.table({"v": pa.array(values, mask=absent), "t": texts})
    numbers, words = hashlib.sha256(), hashlib.sha256()
    for begin in range(0, count, BLOCK_ROWS):
        block = range(begin, min(begin + BLOCK_ROWS, count))
        bits = [int(not absent[row]) for row in block] + [0] * (-len(block) % 8)
        numbers.update(
            bytes(sum(bit << place for place, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))
        )
        numbers.update(b"".join(struct.pack("<d", 0.0 if absent[row] else values[row]) for row in block))
        ones = [1] * len(block) + [0] * (-len(block) % 8)
        words.update(
            bytes(sum(bit << place for place, bit in enumerate(ones[at : at + 8])) for at in range(0, len(ones), 8))
        )
        words.update(b"".join(struct.pack("<q", len(texts[row].encode())) for row in block))
        words.update("".join(texts[row] for row in block).encode())
    columns = [["t", "text", words.hexdigest()], ["v", "float", numbers.hexdigest()]]
    whole = hashlib.sha256(
        b"tapeline fingerprint 2\n" + json.dumps([count, columns], separators=(",", ":")).encode()
    ).hexdigest()
    found = fingerprint(table)
    assert found.columns == {"t": words.hexdigest(), "v": numbers.hexdigest()}
    assert found.sha256 == whole


def test_other_columns_than_announced_are_refused():
    with StreamingFingerprint(pa.schema([("v", pa.int64())])) as stream:
        with pytest.raises(InvalidDataError, match="not v"):
            stream.update(pa.table({"w": [1]}))
        with pytest.raises(InvalidDataError, match="column v"):
            stream.update(pa.table({"v": ["1"]}))
        stream.update(pa.table({"v": pa.array([1], pa.int16())}))
        assert stream.result() == fingerprint(pa.table({"v": [1]}))


def test_types_without_a_form():
    with pytest.raises(ParameterError, match="column v"):
        fingerprint(pa.table({"k": [1], "v": [[1.0]]}), ("k",))
