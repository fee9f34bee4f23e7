"""Volume."""

from __future__ import annotations

from tapeline.indicators.averages import exponential, simple
from tapeline.indicators.expression import UNDEFINED, Expression, apply, outcomes
from tapeline.indicators.oscillators import typical_price
from tapeline.indicators.specification import PERIOD_MAX, expect_rising, indicator
from tapeline.kernels.arithmetic import absolute, ratio
from tapeline.kernels.directional import session_sums, signed_volume
from tapeline.kernels.oscillators import efficiency
from tapeline.kernels.recursive import cumulative_sum, exponential_mean_from_first
from tapeline.kernels.rolling import lag, rolling_sum
from tapeline.kernels.volume import (
    klinger_force,
    relative_change,
    volume_indices,
    williams_range,
)

_FROM_ONE = (1, PERIOD_MAX)


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
    expect_rising("ADOSC", fastperiod=fastperiod, slowperiod=slowperiod)
    total = apply(cumulative_sum, money_flow_volume(high, low, close, volume))
    wait = slowperiod - 1
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


@indicator(
    "NVI", group="volume", outputs={"nvi": "ratio"}, source="Dysart; Fosback 1976, Stock Market Logic; TA-Lib TA_NVI"
)
def nvi(close: Expression, volume: Expression) -> Expression:
    """Negative volume index: returns of rows with less volume than the row before, compounded from 1,000.

    Others begin at 1 or 100, or add the returns in percent.
    """
    return outcomes(volume_indices, close, volume)[0]


@indicator(
    "PVI", group="volume", outputs={"pvi": "ratio"}, source="Dysart; Fosback 1976, Stock Market Logic; TA-Lib TA_PVI"
)
def pvi(close: Expression, volume: Expression) -> Expression:
    """Positive volume index: returns of rows with more volume than the row before, compounded from 1,000.

    Others begin at 1 or 100, or add the returns in percent.
    """
    return outcomes(volume_indices, close, volume)[1]


@indicator("PVT", group="volume", outputs={"pvt": "shares"}, source="TA-Lib TA_PVT")
def pvt(close: Expression, volume: Expression) -> Expression:
    """Price volume trend: volume times return, summed since the first row."""
    return apply(cumulative_sum, volume * apply(relative_change, close))


@indicator(
    "MARKETFI",
    group="volume",
    outputs={"marketfi": "price per share"},
    source="Williams 1995, Trading Chaos; TA-Lib TA_MARKETFI",
)
def marketfi(high: Expression, low: Expression, volume: Expression) -> Expression:
    """Market facilitation index: the bar's range per share; 0 without volume, as TA-Lib has it."""
    return apply(ratio, high - low, volume, 0.0)


@indicator(
    "EFI",
    group="volume",
    outputs={"efi": "money"},
    source="Elder 1993, Trading for a Living; TA-Lib TA_EFI",
    bounds={"timeperiod": _FROM_ONE},
)
def efi(close: Expression, volume: Expression, timeperiod: int = 13) -> Expression:
    """Elder's force index: exponential mean of the close's change times volume."""
    return exponential((close - apply(lag, close, 1)) * volume, timeperiod)


@indicator(
    "EMV",
    group="volume",
    outputs={"emv": "price squared per share"},
    source="Arms 1983, Volume Cycles in the Stock Market",
    oracle="talipp",
    bounds={"timeperiod": _FROM_ONE, "divisor": (1.0, 1e12)},
    quiet=("divisor",),
)
def emv(
    high: Expression, low: Expression, volume: Expression, timeperiod: int = 14, divisor: float = 1e8
) -> Expression:
    """Ease of movement: mean of the middle price's change times range per volume; a row without volume has none.

    Tulip gives the single rows' values; divisors of 10,000 to 100,000,000 are in use.
    """
    middle = 0.5 * (high + low)
    distance = middle - apply(lag, middle, 1)
    ease = apply(ratio, distance * (high - low), volume / divisor, UNDEFINED)
    return apply(rolling_sum, ease, timeperiod) / timeperiod


@indicator(
    "KLINGER",
    group="volume",
    outputs={"klinger": "shares", "klinger_signal": "shares"},
    source="Klinger 1997, Stocks & Commodities 15:12; force with |2·(dm/cm − 1)|",
    oracle="talipp",
    bounds={"signalperiod": _FROM_ONE},
)
def klinger(
    high: Expression,
    low: Expression,
    close: Expression,
    volume: Expression,
    fastperiod: int = 34,
    slowperiod: int = 55,
    signalperiod: int = 13,
) -> tuple[Expression, ...]:
    """Klinger oscillator: a fast less a slow exponential mean of volume force, and its signal line.

    Tulip weights volume by |2·dm/cm − 1| instead, and pandas-ta takes signed volume without any range.
    """
    expect_rising("KLINGER", fastperiod=fastperiod, slowperiod=slowperiod)
    force = apply(klinger_force, high, low, close, volume)
    gap = exponential(force, fastperiod) - exponential(force, slowperiod)
    return gap, exponential(gap, signalperiod)


@indicator("RVOL", group="volume", outputs={"rvol": "ratio"}, source="TA-Lib TA_RVOL", bounds={"timeperiod": _FROM_ONE})
def rvol(volume: Expression, timeperiod: int = 20) -> Expression:
    """Relative volume: volume over the mean of the n rows before; undefined where those had none."""
    return apply(ratio, volume, apply(lag, simple(volume, timeperiod), 1), UNDEFINED)


@indicator(
    "WAD",
    group="volume",
    outputs={"wad": "price"},
    source="Williams 1972, The Secret of Selecting Stocks; TA-Lib TA_WAD",
)
def wad(high: Expression, low: Expression, close: Expression) -> Expression:
    """Williams' accumulation and distribution of price, summed since the first row."""
    return apply(cumulative_sum, apply(williams_range, high, low, close))


@indicator("ER", group="volume", outputs={"er": "ratio"}, source="Kaufman 1995, Smarter Trading; TA-Lib TA_ER")
def er(close: Expression, timeperiod: int = 10) -> Expression:
    """Efficiency ratio: net change over the path walked in n rows, 0 to 1; 1 on constant prices, as TA-Lib has it."""
    path = apply(rolling_sum, apply(absolute, close - apply(lag, close, 1)), timeperiod)
    return apply(efficiency, close - apply(lag, close, timeperiod), path)


@indicator(
    "ERI",
    group="volume",
    outputs={"eri_bull": "price", "eri_bear": "price"},
    source="Elder 1993, Trading for a Living; TA-Lib TA_ERI",
)
def eri(high: Expression, low: Expression, close: Expression, timeperiod: int = 13) -> tuple[Expression, ...]:
    """Elder ray: bull power and bear power, the high and the low above an exponential mean of the close."""
    middle = exponential(close, timeperiod)
    return high - middle, low - middle
