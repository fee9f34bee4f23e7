"""The frame that a run begins with: where earlier runs ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tapeline.live.frames import Frame, FrameKind
from tapeline.live.gaps import Gap, GapReason, GapState, Remedy
from tapeline.streaming.codec import EventKind

Positions = Mapping[str, tuple[int, int]]
"""For each symbol of the venue number and time (µs) of its last trade."""


def start_frame(receive_us: int, positions: Positions, gaps: Iterable[Gap]) -> Frame:
    """The frame that a run begins with.

    Parameters
    ----------
    receive_us
        Now, µs.
    positions
        Last trades of earlier runs.
    gaps
        Gaps that earlier runs left open.
    """
    content = {
        "positions": {symbol: list(position) for symbol, position in sorted(positions.items())},
        "gaps": [
            {
                "kind": gap.kind.name,
                "symbol": gap.symbol,
                "found_us": gap.found_us,
                "first": gap.first,
                "last": gap.last,
                "since_us": gap.since_us,
                "until_us": gap.until_us,
                "reason": gap.reason.value,
                "missing": gap.missing,
            }
            for gap in gaps
        ],
    }
    return Frame(FrameKind.start, receive_us, json.dumps(content).encode())


def read_start(frame: Frame) -> tuple[Positions, list[Gap]]:
    """Positions and open gaps that a start frame tells."""
    content = json.loads(frame.data)
    gaps = [
        Gap(
            EventKind[each["kind"]],
            each["symbol"],
            each["found_us"],
            each["first"],
            each["last"],
            each["since_us"],
            each["until_us"],
            GapReason(each["reason"]),
            GapState.found,
            Remedy.none,
            each["missing"],
            each["found_us"],
        )
        for each in content["gaps"]
    ]
    return {symbol: (number, event_us) for symbol, (number, event_us) in content["positions"].items()}, gaps
