"""Computes features again from what was known at a moment alone, and compares them with what the store gives for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tapeline.compute.computed import LONG_AGO_US
from tapeline.compute.rows import AvailableFloor
from tapeline.core.timestamps import format_us
from tapeline.features.versions import Floats, naming, newest_of_keys
from tapeline.training.leakcheck.report import Fault
from tapeline.training.leakcheck.subject import NO_ROW_US, EntityHistory, Sampled, Subject, describe_row, same_bits

CHECK = "truncated history"
_NO_FLOOR = AvailableFloor(LONG_AGO_US, LONG_AGO_US)
_EXPLAINED_MAX = 10
_FUTURES_TRIED_MAX = 32


@dataclass(frozen=True)
class Known:
    """Features of the newest row that was known at a moment; its event is `NO_ROW_US` where there was none."""

    values: Floats
    event_us: int

    @property
    def missing(self) -> bool:
        """Whether there was no row."""
        return self.event_us == NO_ROW_US


def known_at(subject: Subject, entity: str, moment_us: int) -> Known:
    """The service's features, computed from the first row on, of the raw rows available by a moment and no others."""
    history, runner = subject.histories[entity], subject.runner
    versions = history.versions
    known = np.flatnonzero(versions.available_us <= moment_us)
    newest = known[
        newest_of_keys(versions.event_us, versions.sequence, versions.available_us, versions.created_us, known)
    ]
    rows = newest[versions.live[newest]]
    nothing = Known(np.full(len(subject.places), np.nan), NO_ROW_US)
    if len(rows) == 0:
        return nothing
    with naming(entity):
        finished, state = runner.advance(
            runner.fresh(),
            versions.event_us[rows],
            versions.sequence[rows],
            versions.available_us[rows],
            np.ascontiguousarray(versions.values[rows]),
            history.actions.known_at(moment_us),
            _NO_FLOOR,
        )
    end_us = runner.open_bar_end_us(state)
    if end_us is not None and end_us + runner.lag_us <= moment_us:
        finished = runner.finish_open_bar(state, _NO_FLOOR)
    visible = int(np.searchsorted(finished.available_us, moment_us, side="right"))
    if visible == 0:
        return nothing
    return Known(finished.outputs[visible - 1][subject.places], int(finished.event_us[visible - 1]))


def check_truncation(
    subject: Subject, sample: Sampled, advance: Callable[[int], object] = lambda _: None
) -> list[Fault]:
    """Compare the join's values with those of what was known; a fault for each feature and entity row that differs."""

    def compute(row: int) -> Known:
        found = known_at(subject, sample.entities[row], int(sample.moments_us[row]))
        advance(1)
        return found

    _ = subject.runner  # made once, before the threads
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # the kernels release the GIL
        expected = list(pool.map(compute, range(len(sample))))
    faults: list[Fault] = []
    for row, known in enumerate(expected):
        for place in _differing(subject, sample, row, known):
            explained = len(faults) < _EXPLAINED_MAX
            faults.append(_fault(subject, sample, row, place, known, explained=explained))
    return faults


def _differing(subject: Subject, sample: Sampled, row: int, known: Known) -> Iterator[int]:
    """Features whose stored value is not that of what was known."""
    ttl_us = subject.selection.ttl_us
    moment_us = int(sample.moments_us[row])
    if sample.event_us[row] == NO_ROW_US:
        # None in the store is right where nothing was known, or only what is too old.
        expired = ttl_us > 0 and known.event_us < moment_us - ttl_us
        right = np.full(len(known.values), known.missing or expired)
    elif known.missing:  # after a retraction of everything the store says NULL
        right = sample.missing[row]
    else:
        right = same_bits(sample.values[row], known.values) & ~sample.missing[row]
    yield from np.flatnonzero(~right).tolist()


def _fault(subject: Subject, sample: Sampled, row: int, place: int, known: Known, *, explained: bool) -> Fault:
    entity, moment_us = sample.entities[row], int(sample.moments_us[row])
    stored = None if sample.missing[row, place] else float(sample.values[row, place])
    details = []
    if sample.event_us[row] != NO_ROW_US:
        details.append(f"taken from the row of {format_us(int(sample.event_us[row]))}")
    if explained and (cause := _explanation(subject, entity, moment_us, place, stored)):
        details.append(cause)
    expected = None if known.missing else float(known.values[place])
    return subject.fault(CHECK, sample, row, place, stored, expected, ", ".join(details))


def _explanation(subject: Subject, entity: str, moment_us: int, place: int, stored: float | None) -> str:
    """The first thing of the future with which the stored value comes out."""
    if stored is None:
        return ""
    history = subject.histories[entity]
    later = np.union1d(history.versions.available_us, history.actions.available_us)
    later = later[later > moment_us][:_FUTURES_TRIED_MAX]
    for at in later.tolist():
        then = known_at(subject, entity, at)
        if not then.missing and bool(same_bits(np.array([stored]), then.values[place : place + 1])[0]):
            return f"it knows what was only available from {format_us(at)}: {_arrived(history, at)}"
    return ""


def _arrived(history: EntityHistory, moment_us: int) -> str:
    rows = np.flatnonzero(history.versions.available_us == moment_us)
    if len(rows):
        return describe_row(history.versions, int(rows[0]))
    place = int(np.flatnonzero(history.actions.available_us == moment_us)[0])
    return f"corporate action effective at {format_us(int(history.actions.event_us[place]))}"
