"""Features as Polars expressions. Written by ``make docs`` from the specifications."""

# ruff: noqa
from types import SimpleNamespace

from tapeline.polars.feature_expression import AUTO as AUTO
from tapeline.polars.feature_expression import Feature as Feature
from tapeline.polars.feature_expression import IntoColumn, Time
from tapeline.polars.feature_expression import fuse as fuse

def __getattr__(name: str) -> SimpleNamespace: ...
def ad(
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Accumulation and distribution line since the first row."""
def adosc(
    fastperiod: int = 3,
    slowperiod: int = 10,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Chaikin oscillator: a fast less a slow exponential mean of the accumulation line."""
def adx(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Average directional index: how strong a trend is, whatever its direction."""
def apo(
    fastperiod: int = 12,
    slowperiod: int = 26,
    matype: int = 1,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Absolute price oscillator: a fast less a slow average."""
def aroon(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """How recent the lowest low and the highest high of the last n+1 rows are: 100 is now."""
def aroonosc(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Aroon up less Aroon down."""
def atr(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Average true range."""
def bbands(
    timeperiod: int = 20,
    nbdevup: float = 2.0,
    nbdevdn: float = 2.0,
    matype: int = 0,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Bollinger bands: an average and so many population standard deviations above and below it."""
def bop(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Balance of power: the bar's body over its range, −1 to 1; 0 for a bar without range."""
def cci(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Commodity channel index; 0 on constant prices."""
def cmf(
    timeperiod: int = 20,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Chaikin money flow: money-flow volume over volume; undefined without volume."""
def cmo(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Chande momentum oscillator; 0 on constant prices."""
def coppock(
    wmaperiod: int = 10,
    roc1period: int = 11,
    roc2period: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Coppock curve: weighted mean of the sum of two rates of change."""
def correl(
    timeperiod: int = 30,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Correlation of highs and lows; 0 where either is constant."""
def dema(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Double exponential moving average."""
def dist_sma(
    timeperiod: int = 50,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Relative distance of the close from its simple moving average."""
def donchian(
    timeperiod: int = 20,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Donchian channel: highest high, lowest low and their middle."""
def dpo(
    timeperiod: int = 20,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Detrended price: the close n/2+1 rows ago less today's simple mean of n, so that nothing looks ahead."""
def dx(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Directional index, before averaging."""
def efi(
    timeperiod: int = 13,
    *,
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Elder's force index: exponential mean of the close's change times volume."""
def ema(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Exponential moving average."""
def emv(
    timeperiod: int = 14,
    divisor: float = 100000000.0,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Ease of movement: mean of the middle price's change times range per volume; a row without volume has none."""
def er(
    timeperiod: int = 10,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Efficiency ratio: net change over the path walked in n rows, 0 to 1; 1 on constant prices, as TA-Lib has it."""
def eri(
    timeperiod: int = 13,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Elder ray: bull power and bear power, the high and the low above an exponential mean of the close."""
def fisher(
    timeperiod: int = 10,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Fisher transform of the middle price's place in its range, and its value a row before; 0 is mid-range or no range."""
def fosc(
    timeperiod: int = 5,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Forecast oscillator: how far the close is from where the previous rows' regression line put it, in percent."""
def gap(
    *,
    open: IntoColumn = "open",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Open relative to the previous close."""
def garman_klass(
    timeperiod: int = 20,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Volatility of one row from open, range and close: √mean(½·ln²(H/L) − (2·ln 2 − 1)·ln²(C/O))."""
def high_52w(
    timeperiod: int = 252,
    *,
    high: IntoColumn = "high",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Close over the highest high of a year of sessions."""
def imi(
    timeperiod: int = 14,
    *,
    open: IntoColumn = "open",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Intraday momentum index: rising bodies over all bodies of the last n rows; 50 where there are none."""
def kama(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Kaufman's adaptive moving average."""
def kdj(
    fastk_period: int = 9,
    slowk_period: int = 3,
    slowk_matype: int = 13,
    slowd_period: int = 3,
    slowd_matype: int = 13,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Slow stochastic K and D, and J, which leads them and may leave 0 to 100; all from the row where D exists."""
def klinger(
    fastperiod: int = 34,
    slowperiod: int = 55,
    signalperiod: int = 13,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Klinger oscillator: a fast less a slow exponential mean of volume force, and its signal line."""
def kst(
    roc1period: int = 10,
    roc2period: int = 15,
    roc3period: int = 20,
    roc4period: int = 30,
    sma1period: int = 10,
    sma2period: int = 10,
    sma3period: int = 10,
    sma4period: int = 15,
    signalperiod: int = 9,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Know sure thing: four smoothed rates of change in percent, weighted 1 to 4, and the signal line."""
def linearreg(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Value at the newest row of the least-squares line through the last n closes."""
def linearreg_slope(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Slope, in price per row, of the least-squares line through the last n closes."""
def log_return(
    timeperiod: int = 1,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Logarithmic return over n rows."""
def low_52w(
    timeperiod: int = 252,
    *,
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Close over the lowest low of a year of sessions."""
def macd(
    fastperiod: int = 12,
    slowperiod: int = 26,
    signalperiod: int = 9,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Moving average convergence and divergence, its signal line and their difference."""
def macdext(
    fastperiod: int = 12,
    fastmatype: int = 0,
    slowperiod: int = 26,
    slowmatype: int = 0,
    signalperiod: int = 9,
    signalmatype: int = 0,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """MACD with a moving-average type for each of its three averages."""
def macdfix(
    signalperiod: int = 9,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """MACD of 12 and 26 rows with Appel's rounded factors, 0.15 and 0.075 instead of 2/13 and 2/27."""
def marketfi(
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Market facilitation index: the bar's range per share; 0 without volume, as TA-Lib has it."""
def mfi(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Money flow index; 0 where no money flowed (TA-Lib: also where less than 1 flowed)."""
def minus_di(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Negative directional indicator."""
def mom(
    timeperiod: int = 10,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Momentum: the change over n rows."""
def natr(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Average true range in percent of the close."""
def nvi(
    *,
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Negative volume index: returns of rows with less volume than the row before, compounded from 1,000."""
def obv(
    *,
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """On-balance volume since the first row."""
def parkinson(
    timeperiod: int = 20,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Volatility of one row from its range: √(mean(ln²(H/L)) / (4·ln 2))."""
def plus_di(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Positive directional indicator."""
def ppo(
    fastperiod: int = 12,
    slowperiod: int = 26,
    matype: int = 1,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Percentage price oscillator: the gap of a fast and a slow average, in percent of the slow one."""
def price_z(
    timeperiod: int = 20,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Close in population standard deviations from its mean; undefined where prices are constant."""
def pvi(
    *,
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Positive volume index: returns of rows with more volume than the row before, compounded from 1,000."""
def pvo(
    fastperiod: int = 12,
    slowperiod: int = 26,
    matype: int = 1,
    *,
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Percentage volume oscillator: the gap of a fast and a slow average of volume, in percent of the slow one."""
def pvt(
    *,
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Price volume trend: volume times return, summed since the first row."""
def queue_imbalance(
    *,
    bid_size: IntoColumn = "bid_size",
    ask_size: IntoColumn = "ask_size",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Queue imbalance: size at the best bid less size at the best ask, relative to both; from −1 to 1."""
def quoted_spread(
    *,
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Quoted spread: ask less bid, relative to the mid."""
def realized_vol(
    timeperiod: int = 20,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Realised volatility: root of the sum of squared log returns of the last n rows."""
def return_(
    timeperiod: int = 1,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Simple return over n rows."""
def roc(
    timeperiod: int = 10,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Rate of change over n rows, in percent."""
def rocp(
    timeperiod: int = 10,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Rate of change over n rows, as a fraction."""
def rocr(
    timeperiod: int = 10,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Close over the close n rows ago."""
def rocr100(
    timeperiod: int = 10,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Close in percent of the close n rows ago."""
def rsi(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Relative strength index; 0 on constant prices, as TA-Lib has it."""
def rvi(
    timeperiod: int = 14,
    stddevperiod: int = 10,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Relative volatility index: the RSI of standard deviations of the close; 50 where nothing moved."""
def rvol(
    timeperiod: int = 20,
    *,
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Relative volume: volume over the mean of the n rows before; undefined where those had none."""
def sar(
    acceleration: float = 0.02,
    maximum: float = 0.2,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Parabolic stop and reverse."""
def sma(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Simple moving average."""
def smi(
    timeperiod: int = 13,
    fastperiod: int = 2,
    slowperiod: int = 25,
    signalperiod: int = 9,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Stochastic momentum index: distance from the middle of the range over half of it, each smoothed twice."""
def squeeze(
    timeperiod: int = 20,
    nbdev: float = 2.0,
    multiplier: float = 1.5,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """1 while the Bollinger bands lie inside the Keltner channel of the same length, else 0."""
def stc(
    fastperiod: int = 23,
    slowperiod: int = 50,
    timeperiod: int = 10,
    factor: float = 0.5,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Schaff trend cycle: the smoothed stochastic, twice over, of a fast less a slow average; held in an empty range."""
def stddev(
    timeperiod: int = 5,
    nbdev: float = 1.0,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Population standard deviation of the close, times ``nbdev``."""
def stoch(
    fastk_period: int = 5,
    slowk_period: int = 3,
    slowk_matype: int = 0,
    slowd_period: int = 3,
    slowd_matype: int = 0,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Slow stochastic: smoothed %K and its average %D, both from the row where %D exists."""
def stochf(
    fastk_period: int = 5,
    fastd_period: int = 3,
    fastd_matype: int = 0,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Fast stochastic: %K and its average %D, both from the row where %D exists."""
def stochrsi(
    timeperiod: int = 14,
    fastk_period: int = 5,
    fastd_period: int = 3,
    fastd_matype: int = 0,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Fast stochastic of the RSI; 0 where the RSI did not move by more than its rounding."""
def tema(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Triple exponential moving average."""
def trange(
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """True range: the bar's range, extended to the previous close."""
def trend_strength(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """ADX as a fraction, with the sign of the regression slope if +DI − −DI has the same sign, else 0."""
def trix(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """One-row rate of change of a triple exponential average, in percent."""
def tsi(
    firstperiod: int = 25,
    secondperiod: int = 13,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """True strength index: the twice smoothed change over the twice smoothed size of it; 0 on constant prices."""
def ultosc(
    timeperiod1: int = 7,
    timeperiod2: int = 14,
    timeperiod3: int = 28,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Ultimate oscillator: buying pressure over true range, on three horizons weighted 4, 2, 1."""
def volume_z(
    timeperiod: int = 20,
    *,
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Volume in population standard deviations from its mean; undefined where volume is constant."""
def vwap(
    timeperiod: int = 20,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Volume-weighted typical price of the last n rows; undefined without volume."""
def vwap_session(
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    session: IntoColumn = "session",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Volume-weighted typical price since the session began; undefined before its first volume."""
def wad(
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Williams' accumulation and distribution of price, summed since the first row."""
def weighted_mid(
    *,
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    bid_size: IntoColumn = "bid_size",
    ask_size: IntoColumn = "ask_size",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Mid weighted by the queues: each quote by the size on the other side."""
def willr(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Williams' %R, −100 to 0; 0 in an empty range."""
def wma(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Linearly weighted moving average."""
def zscore(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Close in sample standard deviations from its mean; undefined where prices are constant."""
