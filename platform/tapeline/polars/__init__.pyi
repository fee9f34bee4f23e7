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
def aroon(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """How recent the lowest low and the highest high of the last n+1 rows are: 100 is now."""
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
def ema(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Exponential moving average."""
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
def kama(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Kaufman's adaptive moving average."""
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
def rsi(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Relative strength index; 0 on constant prices, as TA-Lib has it."""
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
