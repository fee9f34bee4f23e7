"""The flat state of one entity: its header, and its form as bytes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import IntegrityError

HEADER_SIZE = 8
"""Slots before the first primitive's: rows seen, event, sequence, available (int64 bits), split factor, dividend factor
(0 in a plan without dividends), two spare."""

_MAGIC = b"TPLN"
_FORMAT = 1
_PREFIX = struct.Struct("<4sI32sII")  # magic, format, plan hash, slots, CRC-32 of the slots


@dataclass(frozen=True)
class StatePosition:
    """How far a state has come: all of its header. Times are µs since the epoch; ``rows_seen`` 0 means fresh."""

    rows_seen: int
    event_us: int
    sequence: int
    available_us: int
    split_factor: float


def position_of(state: NDArray[np.float64]) -> StatePosition:
    """Read a state's header."""
    whole = state[:4].view(np.int64)
    return StatePosition(int(whole[0]), int(whole[1]), int(whole[2]), int(whole[3]), float(state[4]))


def encode(state: NDArray[np.float64], plan_hash: str) -> bytes:
    """Bytes of a state: plan hash, size, checksum, then the slots as little-endian float64, bit for bit."""
    body = state.astype("<f8", copy=False).tobytes()
    return _PREFIX.pack(_MAGIC, _FORMAT, bytes.fromhex(plan_hash), state.size, zlib.crc32(body)) + body


def decode(data: bytes, plan_hash: str, state_size: int, *, verify: bool = True) -> NDArray[np.float64]:
    """The state of bytes made by :func:`encode`, as a new array of shape (state_size,).

    Without ``verify`` the checksum is taken as checked.

    Raises
    ------
    IntegrityError
        If the bytes are damaged, or belong to another plan.
    """
    if len(data) < _PREFIX.size:
        raise IntegrityError("a saved kernel state is cut short", where=f"{len(data)} bytes")
    magic, version, digest, size, checksum = _PREFIX.unpack_from(data)
    body = memoryview(data)[_PREFIX.size :]
    if magic != _MAGIC or version != _FORMAT:
        raise IntegrityError("these bytes are no kernel state of a known format")
    if digest.hex() != plan_hash:
        raise IntegrityError(
            "a saved kernel state belongs to another feature plan",
            where=f"state's plan {digest.hex()[:12]}, this plan {plan_hash[:12]}",
            remedy="Compute the state again with a backfill of this version",
        )
    if size != state_size or len(body) != 8 * size or (verify and zlib.crc32(body) != checksum):
        raise IntegrityError("a saved kernel state is damaged", remedy="Compute it again with a backfill")
    return np.frombuffer(body, dtype="<f8").astype(np.float64)
