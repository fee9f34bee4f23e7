"""Entity parts of keys, made and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tapeline.storage.keys import entity_key_sorted, entity_values

VALUES = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    st.binary(max_size=20),
    st.integers(),
    st.booleans(),
)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_an_entity_part_is_read_back(values: list[str | bytes | int | bool]) -> None:
    found = entity_values(entity_key_sorted(values))
    assert [(type(value), value) for value in found] == [(type(value), value) for value in values]


@given(st.binary(max_size=40))
def test_other_bytes_are_no_entity(data: bytes) -> None:
    found = entity_values(data)
    assert found == () or entity_key_sorted(found) == data


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"{s4:AAP}", b"{s4:AAPL", b"{x1:a}", b"{s1:\xff}", b"{s01:a}", b"{s999999999999:a}"]
)
def test_what_looks_like_one_is_none(data: bytes) -> None:
    assert entity_values(data) == ()
