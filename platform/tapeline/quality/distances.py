"""Drift of one feature between two spans of days, from their kept statistics."""

from __future__ import annotations

import math

from tapeline.quality.statistics import FeatureStatistics
from tapeline.stats import drift, sketch


def distances(past: FeatureStatistics, present: FeatureStatistics, place: int) -> dict[str, float | None]:
    """Distances of a feature's values, see :mod:`tapeline.stats.drift`; None where one of the spans has no values.

    Parameters
    ----------
    past, present
        The reference and what is held against it, of one view.
    place
        The feature.
    """
    shift = (float(present.mean[place]) - float(past.mean[place])) / (float(past.deviation[place]) or math.nan)
    missing = [float(one.nulls[place] + one.nans[place]) / max(one.rows, 1) for one in (past, present)]
    bucket, before, now = sketch.aligned(past.histogram(place), present.histogram(place))
    found: dict[str, float | None] = dict.fromkeys(("psi", "ks", "wasserstein", "jensen_shannon"))
    if before.sum() and now.sum():
        low, high = sketch.edges(bucket)
        found = {
            "psi": drift.psi(before, now),
            "ks": drift.kolmogorov_smirnov(before, now),
            "wasserstein": drift.wasserstein(before, now, (low + high) / 2),
            "jensen_shannon": drift.jensen_shannon(before, now),
        }
    return {
        **found,
        "mean_shift_std": shift if math.isfinite(shift) else None,
        "missing_change": missing[1] - missing[0],
    }
