"""What regressions make of the co-moments of series (:func:`tapeline.kernels.moments.co_moments`)."""

from __future__ import annotations

import math

from tapeline.kernels.primitive import primitive


@primitive()
def second_coefficient(xx: float, xz: float, zz: float, xy: float, zy: float) -> float:
    """Coefficient of z in the regression of y on x and z, from sums about means; NaN where x and z are collinear."""
    determinant = xx * zz - xz * xz
    # Of collinear columns only rounding is left: about epsilon of the product.
    return (xx * zy - xz * xy) / determinant if determinant > 1e-12 * xx * zz else math.nan


@primitive()
def roll_spread_of(products: float, mean: float, mean_before: float, rise: float, n: int) -> float:
    """Roll's spread from the n−1 pairs of n successive price changes; 0 where their autocovariance is not negative.

    ``rise`` is the sum of all n changes: deviations are from their common mean.
    """
    if products != products:
        return math.nan
    common = rise / n
    covariance = products / (n - 1) + (mean - common) * (mean_before - common)
    return 2.0 * math.sqrt(-covariance) if covariance < 0.0 else 0.0
