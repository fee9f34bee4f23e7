"""States kept in Redis: all views of one symbol together with the position in the stream up to which they stand.

All little-endian::

    magic "TLSS" · format u8 · views u8 · seen u16
    position: entry time ms i64 · entry number times 65,536 plus place in the block i64
    last row: event i64 · sequence i64 · available i64
    splits and dividends looked up until: i64
    for each view: length of the label u16 · length of the state u32 · label · state (as in storage/state_codec.py)

Each state carries its own checksum and plan hash.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from tapeline.compute.rows import EntityState
from tapeline.core.errors import IntegrityError
from tapeline.features.view import FeatureViewSpec
from tapeline.kernels.stream_order import ASIDE, AVAILABLE, EVENT, MS, PART, SEEN, SEQUENCE, USED_EVENT, USED_SEQUENCE
from tapeline.storage.state_codec import SavedState, decode_state, encode_state
from tapeline.streaming.lane import Lane, Position, StateCopy

_HEAD = struct.Struct("<4sBBHqqqqqq")
_VIEW = struct.Struct("<HI")
_MAGIC, _FORMAT = b"TLSS", 2


@dataclass(frozen=True)
class KeptState:
    """What is kept of one symbol.

    Attributes
    ----------
    position
        Up to which its rows are contained.
    last
        Event, sequence and available time of its last row; none if it had none.
    looked_us
        Up to when splits and dividends were looked up.
    views
        The state of each view, by label. None of a symbol that is set aside: what was kept of it before counts no more, and
        the next owner tries to compute it.
    """

    position: Position
    last: tuple[int, int, int] | None
    looked_us: int
    views: Mapping[str, SavedState]


def label_of(spec: FeatureViewSpec) -> str:
    """A view and its version."""
    return f"{spec.name}@{spec.version}"


def encode_kept(kept: KeptState) -> bytes:
    """Bytes of what is kept; :func:`decode_kept` reads them back."""
    last = kept.last or (0, 0, 0)
    parts = [_HEAD.pack(_MAGIC, _FORMAT, len(kept.views), kept.last is not None, *kept.position, *last, kept.looked_us)]
    for label, saved in kept.views.items():
        name, data = label.encode(), encode_state(saved)
        parts += [_VIEW.pack(len(name), len(data)), name, data]
    return b"".join(parts)


def decode_kept(data: bytes, *, where: str | None = None) -> KeptState:
    """What :func:`encode_kept` wrote.

    Raises
    ------
    IntegrityError
        If the bytes are damaged, cut short or of an unknown format.
    """
    if len(data) < _HEAD.size:
        raise IntegrityError("kept states are cut short", where=where)
    magic, version, count, seen, ms, part, *last, looked_us = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != _FORMAT or seen > 1:
        raise IntegrityError("these bytes are no kept states of a known format", where=where)
    views: dict[str, SavedState] = {}
    at = _HEAD.size
    for _ in range(count):
        if at + _VIEW.size > len(data):
            raise IntegrityError("kept states are cut short", where=where)
        name, size = _VIEW.unpack_from(data, at)
        at += _VIEW.size
        if at + name + size > len(data):
            raise IntegrityError("kept states are cut short", where=where)
        label = data[at : at + name].decode(errors="replace")
        views[label] = decode_state(data[at + name : at + name + size], where=where)
        at += name + size
    if at != len(data):
        raise IntegrityError("kept states have bytes too many", where=where)
    return KeptState((ms, part), (last[0], last[1], last[2]) if seen else None, looked_us, views)


def keep(copied: StateCopy) -> list[KeptState]:
    """What is to be kept of each of some symbols."""
    entries = copied.table[:, [SEEN, EVENT, SEQUENCE, AVAILABLE, MS, PART, USED_EVENT, USED_SEQUENCE, ASIDE]].tolist()
    kept = []
    for number, (seen, event_us, sequence, available_us, ms, part, *used, aside) in enumerate(entries):
        views = {}
        for states, copies in () if aside else copied.views:
            state, plan = copies[number], states.runner.plan
            views[label_of(states.spec)] = SavedState(
                plan_hash=plan.hash,
                event_us=used[0],
                sequence=used[1],
                available_us=available_us,
                recorded_us=0,  # says nothing of what else the database recorded
                rows_seen=plan.position(state.plan).rows_seen,
                plan_state=plan.save(state.plan),
                bar_state=state.bars,
                outputs=state.outputs,
            )
        last = (event_us, sequence, available_us) if seen else None
        kept.append(KeptState((ms, part), last, copied.looked_us, views))
    return kept


def take_up(lane: Lane, place: int, kept: KeptState) -> None:
    """Go on from what was kept.

    Raises
    ------
    IntegrityError
        If a view is missing, or its state is of another plan; the symbol is as it was.
    """
    states: list[EntityState] = []
    for view in lane.views:
        saved = kept.views.get(label_of(view.spec))
        if saved is None or saved.plan_hash != view.runner.plan.hash:
            raise IntegrityError("no state of this plan was kept", where=label_of(view.spec))
        states.append(EntityState(view.runner.plan.restore(saved.plan_state), saved.bar_state, saved.outputs))
    lane.reset(place, kept.position)
    if kept.last is not None:
        event_us, sequence, available_us = kept.last
        used = next(iter(kept.views.values()))
        lane.set_frontier(place, (event_us, sequence), (used.event_us, used.sequence), available_us)
    for view, state in zip(lane.views, states, strict=True):
        view.put(place, state)
