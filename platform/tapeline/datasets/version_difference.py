"""What comes out of comparing two versions of a view; plain data."""

from __future__ import annotations

from dataclasses import dataclass

from tapeline.storage.feature_tables import RegisteredView

QUANTILES = {"p01": 0.01, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Distribution:
    """One feature of one version over the common rows.

    Attributes
    ----------
    rows, nulls, nans
        Counts: rows, of them NULL, of them NaN.
    mean, std
        Of the numbers; the standard deviation is that of a population. ``None`` without numbers.
    quantiles
        Stored values at ``QUANTILES``, by name; empty without numbers.
    """

    rows: int
    nulls: int
    nans: int
    mean: float | None
    std: float | None
    quantiles: dict[str, float]


@dataclass(frozen=True)
class LargestDifference:
    """The row where a feature differs most; the first by symbol and time if there are several."""

    difference: float
    symbol: str
    event_us: int
    sequence: int
    before: float
    after: float


@dataclass(frozen=True)
class FeatureDifference:
    """One feature that both versions have.

    Attributes
    ----------
    before, after
        Its distributions.
    psi, ks
        Population stability index and Kolmogorov–Smirnov distance of the numbers; ``None`` where a version has none.
    equal, different
        Rows whose values are the same bit for bit (NaN is NaN, NULL is NULL), and the others.
    largest_absolute, largest_relative
        Of the rows where both are finite and differ; relative to the greater size of the two.
    """

    feature: str
    before: Distribution
    after: Distribution
    psi: float | None
    ks: float | None
    equal: int
    different: int
    largest_absolute: LargestDifference | None
    largest_relative: LargestDifference | None


@dataclass(frozen=True)
class VersionDiff:
    """What differs between two versions.

    Attributes
    ----------
    definition
        A sentence for each change of what is computed or how long it is used.
    added, removed
        Columns that only the later, or only the earlier, of the two has.
    rows, only_before, only_after
        Rows that both have, and that only one has.
    features
        The columns that both have.
    """

    before: RegisteredView
    after: RegisteredView
    definition: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    rows: int
    only_before: int
    only_after: int
    features: tuple[FeatureDifference, ...]
