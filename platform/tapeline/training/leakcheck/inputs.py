"""What a view reads and when: stored rows earlier than their inputs, and prices that were adjusted by what came later."""

from __future__ import annotations

import numpy as np

from tapeline.core.timestamps import DAY_US, format_us
from tapeline.features.view import SessionBars, Trades
from tapeline.training.leakcheck.report import Fault
from tapeline.training.leakcheck.subject import EntityHistory, Subject

EARLY = "available before its inputs"
ADJUSTED = "adjusted prices"
_FAULTS_PER_ENTITY_MAX = 20
_RATIO_MIN = 0.2
"""Smallest |log ratio| of a split that is told from an ordinary move: 1.22 for 1."""
_DISTANCE_MAX_US = 14 * DAY_US


def check_early(subject: Subject) -> tuple[int, list[Fault]]:
    """Stored rows that say to have been available before the first sighting of the raw row that they end with.

    Where a view makes its bars itself, the truncated history says the same of the sampled moments.
    """
    spec = subject.spec
    if spec is None or not isinstance(spec.rows, SessionBars | Trades):
        return 0, []
    faults: list[Fault] = []
    cases = 0
    for entity, history in subject.histories.items():
        event, sequence, available = subject.stored_rows(entity)
        raw = history.versions
        first: dict[tuple[int, int], int] = {}
        for e, s, a in zip(raw.event_us.tolist(), raw.sequence.tolist(), raw.available_us.tolist(), strict=True):
            first[(e, s)] = min(a, first.get((e, s), a))
        cases += len(event)
        keys = zip(event.tolist(), sequence.tolist(), strict=True)
        known = np.array([first.get(key, -(2**62)) for key in keys], dtype=np.int64)
        faults += [
            Fault(
                EARLY,
                subject.name,
                entity=entity,
                moment=format_us(int(available[row])),
                detail=f"the row of {format_us(int(event[row]))} ends with a raw row that was available from "
                f"{format_us(int(known[row]))}",
            )
            for row in np.flatnonzero(available < known)[:_FAULTS_PER_ENTITY_MAX].tolist()
        ]
    return cases, faults


def check_adjusted(subject: Subject) -> tuple[int, list[Fault]]:
    """Splits over which raw prices do not jump: then they were divided by a ratio that nobody knew before."""
    if subject.spec is None:
        return 0, []
    faults: list[Fault] = []
    cases = 0
    for entity, history in subject.histories.items():
        actions = history.actions
        for at, ratio in actions.known_at(history.until_us).splits:
            jump = _jump(history, at)
            if jump is None or abs(np.log(ratio)) < _RATIO_MIN:
                continue
            cases += 1
            if abs(jump - np.log(ratio)) > abs(jump):
                faults.append(
                    Fault(
                        ADJUSTED,
                        subject.name,
                        entity=entity,
                        moment=format_us(at),
                        detail=f"a split of {ratio:g} for 1 takes effect, and the price goes on by a factor of "
                        f"{float(np.exp(-jump)):.3f}: it was adjusted by what was not yet known",
                    )
                )
    return cases, faults


def _jump(history: EntityHistory, at_us: int) -> float | None:
    """Logarithm of the last price before a moment to the first after it; none where one is missing or far away."""
    raw = history.versions
    order = np.lexsort((raw.created_us, raw.available_us, raw.sequence, raw.event_us))
    order = order[raw.live[order]]
    price = raw.values[order, 0 if raw.values.shape[1] == 2 else 4]
    event = raw.event_us[order]
    usable = np.isfinite(price) & (price > 0)
    price, event = price[usable], event[usable]
    after = int(np.searchsorted(event, at_us, side="right" if raw.values.shape[1] > 2 else "left"))
    if not 0 < after < len(event) or event[after] - event[after - 1] > _DISTANCE_MAX_US:
        return None
    return float(np.log(price[after - 1] / price[after]))
