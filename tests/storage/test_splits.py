"""Published splits come back as they were, damaged ones are refused, and an older reading never replaces a newer one."""

from __future__ import annotations

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from tapeline.core.errors import IntegrityError, LimitError
from tapeline.features.versions import SplitVersions
from tapeline.storage.splits import SPLIT_VERSIONS_MAX, decode_splits, encode_splits, publish_splits, splits_key

INT64 = st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(st.tuples(INT64, INT64, INT64, INT64, st.booleans(), st.floats(0.001, 1000.0)), max_size=6)


def splits(rows: list[tuple[int, int, int, int, bool, float]]) -> SplitVersions:
    columns = list(zip(*rows, strict=True)) or [()] * 6
    return SplitVersions(
        *(np.array(column, dtype=np.int64) for column in columns[:4]),
        np.array(columns[4], dtype=np.bool_),
        np.array(columns[5], dtype=np.float64),
    )


ONE = splits([(1_000, 0, 900, 950, False, 2.0)])


@given(ROWS)
def test_round_trip(rows: list[tuple[int, int, int, int, bool, float]]) -> None:
    read = decode_splits(encode_splits(splits(rows), 7))
    found = list(zip(*(getattr(read, name).tolist() for name in read.__dataclass_fields__), strict=True))
    assert found == rows


def test_damaged_bytes_are_refused() -> None:
    good = encode_splits(ONE, 7)
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x40
        with pytest.raises(IntegrityError, match="tapeline backfill"):
            decode_splits(bytes(bad), where="splits of A")
    for length in (0, 5, len(good) - 1):
        with pytest.raises(IntegrityError, match="cut short"):
            decode_splits(good[:length])


def test_too_many_are_refused() -> None:
    many = splits([(i, 0, i, i, False, 2.0) for i in range(SPLIT_VERSIONS_MAX + 1)])
    with pytest.raises(LimitError):
        encode_splits(many, 7)


def test_what_is_known_at_a_moment() -> None:
    """A split announced at 900 for 1000, corrected at 920, retracted at 940; another one at 2000."""
    versions = splits(
        [
            (1_000, 0, 900, 900, False, 2.0),
            (1_000, 0, 920, 921, False, 3.0),
            (1_000, 0, 940, 940, True, 3.0),
            (2_000, 0, 1_500, 1_500, False, 4.0),
        ]
    )
    known = {
        moment: [column.tolist() for column in versions.known_at(moment)] for moment in (899, 900, 920, 940, 1_500)
    }
    assert known == {
        899: [[], []],
        900: [[1_000], [2.0]],
        920: [[1_000], [3.0]],
        940: [[], []],
        1_500: [[2_000], [4.0]],
    }
    assert [column.tolist() for column in versions.recorded_by(920).known_at(930)] == [[1_000], [2.0]]


def test_only_a_later_reading_replaces_what_is_published(redis_url: str) -> None:
    three = splits([(1_000, 0, 900, 950, False, 3.0)])
    with redis.Redis.from_url(redis_url) as client:
        assert publish_splits(client, "p", {"A": ONE, "NONE": splits([])}, 10) == 1
        assert client.get(splits_key("p", "NONE")) is None
        publish_splits(client, "p", {"A": three}, 9)
        assert decode_splits(client.get(splits_key("p", "A"))).ratio.tolist() == [2.0]
        publish_splits(client, "p", {"A": three}, 11)
        assert decode_splits(client.get(splits_key("p", "A"))).ratio.tolist() == [3.0]
        client.set(splits_key("p", "A"), b"something else")
        publish_splits(client, "p", {"A": ONE}, 1)
        assert decode_splits(client.get(splits_key("p", "A"))).ratio.tolist() == [2.0]
