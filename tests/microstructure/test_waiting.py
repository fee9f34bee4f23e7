"""What waits for time or volume: known neither before nor later than it can be, and never without a bound."""

from __future__ import annotations

import numpy as np
import pytest
from tapeline.core.errors import ParameterError
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import TICK_INPUTS

from tests.microstructure.ticks import START_US, Columns, compute, order_of, rows_of

NAN = float("nan")


def _ticks(seconds: list[float], **given: list[float]) -> Columns:
    columns = {name: np.full(len(seconds), np.nan) for name in TICK_INPUTS}
    columns["time"] = START_US + 1e6 * np.array(seconds)
    return columns | {name: np.array(values) for name, values in given.items()}


def _costs(**parameters: float) -> FeaturePlan:
    return FeaturePlan.of(
        [
            FeatureRequest("EFFECTIVE_SPREAD"),
            FeatureRequest.of("REALIZED_SPREAD", **parameters),
            FeatureRequest.of("PRICE_IMPACT", **parameters),
        ]
    )


def test_a_realised_spread_is_known_with_the_first_row_after_its_horizon() -> None:
    """A buy at 101 with the mid at 100.5; at the horizon the mid is 101, a change within the same microsecond included."""
    ticks = _ticks(
        [0, 1, 10, 11, 11, 11.000001, 12],
        bid=[100, NAN, 100.25, 100.4, 100.5, 90, NAN],
        ask=[101, NAN, 101.25, 101.4, 101.5, 95, NAN],
        price=[NAN, 101, NAN, NAN, NAN, NAN, NAN],
        size=[NAN, 5, NAN, NAN, NAN, NAN, NAN],
        side=[NAN, 1, NAN, NAN, NAN, NAN, NAN],
    )
    effective, realized, impact = compute(_costs(horizon_s=10.0), ticks).T
    np.testing.assert_array_equal(effective, [NAN, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(realized, [NAN, NAN, NAN, NAN, NAN, 0.0, 0.0])
    np.testing.assert_array_equal(impact, [NAN, NAN, NAN, NAN, NAN, 1.0, 1.0])


def test_its_availability_is_that_of_the_row_that_completes_it() -> None:
    plan = _costs(horizon_s=1.0)
    ticks = _ticks([0, 1, 2, 3], bid=[99, NAN, NAN, 100], ask=[101, NAN, NAN, 101], price=[NAN, 101, NAN, NAN])
    at, sequence = order_of(ticks)
    available = np.empty(4, np.int64)
    late = at + 7
    features, _ = plan.batch(at, sequence, late, rows_of(plan, ticks), np.array([0, 4]), available_out=available)
    known = ~np.isnan(features[:, 1])
    assert known.tolist() == [False, False, False, True]
    assert available[3] == at[3] + 7 >= at[1] + 1_000_000 + 7


def test_a_trade_without_a_quote_or_a_sign_is_not_measured() -> None:
    ticks = _ticks([0, 1, 2, 9], price=[5, 5, NAN, NAN], bid=[NAN, NAN, 4, NAN], ask=[NAN, NAN, 6, NAN])
    assert np.isnan(compute(_costs(horizon_s=1.0), ticks)).all()


def test_trades_of_one_row_give_their_mean() -> None:
    ticks = _ticks(
        [0, 1, 1, 2, 30],
        bid=[99, NAN, NAN, NAN, NAN],
        ask=[101, NAN, NAN, NAN, NAN],
        price=[NAN, 101, 100.5, 99, NAN],
        side=[NAN, 1, 1, -1, NAN],
    )
    _, realized, impact = compute(_costs(horizon_s=10.0), ticks).T
    assert realized[-1] == pytest.approx((2 + 1 + 2) / 3)
    assert impact[-1] == 0.0


def test_what_waits_is_bounded_and_no_trade_is_lost() -> None:
    """Five trades, room for two moments: the last three wait together, until the horizon of the last."""
    ticks = _ticks(
        [0, 1, 2, 3, 4, 5, 11.5, 12.5, 14.5, 15.5],
        bid=[99, *[NAN] * 5, NAN, NAN, 103, NAN],
        ask=[101, *[NAN] * 5, NAN, NAN, 105, NAN],
        price=[NAN, 101, 102, 103, 104, 105, NAN, NAN, NAN, NAN],
        side=[NAN, 1, 1, 1, 1, 1, NAN, NAN, NAN, NAN],
    )
    realized = compute(_costs(horizon_s=10.0, pending=2), ticks)[:, 1]
    wide = compute(_costs(horizon_s=10.0), ticks)[:, 1]
    np.testing.assert_allclose(wide[6:], [2.0, 4.0, (6 + 8) / 2, 2.0], rtol=1e-15)
    np.testing.assert_allclose(realized[6:], [2.0, 2.0, 2.0, 2 * (103.5 - 104)], rtol=1e-12)
    assert _costs(pending=2).state_size < _costs().state_size


def test_one_trade_may_fill_thousands_of_buckets() -> None:
    """More than the window holds: only the newest count, and they did not move; the rest goes into the next bucket."""
    plan = FeaturePlan.of([FeatureRequest.of(name, bucket_size=10.0, window=3) for name in ("VPIN", "BVC")])
    ticks = _ticks([0, 1, 2, 3, 4], price=[10, 11, 12, 13, 14], size=[10, 10, 10, 1e9 + 4, 6])
    vpin, bought, sold = compute(plan, ticks).T
    assert np.isnan(vpin[:2]).all()
    assert vpin[2] > 0
    assert (vpin[3], bought[3], sold[3]) == (0.0, 5.0, 5.0)
    assert bought[4] > 9.0 > 1.0 > sold[4]  # the remaining four and these six are one bucket that rose by one
    assert bought[4] + sold[4] == 10.0


def test_an_interval_without_trades_does_not_count() -> None:
    request = FeatureRequest.of("HASBROUCK_LAMBDA", interval_s=1.0, window=2)
    seconds = [0.5, 1.5, 2.5, 3.5]
    trades = {"price": [100.0, 101.0, 102.0, 102.0], "size": [4.0, 1.0, 9.0, 1.0], "side": [1.0, 1.0, -1.0, 1.0]}
    close = compute(FeaturePlan.of([request]), _ticks(seconds, **trades))[:, 0]
    apart = compute(FeaturePlan.of([request]), _ticks([0.5, 1.5, 60.5, 3_600.5], **trades))[:, 0]
    flows = [101**0.5, -(3 * 102**0.5)]
    expected = (np.log(101 / 100) - np.log(102 / 101)) / (flows[0] - flows[1])
    np.testing.assert_allclose(close, [NAN, NAN, NAN, expected], rtol=1e-9)
    np.testing.assert_array_equal(close, apart)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("SIGN_AUTOCORRELATION", {"lags": 50, "window": 50}),
        ("TWO_SCALE_VARIANCE", {"scale": 26, "window": 50}),
        ("REALIZED_KERNEL", {"lags": 20, "window": 20}),
        ("VARIANCE_RATIO", {"q": 30, "window": 30}),
        ("REALIZED_SPREAD", {"horizon_s": 0.0}),
        ("VPIN", {"bucket_size": -1.0}),
        ("ROLL_SPREAD", {"window": 2}),
    ],
)
def test_impossible_parameters_are_refused(name: str, parameters: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=name):
        FeaturePlan.of([FeatureRequest.of(name, **parameters)])
