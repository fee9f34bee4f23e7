"""What values of an output are possible at all, from its definition: the default range rules of every view.

Only bounds that follow from the formula stand here, such as 0 to 100 of an oscillator that is a share of a range, or that a
weighted mean of prices is positive. What is merely usual does not: that is a rule for a view, not for a feature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tapeline.features.view import FeatureViewSpec

SLACK = 1e-6
"""Relative to the bound, or absolute near zero: rounding may carry a value that far past it."""


@dataclass(frozen=True)
class Bounds:
    """The lowest and the highest possible value, both inclusive."""

    lowest: float = -math.inf
    highest: float = math.inf

    @property
    def text(self) -> str:
        """For people: ``0 to 100``, ``at least 0``."""
        if self.highest == math.inf:
            return "any number" if self.lowest == -math.inf else f"at least {self.lowest:g}"
        return f"at most {self.highest:g}" if self.lowest == -math.inf else f"{self.lowest:g} to {self.highest:g}"


ANY = Bounds()
_SHARE, _PERCENT, _SIGNED_PERCENT, _SIGNED = Bounds(0, 1), Bounds(0, 100), Bounds(-100, 100), Bounds(-1, 1)
_NOT_NEGATIVE = Bounds(lowest=0)

_OUTPUTS: dict[Bounds, str] = {
    _PERCENT: "fractal_high fractal_low rsi mfi aroon_down aroon_up ultosc imi percentrank adx adxr dx plus_di minus_di"
    " stoch_k stoch_d stochf_k stochf_d stochrsi_k stochrsi_d kdj_k kdj_d stc",
    _SIGNED_PERCENT: "cmo aroonosc tsi smi smi_signal",
    Bounds(-100, 0): "willr",
    _SIGNED: "bop correl cmf ht_sine ht_leadsine queue_imbalance trade_imbalance sign_autocorrelation tick_rule"
    " lee_ready emo clnv supertrend_direction scaled_depth_difference",
    _SHARE: "vhf vpin pin pin_alpha pin_delta squeeze ht_trendmode minmax_scale jump_share"
    " information_share information_share_lower information_share_upper",
    Bounds(-90, 90): "linearreg_angle",
    # Weighted means, middles and extremes of prices, with weights that are not negative.
    _NOT_NEGATIVE: "sma ema wma trima kama vwma rma vidya midpoint midprice percentile avgprice medprice"
    " typprice wclprice heikin_ashi_open heikin_ashi_high heikin_ashi_low heikin_ashi_close tenkan kijun senkou_a senkou_b"
    " bbands_middle donchian_upper donchian_middle donchian_lower vwap vwap_session weighted_mid"
    # Spreads, ranges, squares, counts and ages.
    " trange atr natr stddev var avgdev ulcer adr plus_dm minus_dm vortex_plus vortex_minus massi parkinson realized_vol"
    " yang_zhang rogers_satchell rocr rocr100 rvol quoted_spread roll_spread corwin_schultz abdi_ranaldo amihud"
    " scaled_depth_bid scaled_depth_ask bvc_buy bvc_sell realized_variance bipower_variation jump_variation"
    " realized_kernel variance_ratio pin_mu pin_epsilon_buy pin_epsilon_sell pin_age information_share_age micro_price_age"
    " nvi pvi ht_dcperiod",
    Bounds(lowest=-1): "rocp return gap dist_sma high_52w low_52w",
    Bounds(lowest=-100): "roc",
}
BOUNDS: Mapping[str, Bounds] = MappingProxyType(
    {output: bounds for bounds, names in _OUTPUTS.items() for output in names.split()}
)
"""Output name, as in the indicator's specification → its bounds. An output that is not here may be any finite number."""


def bounds_of(spec: FeatureViewSpec) -> tuple[Bounds, ...]:
    """The bounds of each column of a view. Candle patterns are −100, 0 or 100, or twice that; an age is not negative."""
    found: list[Bounds] = []
    for feature in spec.features:
        outputs = feature.indicator.outputs
        candle = feature.indicator.group == "candles"
        own = [Bounds(-200, 200) if candle else BOUNDS.get(output, ANY) for output in outputs]
        ages = [] if feature.last_within_us is None else [_NOT_NEGATIVE] * len(own)
        found += [*own, *ages]
    return tuple(found)
