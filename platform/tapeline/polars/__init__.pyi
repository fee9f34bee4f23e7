"""Features as Polars expressions. Written by ``make docs`` from the specifications."""

# ruff: noqa
from types import SimpleNamespace

from tapeline.polars.feature_expression import AUTO as AUTO
from tapeline.polars.feature_expression import Feature as Feature
from tapeline.polars.feature_expression import IntoColumn, Time
from tapeline.polars.feature_expression import fuse as fuse

def __getattr__(name: str) -> SimpleNamespace: ...
def abdi_ranaldo(
    window: int = 21,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Abdi and Ranaldo's spread from closes and the mid-ranges around them, over the pairs of bars in the window."""
def accbands(
    timeperiod: int = 20,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Acceleration bands: means of the close, and of high and low moved out by the relative range."""
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
def adr(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Average day range: mean of high less low."""
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
def adxr(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Average directional index rating: the mean of the ADX and that of n − 1 rows ago."""
def alma(
    timeperiod: int = 9,
    offset: float = 0.85,
    sigma: float = 6.0,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Arnaud Legoux moving average: Gaussian weights centred at ``offset`` of the window, n/sigma rows wide."""
def amihud(
    window: int = 21,
    *,
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Amihud's illiquidity: mean over bars of the absolute return per money traded; bars without volume do not count."""
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
def avgdev(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Mean absolute deviation of the close from its mean."""
def avgprice(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Mean of open, high, low and close."""
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
def beta(
    timeperiod: int = 5,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Slope of the lows' returns on the highs' over n returns; 0 where the highs' are all equal."""
def bipower_variation(
    window: int = 100,
    *,
    price: IntoColumn = "price",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Bipower variation: π/2 times the sum of products of neighbouring absolute returns; what jumps leave out."""
def book_slope(
    *,
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    bid_size: IntoColumn = "bid_size",
    ask_size: IntoColumn = "ask_size",
    bid_2: IntoColumn = "bid_2",
    bid_3: IntoColumn = "bid_3",
    bid_4: IntoColumn = "bid_4",
    bid_5: IntoColumn = "bid_5",
    ask_2: IntoColumn = "ask_2",
    ask_3: IntoColumn = "ask_3",
    ask_4: IntoColumn = "ask_4",
    ask_5: IntoColumn = "ask_5",
    bid_size_2: IntoColumn = "bid_size_2",
    bid_size_3: IntoColumn = "bid_size_3",
    bid_size_4: IntoColumn = "bid_size_4",
    bid_size_5: IntoColumn = "bid_size_5",
    ask_size_2: IntoColumn = "ask_size_2",
    ask_size_3: IntoColumn = "ask_size_3",
    ask_size_4: IntoColumn = "ask_size_4",
    ask_size_5: IntoColumn = "ask_size_5",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Slope of the book: growth of the logarithm of accumulated size per growth of price, of both sides and of each."""
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
def breakout_score(
    timeperiod: int = 20,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """How far the close is beyond the channel of the n rows before, in average true ranges; 0 inside it."""
def bvc(
    bucket_size: float = 1000.0,
    window: int = 50,
    *,
    price: IntoColumn = "price",
    size: IntoColumn = "size",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Bulk volume classification: volume bought and sold in the last bucket, V·Φ(Δp/σ) and the rest; see VPIN."""
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
def cdl2crows(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Two crows: a black candle above a long white one, then one that opens in it and closes in the first; bearish."""
def cdl3blackcrows(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Three black crows: falling black candles without lower shadows, each opening in the body before; bearish."""
def cdl3inside(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Three inside up or down: a harami, confirmed by a close beyond the first open; the sign is against the first."""
def cdl3linestrike(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Three-line strike: three advancing candles of a colour, undone by a fourth; the sign is their colour."""
def cdl3outside(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Three outside up or down: an engulfing body, confirmed by the next close; the sign is the second's colour."""
def cdl3starsinsouth(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Three stars in the south: black candles that shrink, each low above the one before; bullish."""
def cdl3whitesoldiers(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Three white soldiers: rising white candles without upper shadows, none much shorter than the last; bullish."""
def cdlabandonedbaby(
    penetration: float = 0.3,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Abandoned baby: a doji with gaps on both sides between two opposite candles; the sign is the third's colour."""
def cdladvanceblock(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Advance block: three rising white candles that weaken in bodies or upper shadows; bearish."""
def cdlbelthold(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Belt hold: a long body that opened at its extreme; the sign is its colour."""
def cdlbreakaway(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Breakaway: a gap, two more candles its way, then one of the other colour back into it, whose sign it has."""
def cdlclosingmarubozu(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Closing marubozu: a long body that closed at its extreme; the sign is its colour."""
def cdlconcealbabyswall(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Concealing baby swallow: two black marubozu, a gap down into them, then one that engulfs all of it; bullish."""
def cdlcounterattack(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Counterattack: two long candles of opposite colours that close at one price; the sign is the second's colour."""
def cdldarkcloudcover(
    penetration: float = 0.5,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Dark cloud cover: after a long white candle one opens above its high and closes deep in its body; bearish."""
def cdldoji(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Doji: open and close are almost equal; always 100."""
def cdldojistar(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Doji star: a doji that gaps away in the direction of a long body; the sign is against it."""
def cdldragonflydoji(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Dragonfly doji: open and close at the high, above a lower shadow; always 100."""
def cdlengulfing(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Engulfing: a body around one of the other colour, ±80 where they share an end; the sign is the second's colour."""
def cdleveningdojistar(
    penetration: float = 0.3,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Evening doji star: a doji above a long white body, then a black one deep into the first; bearish."""
def cdleveningstar(
    penetration: float = 0.3,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Evening star: a small body above a long white one, then a black one deep into the first; bearish."""
def cdlgapsidesidewhite(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Gapping side-by-side white lines: two alike white candles beyond a gap; the sign is the gap's direction."""
def cdlgravestonedoji(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Gravestone doji: open and close at the low, below an upper shadow; always 100."""
def cdlhammer(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Hammer: a small body on a long lower shadow, near or below the low before; bullish."""
def cdlhangingman(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Hanging man: a small body on a long lower shadow, near or above the high before; bearish."""
def cdlharami(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Harami: a small body inside a long one, ±80 where they share an end; the sign is against the first's colour."""
def cdlharamicross(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Harami cross: a doji inside a long body, ±80 where they share an end; the sign is against the first's colour."""
def cdlhighwave(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """High wave: a small body between very long shadows; the sign is its colour."""
def cdlhikkake(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Hikkake: a false break out of an inside bar, ±100; ±200 where one of the next three closes beyond that bar."""
def cdlhikkakemod(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Modified hikkake: two inside bars, the first closing near its end, a false break ±100; confirmed ±200."""
def cdlhomingpigeon(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Homing pigeon: a short black body inside a long black one; bullish."""
def cdlidentical3crows(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Identical three crows: falling black candles without lower shadows, each opening at the close before; bearish."""
def cdlinneck(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """In-neck: from below a long black candle's low up to its close, or barely more; bearish."""
def cdlinvertedhammer(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Inverted hammer: a small body under a long upper shadow, gapping down; bullish."""
def cdlkicking(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Kicking: two marubozu of opposite colours with a gap between; the sign is the second's colour."""
def cdlkickingbylength(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Kicking: two marubozu of opposite colours with a gap between; the sign is the longer one's colour."""
def cdlladderbottom(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Ladder bottom: three falling black candles, one with an upper shadow, then a white one above it; bullish."""
def cdllongleggeddoji(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Long-legged doji: a doji with at least one long shadow; always 100."""
def cdllongline(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Long line: a long body with short shadows; the sign is its colour."""
def cdlmarubozu(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Marubozu: a long body with hardly any shadow; the sign is its colour."""
def cdlmatchinglow(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Matching low: two black candles that close at one price; bullish."""
def cdlmathold(
    penetration: float = 0.5,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Mat hold: small candles drift back from a gap, staying in the long white body's part, then a new high; bullish."""
def cdlmorningdojistar(
    penetration: float = 0.3,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Morning doji star: a doji below a long black body, then a white one deep into the first; bullish."""
def cdlmorningstar(
    penetration: float = 0.3,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Morning star: a small body below a long black one, then a white one deep into the first; bullish."""
def cdlonneck(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """On-neck: from below a long black candle's low up to that low; bearish."""
def cdlpiercing(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Piercing line: from below a long black candle's low up beyond the middle of its body; bullish."""
def cdlrickshawman(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Rickshaw man: a doji in the middle of two long shadows; always 100."""
def cdlrisefall3methods(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Rising or falling three methods: three small candles against a long one and within it, then a new extreme."""
def cdlseparatinglines(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Separating lines: a belt hold from the open of a candle of the other colour; the sign is the second's colour."""
def cdlshootingstar(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Shooting star: a small body under a long upper shadow, gapping up; bearish."""
def cdlshortline(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Short line: a short body with short shadows; the sign is its colour."""
def cdlspinningtop(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Spinning top: a short body between shadows that are longer than it; the sign is its colour."""
def cdlstalledpattern(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Stalled pattern: two long white candles, then a small one on the shoulder of the second; bearish."""
def cdlsticksandwich(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Stick sandwich: a white candle between two black ones that close at one price; bullish."""
def cdltakuri(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Takuri line: a dragonfly doji with a very long lower shadow; always 100."""
def cdltasukigap(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Tasuki gap: a gap that a candle of the other colour and like size fails to close; the sign is the gap's."""
def cdlthrusting(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Thrusting: from below a long black candle's low into its body, to the middle at most; bearish."""
def cdltristar(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Tristar: three dojis, the middle one beyond the others; bearish above them, bullish below."""
def cdlunique3river(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Unique three river: a black harami with a lower low, then a small white body above that low; bullish."""
def cdlupsidegap2crows(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Upside gap two crows: above a long white candle a small black one, engulfed by another; bearish."""
def cdlxsidegap3methods(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Upside or downside gap three methods: two candles of a colour with a gap, filled by a third; their sign."""
def chop(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Choppiness index: near 100 where the price goes nowhere, lower in a trend; 100 without range."""
def clnv(
    *,
    price: IntoColumn = "price",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Sign of the last trade by the quote if it was within 30 % of the spread from one; elsewhere by the tick test."""
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
def corwin_schultz(
    window: int = 21,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Corwin and Schultz's spread from highs and lows: mean over the pairs of successive bars in the window."""
def cvi(
    timeperiod: int = 10,
    rocperiod: int = 10,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Chaikin's volatility: change over so many rows of the exponential mean range, in percent; 0 after no range."""
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
def edge(
    window: int = 21,
    signed: int = 0,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """EDGE, the efficient spread estimator from open, high, low and close; ``signed`` keeps the sign of the estimate."""
def effective_spread(
    *,
    price: IntoColumn = "price",
    side: IntoColumn = "side",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Effective spread of the last trade: twice its signed distance from the mid that it met."""
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
def emo(
    *,
    price: IntoColumn = "price",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Sign of the last trade by the quote if it was at one; elsewhere by the tick test."""
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
def fractal(
    leftbars: int = 2,
    rightbars: int = 2,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """100 on the row that confirms a swing: the high (low) ``rightbars`` ago is beyond all others around it, else 0."""
def frama(
    timeperiod: int = 16,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Fractal adaptive moving average of (high + low)/2; the period must be even."""
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
def hasbrouck_lambda(
    interval_s: float = 300.0,
    window: int = 50,
    *,
    price: IntoColumn = "price",
    size: IntoColumn = "size",
    side: IntoColumn = "side",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Hasbrouck's λ: slope of an interval's logarithmic return on its sum of signed roots of money, over the last intervals."""
def heikin_ashi(
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Heikin-Ashi candle: the bar's mean as close, the middle of the previous candle as open, high and low with both."""
def high_52w(
    timeperiod: int = 252,
    *,
    high: IntoColumn = "high",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Close over the highest high of a year of sessions."""
def hma(
    timeperiod: int = 20,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Hull moving average; n/2 and √n are cut to whole numbers."""
def ht_dcperiod(
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Period of the dominant cycle, 6 to 50 rows."""
def ht_dcphase(
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Phase of the dominant cycle, −45° to 315°."""
def ht_phasor(
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """In-phase and quadrature component of the detrended price."""
def ht_sine(
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Sine of the dominant cycle's phase, and the sine 45° ahead, which crosses it before a turn."""
def ht_trendline(
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Instantaneous trendline: the mean over one dominant cycle."""
def ht_trendmode(
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """1 in a trend, 0 in a cycle."""
def ichimoku(
    tenkanperiod: int = 9,
    kijunperiod: int = 26,
    senkouperiod: int = 52,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Ichimoku's conversion line, base line and two leading spans, all as known at the row."""
def imi(
    timeperiod: int = 14,
    *,
    open: IntoColumn = "open",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Intraday momentum index: rising bodies over all bodies of the last n rows; 50 where there are none."""
def information_share(
    samples: int = 1000,
    lags: int = 5,
    every: int = 100,
    *,
    price: IntoColumn = "price",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Share of trades in price discovery, against the mid of the quotes: middle of its bounds, the bounds, the age."""
def jump_variation(
    window: int = 100,
    *,
    price: IntoColumn = "price",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Jumps: realised variance less bipower variation, not below 0, and its share of the realised variance."""
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
def keltner(
    timeperiod: int = 20,
    atrperiod: int = 10,
    nbdev: float = 2.0,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Keltner channel: an exponential mean of typical prices and so many average true ranges above and below it."""
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
def kyle_lambda(
    window: int = 100,
    *,
    price: IntoColumn = "price",
    size: IntoColumn = "size",
    side: IntoColumn = "side",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Kyle's λ: slope of the price change from trade to trade on the trade's signed size, over the last trades."""
def lee_ready(
    *,
    price: IntoColumn = "price",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Sign of the last trade by its side of the mid; at the mid by the tick test."""
def linearreg(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Value at the newest row of the least-squares line through the last n closes."""
def linearreg_angle(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Angle of the least-squares line of n closes, in degrees: it depends on the price's unit, a share of the day."""
def linearreg_intercept(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Value at the oldest row of the least-squares line through the last n closes."""
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
def mama(
    fastlimit: float = 0.5,
    slowlimit: float = 0.05,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """MESA adaptive moving average and the one that follows it, driven by the phase of the dominant cycle."""
def marketfi(
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Market facilitation index: the bar's range per share; 0 without volume, as TA-Lib has it."""
def massi(
    fastperiod: int = 9,
    slowperiod: int = 25,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Mass index: sum of ratios of the exponential mean range to its own exponential mean; a ratio is 1 without range."""
def mcginley(
    timeperiod: int = 10,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """McGinley dynamic: follows a fall faster than a rise; a step never goes beyond the close."""
def mean_reversion_score(
    timeperiod: int = 20,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Pull back to the mean: minus the z-score, times 1 − efficiency ratio; undefined where prices are constant."""
def medprice(
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Middle of high and low."""
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
def micro_price(
    samples: int = 2000,
    classes: int = 10,
    spreads: int = 2,
    every: int = 200,
    *,
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    bid_size: IntoColumn = "bid_size",
    ask_size: IntoColumn = "ask_size",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Micro-price: where the mid is expected to settle, given imbalance and spread, by their chain in the last changes."""
def midpoint(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Middle of the highest and the lowest close."""
def midprice(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Middle of the highest high and the lowest low."""
def minmax_scale(
    timeperiod: int = 20,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Place of the close between the lowest (0) and the highest (1) of the last n; undefined where they are equal."""
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
def minus_dm(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Negative directional movement, smoothed: a decaying sum of about n rows."""
def mlofi(
    window: int = 100,
    *,
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    bid_size: IntoColumn = "bid_size",
    ask_size: IntoColumn = "ask_size",
    bid_2: IntoColumn = "bid_2",
    bid_3: IntoColumn = "bid_3",
    bid_4: IntoColumn = "bid_4",
    bid_5: IntoColumn = "bid_5",
    ask_2: IntoColumn = "ask_2",
    ask_3: IntoColumn = "ask_3",
    ask_4: IntoColumn = "ask_4",
    ask_5: IntoColumn = "ask_5",
    bid_size_2: IntoColumn = "bid_size_2",
    bid_size_3: IntoColumn = "bid_size_3",
    bid_size_4: IntoColumn = "bid_size_4",
    bid_size_5: IntoColumn = "bid_size_5",
    ask_size_2: IntoColumn = "ask_size_2",
    ask_size_3: IntoColumn = "ask_size_3",
    ask_size_4: IntoColumn = "ask_size_4",
    ask_size_5: IntoColumn = "ask_size_5",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Order-flow imbalance at each of five levels over the last changes of the book."""
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
def ofi(
    window: int = 100,
    *,
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    bid_size: IntoColumn = "bid_size",
    ask_size: IntoColumn = "ask_size",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Order-flow imbalance at the best quotes over the last changes of the book."""
def parkinson(
    timeperiod: int = 20,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Volatility of one row from its range: √(mean(ln²(H/L)) / (4·ln 2))."""
def pastor_stambaugh(
    window: int = 21,
    *,
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Pástor and Stambaugh's γ: reversal of a bar's return by the next bar, per money traded in its direction."""
def percentile(
    timeperiod: int = 30,
    percentile: float = 50.0,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Percentile of the last n closes by nearest rank: the smallest that at least so many percent do not exceed."""
def percentrank(
    timeperiod: int = 100,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """How many percent of the n closes before this one are lower."""
def pin(
    periods: int = 60,
    period_s: int = 86400,
    every: int = 1,
    *,
    price: IntoColumn = "price",
    side: IntoColumn = "side",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Probability of informed trading: share of trades by those who know news, with the model's parameters and age."""
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
def plus_dm(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Positive directional movement, smoothed: a decaying sum of about n rows."""
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
def price_impact(
    horizon_s: float = 300.0,
    pending: int = 256,
    *,
    price: IntoColumn = "price",
    side: IntoColumn = "side",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Price impact: twice the signed move of the mid from a trade to some time later, known from then on."""
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
def qstick(
    timeperiod: int = 10,
    *,
    open: IntoColumn = "open",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Mean of the bars' bodies, close less open."""
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
def realized_kernel(
    lags: int = 10,
    window: int = 100,
    *,
    price: IntoColumn = "price",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Realised kernel: variance and weighted autocovariances of the last returns, robust to the noise of single trades."""
def realized_spread(
    horizon_s: float = 300.0,
    pending: int = 256,
    *,
    price: IntoColumn = "price",
    side: IntoColumn = "side",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Realised spread: twice a trade's signed distance from the mid some time later, known from then on."""
def realized_variance(
    window: int = 100,
    *,
    price: IntoColumn = "price",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Realised variance: sum of the squares of the last logarithmic returns from trade to trade."""
def realized_vol(
    timeperiod: int = 20,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Realised volatility: root of the sum of squared log returns of the last n rows."""
def regime(
    timeperiod: int = 14,
    lookback: int = 100,
    limit: float = 25.0,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Market regime 0 to 5: 2 × (0 falling, 1 without trend, 2 rising) + 1 if more volatile than its median."""
def return_(
    timeperiod: int = 1,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Simple return over n rows."""
def rma(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Wilder's moving average: factor 1/n, seeded with an SMA."""
def robust_scale(
    timeperiod: int = 20,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Close less the median of the last n, in their interquartile ranges; undefined where that is 0."""
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
def rogers_satchell(
    timeperiod: int = 20,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Volatility of one row whatever the drift: √mean(u·(u − c) + d·(d − c)) of ln H/O, ln L/O and ln C/O."""
def roll_spread(
    window: int = 100,
    *,
    price: IntoColumn = "price",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Roll's spread from the autocovariance of the last price changes; 0 where that is not negative."""
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
def sarext(
    startvalue: float = 0.0,
    offsetonreverse: float = 0.0,
    accelerationinitlong: float = 0.02,
    accelerationlong: float = 0.02,
    accelerationmaxlong: float = 0.2,
    accelerationinitshort: float = 0.02,
    accelerationshort: float = 0.02,
    accelerationmaxshort: float = 0.2,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Parabolic stop and reverse, negative while short, with a start and accelerations of its own on either side."""
def scaled_depth(
    *,
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    bid_size: IntoColumn = "bid_size",
    ask_size: IntoColumn = "ask_size",
    bid_2: IntoColumn = "bid_2",
    bid_3: IntoColumn = "bid_3",
    bid_4: IntoColumn = "bid_4",
    bid_5: IntoColumn = "bid_5",
    ask_2: IntoColumn = "ask_2",
    ask_3: IntoColumn = "ask_3",
    ask_4: IntoColumn = "ask_4",
    ask_5: IntoColumn = "ask_5",
    bid_size_2: IntoColumn = "bid_size_2",
    bid_size_3: IntoColumn = "bid_size_3",
    bid_size_4: IntoColumn = "bid_size_4",
    bid_size_5: IntoColumn = "bid_size_5",
    ask_size_2: IntoColumn = "ask_size_2",
    ask_size_3: IntoColumn = "ask_size_3",
    ask_size_4: IntoColumn = "ask_size_4",
    ask_size_5: IntoColumn = "ask_size_5",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Size queued on five levels over their distance from the mid, relative to it, and the asks' lead over the bids."""
def sign_autocorrelation(
    lags: int = 1,
    window: int = 100,
    *,
    price: IntoColumn = "price",
    side: IntoColumn = "side",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Autocorrelation of the signs of the last trades; undefined (NaN) while all have one sign."""
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
def supertrend(
    timeperiod: int = 10,
    multiplier: float = 3.0,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Band of so many average true ranges that trails the price, and whether it rises (1) or falls (−1)."""
def t3(
    timeperiod: int = 5,
    vfactor: float = 0.7,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Tillson's T3: six exponential means combined for little lag."""
def tema(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Triple exponential moving average."""
def tick_rule(
    *,
    price: IntoColumn = "price",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Sign of the last trade by the tick test: against the last different price."""
def trade_imbalance(
    window: int = 100,
    *,
    price: IntoColumn = "price",
    size: IntoColumn = "size",
    side: IntoColumn = "side",
    bid: IntoColumn = "bid",
    ask: IntoColumn = "ask",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Size bought less size sold over the last trades, relative to all size traded; from −1 to 1."""
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
def trima(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Triangular moving average."""
def trix(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """One-row rate of change of a triple exponential average, in percent."""
def tsf(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Time series forecast: the least-squares line through the last n closes, one row ahead."""
def tsi(
    firstperiod: int = 25,
    secondperiod: int = 13,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """True strength index: the twice smoothed change over the twice smoothed size of it; 0 on constant prices."""
def two_scale_variance(
    scale: int = 5,
    window: int = 100,
    *,
    price: IntoColumn = "price",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Two-scale realised variance: mean over sparse grids, less what noise adds to it, by the finest grid."""
def typprice(
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Mean of high, low and close."""
def ulcer(
    timeperiod: int = 14,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Ulcer index: root mean square, over n rows, of the drawdown in percent from each row's highest close of n rows."""
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
def var(
    timeperiod: int = 5,
    nbdev: float = 1.0,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Population variance of the close; ``nbdev`` is TA-Lib's and has no effect."""
def variance_ratio(
    q: int = 5,
    window: int = 100,
    *,
    price: IntoColumn = "price",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Variance ratio: variance of returns over q trades, over q times that of returns over one; 1 for a random walk."""
def vhf(
    timeperiod: int = 28,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Vertical horizontal filter: range of n closes over the path of n changes; 0 without change."""
def vidya(
    timeperiod: int = 12,
    cmoperiod: int = 9,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Variable index dynamic average: an EMA whose factor is scaled by |CMO|; it begins at the first close."""
def volume_confirmed_momentum(
    timeperiod: int = 20,
    *,
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Return over n rows, times the net share of volume that traded in its direction; 0 if less than half did."""
def volume_z(
    timeperiod: int = 20,
    *,
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Volume in population standard deviations from its mean; undefined where volume is constant."""
def vortex(
    timeperiod: int = 14,
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Vortex indicator: movement up and down over true range; 0 without range."""
def vpin(
    bucket_size: float = 1000.0,
    window: int = 50,
    *,
    price: IntoColumn = "price",
    size: IntoColumn = "size",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """VPIN: share of volume that is one-sided, over the last buckets of equal volume, classified in bulk."""
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
def vwma(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    volume: IntoColumn = "volume",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Moving average of the close weighted by volume; undefined without volume."""
def wad(
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Williams' accumulation and distribution of price, summed since the first row."""
def wclprice(
    *,
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Mean of high, low and twice the close."""
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
def yang_zhang(
    timeperiod: int = 20,
    *,
    open: IntoColumn = "open",
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Volatility of one row with its gap: √(Var(ln O/C₋₁) + k·Var(ln C/O) + (1−k)·RS²), sample variances."""
def zlema(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Zero-lag exponential moving average: of the close carried on by its change over (n − 1)/2 rows."""
def zscore(
    timeperiod: int = 30,
    *,
    close: IntoColumn = "close",
    split_ratio: IntoColumn | None = None,
    time: Time = ...,
) -> Feature:
    """Close in sample standard deviations from its mean; undefined where prices are constant."""
