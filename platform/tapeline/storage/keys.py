"""Keys of the online store: readable, and different for different entities.

A value's key is ``tl:PROJECT:VIEW@VERSION:ENTITY``. The entity is the values of its join keys in the order of the
join keys' names, each as a letter for its type, its length in bytes, a colon and the bytes: ``s4:AAPL`` or
``i2:42s4:XNAS``. Since each part says how long it is, no two composite keys run into each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapeline.core.errors import InvalidDataError, ParameterError

EntityValue = str | bytes | int | bool
_GLOB = {ord(character): f"\\{character}" for character in "*?[]\\"}


def view_prefix(project: str, view: str, version: int) -> bytes:
    """What all keys of a view version begin with.

    Raises
    ------
    ParameterError
        If a name is empty or contains ``:`` or ``@``, or the version is negative.
    """
    for kind, name in (("project", project), ("view", view)):
        if not name or ":" in name or "@" in name:
            raise ParameterError(f"{name!r} cannot be the name of a {kind}", remedy="Leave out ':' and '@'")
    if version < 0:
        raise ParameterError(f"version {version} of view {view!r} is negative")
    return f"tl:{project}:{view}@{version}:".encode()


def layout_key(project: str, layout_id: bytes) -> bytes:
    """Where the columns of a layout are kept, so that a reader can understand values written before a change."""
    return f"tl:{project}:layout:{layout_id.hex()}".encode()


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
    return b"".join([entity_part_of(value) for value in values])


def entity_part_of(value: EntityValue) -> bytes:
    """One value of an entity key; see ``entity_key_sorted``."""
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
