"""Published splits and dividends come back as they were, damaged ones are refused, and no older reading replaces a newer one."""

from __future__ import annotations

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from tapeline.core.errors import IntegrityError, LimitError
from tapeline.features.versions import Actions, ActionVersions
from tapeline.storage.actions import ACTION_VERSIONS_MAX, actions_key, decode_actions, encode_actions, publish_actions

INT64 = st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(
    st.tuples(INT64, INT64, INT64, INT64, st.booleans(), st.floats(0.001, 1000.0), st.floats(0.0, 10.0)), max_size=6
)


def actions(rows: list[tuple[int, int, int, int, bool, float, float]]) -> ActionVersions:
    columns = list(zip(*rows, strict=True)) or [()] * 7
    return ActionVersions(
        *(np.array(column, dtype=np.int64) for column in columns[:4]),
        np.array(columns[4], dtype=np.bool_),
        np.array(columns[5], dtype=np.float64),
        np.array(columns[6], dtype=np.float64),
    )


ONE = actions([(1_000, 0, 900, 950, False, 2.0, 0.0)])


@given(ROWS)
def test_round_trip(rows: list[tuple[int, int, int, int, bool, float, float]]) -> None:
    read = decode_actions(encode_actions(actions(rows), 7))
    found = list(zip(*(getattr(read, name).tolist() for name in read.__dataclass_fields__), strict=True))
    assert found == rows


def test_damaged_bytes_are_refused() -> None:
    good = encode_actions(ONE, 7)
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x40
        with pytest.raises(IntegrityError, match="tapeline backfill"):
            decode_actions(bytes(bad), where="actions of A")
    for length in (0, 5, len(good) - 1):
        with pytest.raises(IntegrityError, match="cut short"):
            decode_actions(good[:length])


def test_too_many_are_refused() -> None:
    many = actions([(i, 0, i, i, False, 2.0, 0.0) for i in range(ACTION_VERSIONS_MAX + 1)])
    with pytest.raises(LimitError):
        encode_actions(many, 7)


def test_what_is_known_at_a_moment() -> None:
    """A split announced at 900 for 1000, corrected at 920, retracted at 940; at 2000 another one and two dividends."""
    versions = actions(
        [
            (1_000, 0, 900, 900, False, 2.0, 0.0),
            (1_000, 0, 920, 921, False, 3.0, 0.0),
            (1_000, 0, 940, 940, True, 3.0, 0.0),
            (2_000, 3, 1_400, 1_400, False, 1.0, 0.25),
            (2_000, 1, 1_450, 1_450, False, 1.0, 0.5),
            (2_000, 2, 1_500, 1_500, False, 4.0, 0.0),
        ]
    )

    def known_at(moment_us: int, versions: ActionVersions = versions) -> list[tuple[int, float, float]]:
        known = versions.known_at(moment_us)
        return list(zip(known.event_us.tolist(), known.ratio.tolist(), known.dividend.tolist(), strict=True))

    assert {moment: known_at(moment) for moment in (899, 900, 920, 940, 1_400, 1_500)} == {
        899: [],
        900: [(1_000, 2.0, 0.0)],
        920: [(1_000, 3.0, 0.0)],
        940: [],
        1_400: [(2_000, 1.0, 0.25)],
        1_500: [(2_000, 4.0, 0.0), (2_000, 1.0, 0.5), (2_000, 1.0, 0.25)],  # of one time, splits first
    }
    assert known_at(930, versions.recorded_by(920)) == [(1_000, 2.0, 0.0)]
    whole = versions.known_at(1_500)
    assert whole.splits == whole.splits_only.splits == ((2_000, 4.0),)
    assert (whole.dividends, whole.splits_only.dividends) == (((2_000, 0.5), (2_000, 0.25)), ())
    again = Actions.of(whole.splits, whole.dividends)
    assert [again.event_us.tolist(), again.ratio.tolist(), again.dividend.tolist()] == [
        [2_000] * 3, [4.0, 1.0, 1.0], [0.0, 0.5, 0.25],
    ]  # fmt: skip


def test_only_a_later_reading_replaces_what_is_published(redis_url: str) -> None:
    three = actions([(1_000, 0, 900, 950, False, 3.0, 0.0)])
    with redis.Redis.from_url(redis_url) as client:
        assert publish_actions(client, "p", {"A": ONE, "NONE": actions([])}, 10) == 1
        assert client.get(actions_key("p", "NONE")) is None
        publish_actions(client, "p", {"A": three}, 9)
        assert decode_actions(client.get(actions_key("p", "A"))).ratio.tolist() == [2.0]
        publish_actions(client, "p", {"A": three}, 11)
        assert decode_actions(client.get(actions_key("p", "A"))).ratio.tolist() == [3.0]
        client.set(actions_key("p", "A"), b"something else")
        publish_actions(client, "p", {"A": ONE}, 1)
        assert decode_actions(client.get(actions_key("p", "A"))).ratio.tolist() == [2.0]
