"""Keys of the online store: readable, and different for different entities.

A value's key is ``tl:PROJECT:VIEW@VERSION:{ENTITY}``. The entity is the values of its join keys in the order of the
join keys' names, each as a letter for its type, its length in bytes, a colon and the bytes: ``{s4:AAPL}`` or
``{i2:42s4:XNAS}``. Since each part says how long it is, no two composite keys run into each other.

The braces are a hash tag: in a Redis Cluster all values, states and actions of one entity lie in one slot. An entity that
holds a ``}`` itself is hashed up to there, which is the same for all of its keys too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from tapeline.core.errors import InvalidDataError, ParameterError

EntityValue = str | bytes | int | bool
_RESERVED = frozenset(":@{}")
_SIZE_DIGITS_MAX = 9
_READ: Mapping[bytes, Callable[[bytes], EntityValue]] = {
    b"s": bytes.decode,
    b"b": bytes,
    b"o": lambda data: data == b"1",
    b"i": int,
}
_GLOB = {ord(character): f"\\{character}" for character in "*?[]\\"}


def view_prefix(project: str, view: str, version: int) -> bytes:
    """What all keys of a view version begin with.

    Raises
    ------
    ParameterError
        If a name is empty or contains ``:``, ``@`` or a brace, or the version is negative.
    """
    for kind, name in (("project", project), ("view", view)):
        if not name or not _RESERVED.isdisjoint(name):
            raise ParameterError(f"{name!r} cannot be the name of a {kind}", remedy="Leave out ':', '@', '{' and '}'")
    if version < 0:
        raise ParameterError(f"version {version} of view {view!r} is negative")
    return f"tl:{project}:{view}@{version}:".encode()


def layout_key(project: str, layout_id: bytes) -> bytes:
    """Where the columns of a layout are kept, so that a reader can understand values written before a change."""
    return f"tl:{project}:layout:{layout_id.hex()}".encode()


def materialized_key(project: str, view: str, version: int) -> bytes:
    """Where it is noted how far a view version's values were brought."""
    view_prefix(project, view, version)  # refuses names that would make keys ambiguous
    return f"tl:{project}:materialized:{{{view}@{version}}}".encode()


def entity_key(values: Mapping[str, EntityValue]) -> bytes:
    """The entity part of a key, from join keys and their values."""
    return entity_key_sorted([values[name] for name in sorted(values)])


def entity_key_sorted(values: Sequence[EntityValue]) -> bytes:
    """The entity part of a key, from values in the order of their join keys' names.

    Raises
    ------
    InvalidDataError
        If a value is neither text, bytes, a whole number nor a boolean, or is text that UTF-8 cannot hold.
    """
    return entity_key_of_parts([key_part(value) for value in values])


def entity_key_of_parts(parts: Iterable[bytes]) -> bytes:
    """The entity part of a key, from what ``key_part`` gave for each join key in the order of their names."""
    return b"{%b}" % b"".join(parts)


def entity_values(part: bytes) -> tuple[EntityValue, ...]:
    """The values that ``entity_key_sorted`` made an entity part of; empty for bytes that it does not make."""
    values: list[EntityValue] = []
    place = 1
    while place < len(part) - 1:
        colon = part.find(b":", place)
        size = part[place + 1 : colon]
        if colon < 0 or not size.isdigit() or len(size) > _SIZE_DIGITS_MAX:
            return ()
        data = part[colon + 1 : colon + 1 + int(size)]
        kind, place = part[place : place + 1], colon + 1 + int(size)
        try:
            values.append(_READ[kind](data))
        except (KeyError, ValueError):  # a UnicodeDecodeError is a ValueError
            return ()
    return tuple(values) if values and entity_key_sorted(values) == part else ()


def key_parts(values: Sequence[EntityValue]) -> list[bytes]:
    """What ``key_part`` gives for each of some values; many texts in a fraction of its time."""
    if set(map(type, values)) == {str}:
        texts = cast("Sequence[str]", values)
        if "".join(texts).isascii():
            return [f"s{len(text)}:{text}".encode() for text in texts]
    return [key_part(value) for value in values]


def key_part(value: EntityValue) -> bytes:
    """One value within an entity key; see ``entity_key_sorted``."""
    if isinstance(value, str):
        try:
            data = value.encode()
        except UnicodeEncodeError as error:
            raise InvalidDataError(f"entity {value!r} is no valid text: {error.reason}") from None
        return b"s%d:%b" % (len(data), data)
    if isinstance(value, bytes):
        return b"b%d:%b" % (len(value), value)
    if isinstance(value, bool):
        return b"o1:%d" % value
    if isinstance(value, int):
        data = b"%d" % value
        return b"i%d:%b" % (len(data), data)
    raise InvalidDataError(
        f"{value!r} of type {type(value).__name__} cannot be part of an entity key",
        remedy="Use text, bytes or whole numbers as join keys",
    )


def glob(prefix: bytes) -> bytes:
    """A pattern for ``SCAN`` that matches every key with a prefix and nothing else."""
    return prefix.decode().translate(_GLOB).encode() + b"*"
