"""Features that users compute themselves, out of the kernels' sight: their function is run on truncated history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from tapeline.compute.history import Versions
from tapeline.compute.reading import BEGINNING_US, END_US, Change, read_versions
from tapeline.core.errors import InvalidDataError
from tapeline.core.timestamps import format_us
from tapeline.features.request import FeatureRequest
from tapeline.features.versions import newest_of_keys
from tapeline.features.view import FeatureViewSpec, RawKind, SessionBars, Trades
from tapeline.training.leakcheck.report import Fault
from tapeline.training.leakcheck.subject import NO_ROW_US, Sampled, Subject, chosen_versions

CHECK = "own features on truncated history"
_TOLERANCE = 1e-9
_NAMES = {
    "bars": ("start_us", "open", "high", "low", "close", "volume"),
    "trades": ("price", "size"),
}


@dataclass(frozen=True)
class OwnFeatures:
    """How a view's values are computed from raw rows.

    Attributes
    ----------
    view
        The feature view.
    source, raw
        Where its raw rows are: a source's bars or trades.
    compute
        From one entity's raw rows as known at a moment (``event_timestamp``, ``sequence``, and open, high, low, close,
        volume or price, size), in order, to a frame with ``event_timestamp`` and a column for each feature; its last
        row is what is known then.
    """

    view: str
    source: str
    raw: RawKind
    compute: Callable[[pl.DataFrame], pl.DataFrame]


def check_own(subject: Subject, sample: Sampled, own: OwnFeatures) -> list[Fault]:
    """Compare the join's values with those of the function on the raw rows available by each moment.

    Values must agree to 1e-9 of themselves: frames' rolling functions depend on where they begin.
    """
    rows = (SessionBars if own.raw == "bars" else Trades)(own.source, "XNYS")
    reader = FeatureViewSpec("own", 1, rows, (FeatureRequest("OBV" if own.raw == "bars" else "TICK_RULE"),), 0)
    changes = [Change(str(subject.keys[name][0]), BEGINNING_US, END_US, BEGINNING_US, 0) for name in subject.entities]
    found = read_versions(subject.connection, reader, changes, [(BEGINNING_US, -(2**63))] * len(changes))
    histories = dict(zip(subject.entities, found, strict=True))
    faults: list[Fault] = []
    for row in range(len(sample)):
        if sample.event_us[row] == NO_ROW_US:
            continue
        entity, moment_us = sample.entities[row], int(sample.moments_us[row])
        versions = histories[entity]
        known = np.flatnonzero((versions.available_us <= moment_us) & (versions.created_us <= subject.vintage_us))
        newest = known[
            newest_of_keys(versions.event_us, versions.sequence, versions.available_us, versions.created_us, known)
        ]
        frame = _frame(chosen_versions(versions, newest[versions.live[newest]]), own.raw)
        taken = format_us(int(sample.event_us[row]))
        values = _last(own, frame, subject.selection.features)
        for place, value in enumerate(values):
            stored = float(sample.values[row, place])
            if np.isclose(stored, value, rtol=_TOLERANCE, atol=0.0, equal_nan=True):
                continue
            faults.append(subject.fault(CHECK, sample, row, place, stored, value, f"taken from the row of {taken}"))
    return faults


def _frame(versions: Versions, raw: RawKind) -> pl.DataFrame:
    times = {
        "event_timestamp": pl.Series(versions.event_us).cast(pl.Datetime("us", "UTC")),
        "sequence": pl.Series(versions.sequence),
    }
    return pl.DataFrame(times | {name: versions.values[:, place] for place, name in enumerate(_NAMES[raw])})


def _last(own: OwnFeatures, frame: pl.DataFrame, features: tuple[str, ...]) -> list[float]:
    if frame.is_empty():
        return [float("nan")] * len(features)
    made = own.compute(frame)
    missing = [name for name in features if name not in made.columns]
    if missing:
        raise InvalidDataError(f"the function gives no {', '.join(missing)}", where=f"own features of {own.view}")
    last = made.tail(1)
    return [float("nan") if (value := last[name][0]) is None else float(value) for name in features]
