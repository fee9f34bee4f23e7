"""What a feed is told: everything that its answers depend on, and so everything that a recording holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class FrameKind(IntEnum):
    """What happened."""

    start = 1
    """A run begins; the data says from which trade numbers and with which open gaps (JSON)."""
    opened = 2
    """A connection stands; the tag says to where."""
    text = 3
    """The venue sent a message."""
    closed = 4
    """The connection ended; the data says why."""
    fetched = 5
    """A request was answered; the tag is its key."""
    failed = 6
    """A request was given up; the tag is its key, the data says why."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One thing that happened, with the machine's clock at which it was known here.

    Attributes
    ----------
    kind
        What.
    receive_us
        When, µs; it never goes backwards within a run.
    data
        Bytes as they came.
    tag
        Which connection or request.
    """

    kind: FrameKind
    receive_us: int
    data: bytes = b""
    tag: str = ""
