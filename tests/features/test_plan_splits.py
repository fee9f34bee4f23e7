"""Splits: features go on across one as if it had not been, in units of the share of the day."""

from __future__ import annotations

import numpy as np
import pytest
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import SPLIT_EXPONENT

from tests.indicators.market import Columns, compute, everything, goog, goog_features, msft, same_bits
from tests.indicators.references import DEPENDS_ON_THE_UNIT_OF_PRICES

AT = 900


def _with_split(ratio: float, at: int = AT) -> Columns:
    """GOOG as it would have traded with an r-for-1 split before row ``at``."""
    after = np.arange(len(goog()["close"])) >= at
    columns = {name: np.where(after, goog()[name] / ratio, goog()[name]) for name in ("open", "high", "low", "close")}
    columns["volume"] = np.where(after, goog()["volume"] * ratio, goog()["volume"])
    columns["session"] = goog()["session"]
    columns["split_ratio"] = np.where(np.arange(len(after)) == at, ratio, 1.0)
    return columns


def _outputs() -> list[tuple[int, str]]:
    """Positions and names of the outputs that are per share, or free of shares, in proportion."""
    odd = {column for r in everything().requests if r.name in DEPENDS_ON_THE_UNIT_OF_PRICES for column in r.columns}
    return [(position, name) for position, name in enumerate(everything().outputs) if name not in odd]


def _expected(ratio: float) -> np.ndarray:
    reference = goog_features().copy()
    for position, unit in enumerate(everything().units):
        reference[AT:, position] *= ratio ** SPLIT_EXPONENT.get(unit, 0)
    return reference


@pytest.mark.parametrize("ratio", [2.0, 4.0, 0.5])
def test_a_split_by_a_power_of_two_changes_no_bit(ratio: float) -> None:
    results, reference = compute(everything(), _with_split(ratio)), _expected(ratio)
    for position, name in _outputs():
        assert same_bits(results[:, position], reference[:, position]), name


def test_a_split_by_seven_changes_only_roundings() -> None:
    """But for MFI, which asks whether two means of three prices are equal: rounding each price may answer otherwise."""
    results, reference = compute(everything(), _with_split(7.0)), _expected(7.0)
    for position, name in _outputs():
        if name.startswith("mfi"):
            continue
        typical = np.nanmedian(np.abs(reference[:, position]))
        np.testing.assert_allclose(
            results[:, position], reference[:, position], rtol=1e-9, atol=1e-9 * typical, err_msg=name
        )


def test_without_its_split_the_series_would_be_wrong() -> None:
    """The guard of the tests above: they could not pass if the ratio were ignored."""
    columns = _with_split(2.0) | {"split_ratio": np.ones(len(goog()["close"]))}
    position = everything().outputs.index("return_1")
    assert compute(everything(), columns)[AT, position] < -0.4


def test_a_real_split_leaves_no_jump() -> None:
    """MSFT, 2003-02-18, 2 for 1: the raw close falls by 48 %."""
    ratio = msft()["close"][1:] / msft()["close"][:-1]
    at = int(np.argmin(ratio)) + 1
    plan = FeaturePlan.of([FeatureRequest("RETURN"), FeatureRequest("SMA")])
    columns = msft() | {"split_ratio": np.where(np.arange(len(ratio) + 1) == at, 2.0, 1.0)}
    results = compute(plan, columns)
    assert ratio[at - 1] < 0.53
    assert abs(results[at, 0]) < 0.1
    assert 0.8 < results[at, 1] / msft()["close"][at] < 1.2


def test_a_split_on_a_bad_row_still_counts() -> None:
    columns = _with_split(2.0)
    columns["close"] = columns["close"].copy()
    columns["close"][AT] = np.nan
    reference = compute(
        everything(), goog() | {"close": np.where(np.arange(len(goog()["close"])) == AT, np.nan, goog()["close"])}
    )
    position = everything().outputs.index("sma_30")
    assert same_bits(compute(everything(), columns)[AT + 1 :, position], reference[AT + 1 :, position] / 2)
