"""Volume."""

from __future__ import annotations

from tapeline.indicators.expression import UNDEFINED, Expression, apply, outcomes
from tapeline.indicators.oscillators import typical_price
from tapeline.indicators.specification import indicator
from tapeline.kernels.arithmetic import ratio
from tapeline.kernels.directional import session_sums, signed_volume
from tapeline.kernels.recursive import cumulative_sum, exponential_mean_from_first
from tapeline.kernels.rolling import rolling_sum


def money_flow_volume(high: Expression, low: Expression, close: Expression, volume: Expression) -> Expression:
    """Chaikin's volume weighted by where the close lies in the bar, −1 to 1; 0 for a bar without range."""
    return apply(ratio, (close - low) - (high - close), high - low, 0.0) * volume


@indicator("OBV", group="volume", outputs={"obv": "shares"}, source="Granville 1963; TA-Lib TA_OBV")
def obv(close: Expression, volume: Expression) -> Expression:
    """On-balance volume since the first row."""
    return apply(cumulative_sum, apply(signed_volume, close, volume))


@indicator("AD", group="volume", outputs={"ad": "shares"}, source="Chaikin; TA-Lib TA_AD")
def ad(high: Expression, low: Expression, close: Expression, volume: Expression) -> Expression:
    """Accumulation and distribution line since the first row."""
    return apply(cumulative_sum, money_flow_volume(high, low, close, volume))


@indicator(
    "ADOSC", group="volume", outputs={"adosc": "shares"}, source="Chaikin; TA-Lib TA_ADOSC: seeded with the first value"
)
def adosc(
    high: Expression,
    low: Expression,
    close: Expression,
    volume: Expression,
    fastperiod: int = 3,
    slowperiod: int = 10,
) -> Expression:
    """Chaikin oscillator: a fast less a slow exponential mean of the accumulation line."""
    total = apply(cumulative_sum, money_flow_volume(high, low, close, volume))
    wait = max(fastperiod, slowperiod) - 1
    fast, slow = (apply(exponential_mean_from_first, total, n, wait) for n in (fastperiod, slowperiod))
    return fast - slow


@indicator("CMF", group="volume", outputs={"cmf": "ratio"}, source="Chaikin", oracle="formula")
def cmf(high: Expression, low: Expression, close: Expression, volume: Expression, timeperiod: int = 20) -> Expression:
    """Chaikin money flow: money-flow volume over volume; undefined without volume."""
    flow = apply(rolling_sum, money_flow_volume(high, low, close, volume), timeperiod)
    return apply(ratio, flow, apply(rolling_sum, volume, timeperiod), UNDEFINED)


@indicator("VWAP", group="volume", outputs={"vwap": "price"}, source="Berkowitz, Logue & Noser 1988", oracle="formula")
def vwap(high: Expression, low: Expression, close: Expression, volume: Expression, timeperiod: int = 20) -> Expression:
    """Volume-weighted typical price of the last n rows; undefined without volume."""
    typical = typical_price(high, low, close)
    money = apply(rolling_sum, typical * volume, timeperiod)
    return apply(ratio, money, apply(rolling_sum, volume, timeperiod), UNDEFINED)


@indicator(
    "VWAP_SESSION",
    group="volume",
    outputs={"vwap_session": "price"},
    source="Berkowitz, Logue & Noser 1988",
    oracle="formula",
)
def vwap_session(
    high: Expression, low: Expression, close: Expression, volume: Expression, session: Expression
) -> Expression:
    """Volume-weighted typical price since the session began; undefined before its first volume."""
    money, amount = outcomes(session_sums, typical_price(high, low, close), volume, session)
    return apply(ratio, money, amount, UNDEFINED)
