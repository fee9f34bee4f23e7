"""Replays a recording through a feed: at the pace at which it happened, faster, or as fast as it goes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tapeline.core.errors import ParameterError
from tapeline.live.feed import Feed, FeedCounters
from tapeline.live.frames import Frame
from tapeline.live.gaps import Gap
from tapeline.live.outcome import Outcome
from tapeline.live.recording import Recording

_EVENTS_PER_SEND = 5_000


@dataclass
class Replayed:
    """What a replay gave.

    Attributes
    ----------
    counters
        Of the feed.
    gaps
        The last state of each gap.
    sha256
        For each kind of rows a digest over all of them in order; the same recording always has the same.
    """

    counters: FeedCounters
    gaps: list[Gap]
    sha256: dict[str, str] = field(default_factory=dict)


def replay_recording(
    recording: Recording, *, speed: float = 0.0, send: Callable[[Outcome], None] = lambda _: None
) -> Replayed:
    """Feed a recording's frames in.

    Parameters
    ----------
    recording
        What was recorded.
    speed
        How much faster than it happened; 0: as fast as it goes.
    send
        Takes the rows; those of many frames at once where there is no pace to keep.

    Raises
    ------
    ParameterError
        If the speed is negative.
    IntegrityError
        If a file is damaged.
    """
    if speed < 0:
        raise ParameterError(f"speed is {speed}", remedy="Give 0 for no pacing, or more")
    feed = Feed(recording.source)
    digests = {kind: hashlib.sha256() for kind in ("trades", "quotes", "books")}
    gaps: dict[tuple[object, ...], Gap] = {}
    waiting = Outcome()
    pace = _Pace(speed)
    for frame in recording.frames():
        pace.keep(frame)
        outcome = feed.take(frame)
        for kind, digest in digests.items():
            for row in getattr(outcome, kind):
                digest.update(repr(row).encode())
        for gap in outcome.gaps:
            gaps[gap.kind, gap.symbol, gap.found_us, gap.first] = gap
        waiting.add(outcome)
        if waiting.events and (speed > 0 or waiting.events >= _EVENTS_PER_SEND):
            send(waiting)
            waiting = Outcome()
    if waiting.events:
        send(waiting)
    return Replayed(feed.counters, list(gaps.values()), {kind: each.hexdigest() for kind, each in digests.items()})


class _Pace:
    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._first_us: int | None = None
        self._began_s = time.monotonic()

    def keep(self, frame: Frame) -> None:
        """Wait until it is the frame's turn."""
        if self._speed == 0:
            return
        if self._first_us is None:
            self._first_us = frame.receive_us
        ahead_s = (frame.receive_us - self._first_us) / 1e6 / self._speed - (time.monotonic() - self._began_s)
        if ahead_s > 0:
            time.sleep(ahead_s)
