"""What each feature over ticks must be after a given history: by orderflow_metrics where it has it, else the formula."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import orderflow_metrics as om
from orderflow_metrics.bookdepth import order_book_slope
from orderflow_metrics.efficiency import autocorrelation
from orderflow_metrics.jumps import bipower_variation, jump_variation, relative_jump_variation
from orderflow_metrics.kernel import realized_kernel
from orderflow_metrics.ofi import ofi as om_ofi
from orderflow_metrics.orderbook import Level
from orderflow_metrics.tsrv import two_scale_realized_variance
from orderflow_metrics.vrtest import variance_ratio_test
from scipy.special import ndtr
from scipy.stats import linregress

from tests.microstructure.tape import Tape, Trade

Values = tuple[float, ...]
Parameters = dict[str, float]
Reference = Callable[[Tape, Parameters], Values]

NAN = math.nan


def _quote(tape: Tape) -> om.L1Quote | None:
    book = tape.books[-1]
    if not 0 < book["bid"] <= book["ask"]:
        return None
    return om.L1Quote(book["bid"], book["bid_size"], book["ask"], book["ask_size"])


def _quoted(tape: Tape, _: Parameters) -> Values:
    quote = _quote(tape)
    return (om.relative_spread_bps(quote) / 1e4 if quote else NAN,)


def _queue(tape: Tape, _: Parameters) -> Values:
    book = tape.books[-1]
    return (om.depth_imbalance(om.L1Quote(1.0, book["bid_size"], 2.0, book["ask_size"])),)


def _weighted_mid(tape: Tape, _: Parameters) -> Values:
    quote = _quote(tape)
    return (om.weighted_mid(quote) if quote else NAN,)


def _side(sign: float) -> str:
    return "buy" if sign > 0 else "sell"


def _effective(tape: Tape, _: Parameters) -> Values:
    trade = tape.trades[-1]
    return (om.effective_spread(trade.price, trade.mid, _side(trade.sign)) if trade.sign else NAN,)


def _completed(tape: Tape, parameters: Parameters) -> list[tuple[Trade, float]]:
    """Trades that the last completing row completed, with the mid at their horizon."""
    horizon = 1e6 * parameters["horizon_s"]
    groups: dict[int, list[tuple[Trade, float]]] = {}
    for trade in tape.trades:
        if trade.sign == 0 or math.isnan(trade.mid):
            continue
        later = bisect_right(tape.times, trade.time + horizon)  # the first row after it
        if later < len(tape.times):
            groups.setdefault(later, []).append((trade, tape.mid(later - 1)))
    return groups[max(groups)] if groups else []


def _realized(tape: Tape, parameters: Parameters) -> Values:
    values = [om.realized_spread(t.price, later, _side(t.sign)) for t, later in _completed(tape, parameters)]
    return (_known_mean(values),)


def _impact(tape: Tape, parameters: Parameters) -> Values:
    values = [om.price_impact(t.mid, later, _side(t.sign)) for t, later in _completed(tape, parameters)]
    return (_known_mean(values),)


def _known_mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else NAN


def _prices(tape: Tape, count: float) -> list[float]:
    return [trade.price for trade in tape.trades[-int(count) :]]


def _returns(tape: Tape, parameters: Parameters) -> list[float]:
    return np.diff(np.log(_prices(tape, parameters["window"] + 1))).tolist()


def _sign(rule: Callable[[Trade, dict[str, float], float], float]) -> Reference:
    """The last trade's sign by a rule on the trade, the book that it met and the tick test."""

    def reference(tape: Tape, _: Parameters) -> Values:
        trade = tape.trades[-1]
        book = tape.books[trade.row - 1] if trade.row else {"bid": NAN, "ask": NAN}
        return (rule(trade, book, float(om.tick_rule([t.price for t in tape.trades])[-1])),)

    return reference


def _lee_ready(trade: Trade, book: dict[str, float], tick: float) -> float:
    if math.isnan(trade.mid) or trade.price == trade.mid:
        return tick
    return 1.0 if trade.price > trade.mid else -1.0


def _emo(trade: Trade, book: dict[str, float], tick: float) -> float:
    if not math.isnan(trade.mid) and book["bid"] < book["ask"]:
        return {book["ask"]: 1.0, book["bid"]: -1.0}.get(trade.price, tick)
    return tick


def _clnv(trade: Trade, book: dict[str, float], tick: float) -> float:
    if math.isnan(trade.mid) or book["bid"] == book["ask"]:
        return tick
    place = (trade.price - book["bid"]) / (book["ask"] - book["bid"])
    if 0.7 <= place <= 1.0:
        return 1.0
    return -1.0 if 0.0 <= place <= 0.3 else tick


def _ofi(tape: Tape, parameters: Parameters) -> Values:
    return (om_ofi(tape.quotes(1, int(parameters["window"]) + 1)),)


def _mlofi(tape: Tape, parameters: Parameters) -> Values:
    return tuple(om_ofi(tape.quotes(level, int(parameters["window"]) + 1)) for level in range(1, 6))


def _trade_imbalance(tape: Tape, parameters: Parameters) -> Values:
    trades = tape.trades[-int(parameters["window"]) :]
    if any(trade.sign == 0 for trade in trades):
        return (sum(t.sign * t.size for t in trades) / sum(t.size for t in trades),)
    return (om.trade_imbalance([om.Trade(t.price, t.size, _side(t.sign)) for t in trades]),)


def _sign_autocorrelation(tape: Tape, parameters: Parameters) -> Values:
    signs = [trade.sign for trade in tape.trades[-int(parameters["window"]) :]]
    if len(set(signs)) == 1:
        return (NAN,)
    return (autocorrelation(signs, int(parameters["lags"])),)


def _kyle(tape: Tape, parameters: Parameters) -> Values:
    trades = tape.trades[-int(parameters["window"]) - 1 :]
    flows = [om.FlowObservation(now.price - before.price, now.sign * now.size) for before, now in pairwise(trades)]
    return (om.kyle_lambda(flows),)


def _hasbrouck(tape: Tape, parameters: Parameters) -> Values:
    width = 1e6 * parameters["interval_s"]
    closes: dict[int, float] = {}
    flows: dict[int, float] = {}
    for trade in tape.trades:
        number = math.floor(trade.time / width)
        closes[number] = trade.price
        flows[number] = flows.get(number, 0.0) + trade.sign * math.sqrt(trade.price * trade.size)
    numbers = sorted(closes)
    if numbers[-1] == math.floor(tape.times[-1] / width):
        numbers.pop()  # not over yet
    window = int(parameters["window"])
    if len(numbers) <= window:
        return (NAN,)
    numbers = numbers[-window - 1 :]
    changes = np.diff(np.log([closes[number] for number in numbers]))
    if np.ptp([flows[number] for number in numbers[1:]]) == 0.0:
        return (NAN,)
    return (float(linregress([flows[number] for number in numbers[1:]], changes).slope),)


def _buckets(tape: Tape, parameters: Parameters) -> list[float]:
    """Price changes of the last buckets, all of them of one size."""
    trades = [om.Trade(t.price, t.size, "buy") for t in tape.trades]
    changes = [bucket.price_change for bucket in om.bucket_by_volume(trades, parameters["bucket_size"])]
    return changes[-int(parameters["window"]) :]


def _bought(changes: list[float]) -> np.ndarray:
    deviation = float(np.std(changes))
    return ndtr(np.array(changes) / deviation) if deviation > 0 else np.full(len(changes), 0.5)


def _vpin(tape: Tape, parameters: Parameters) -> Values:
    changes = _buckets(tape, parameters)
    if len(changes) < parameters["window"]:
        return (NAN,)
    ours = float(np.mean(np.abs(2 * _bought(changes) - 1)))
    theirs = om.vpin([om.VolumeBucket(change, parameters["bucket_size"]) for change in changes])
    assert math.isclose(ours, theirs, abs_tol=5e-7)  # its Φ is a polynomial, good to 1.5e-7
    return (ours,)


def _bvc(tape: Tape, parameters: Parameters) -> Values:
    changes = _buckets(tape, parameters)
    if len(changes) < parameters["window"]:
        return (NAN, NAN)
    share = float(_bought(changes)[-1])
    return (share * parameters["bucket_size"], (1 - share) * parameters["bucket_size"])


def _sides(tape: Tape) -> tuple[list[Level], list[Level]]:
    """Both sides of the book after the last row, up to the first level without a price."""
    book, sides = tape.books[-1], []
    for side in ("bid", "ask"):
        levels = []
        for suffix in ("", "_2", "_3", "_4", "_5"):
            if not book[f"{side}{suffix}"] > 0:
                break
            levels.append(Level(book[f"{side}{suffix}"], book[f"{side}_size{suffix}"]))
        sides.append(levels)
    return sides[0], sides[1]


def _book_slope(tape: Tape, _: Parameters) -> Values:
    """Equations 1 to 3 of the paper, with v the logarithm of the accumulated volume."""
    mid, slopes = tape.mid(-1), []
    for levels in _sides(tape):
        if math.isnan(mid) or not levels:
            return (NAN, NAN, NAN)
        p = [mid, *(level.price for level in levels)]
        v = np.log(np.cumsum([level.size for level in levels]))
        terms = [v[0] / abs(p[1] / p[0] - 1)]
        terms += [(v[k] / v[k - 1] - 1) / abs(p[k + 1] / p[k] - 1) for k in range(1, len(levels))]
        slopes.append(float(np.mean(terms)))
    return (sum(slopes) / 2, slopes[0], slopes[1])


def _scaled_depth(tape: Tape, _: Parameters) -> Values:
    mid = tape.mid(-1)
    bids, asks = _sides(tape)
    if math.isnan(mid):
        return (NAN, NAN, NAN)
    bought, sold = (sum(level.size for level in levels) for levels in (bids, asks))
    return (order_book_slope(bids, mid), order_book_slope(asks, mid), 2 * (sold - bought) / (sold + bought))


def _of_returns(*measures: Callable[[list[float]], float]) -> Reference:
    return lambda tape, parameters: tuple(measure(_returns(tape, parameters)) for measure in measures)


REFERENCES: dict[str, Reference] = {
    "QUOTED_SPREAD": _quoted,
    "QUEUE_IMBALANCE": _queue,
    "WEIGHTED_MID": _weighted_mid,
    "EFFECTIVE_SPREAD": _effective,
    "REALIZED_SPREAD": _realized,
    "PRICE_IMPACT": _impact,
    "ROLL_SPREAD": lambda tape, p: (om.roll_spread(_prices(tape, p["window"] + 1)),),
    "TICK_RULE": _sign(lambda trade, book, tick: tick),
    "LEE_READY": _sign(_lee_ready),
    "EMO": _sign(_emo),
    "CLNV": _sign(_clnv),
    "OFI": _ofi,
    "MLOFI": _mlofi,
    "TRADE_IMBALANCE": _trade_imbalance,
    "SIGN_AUTOCORRELATION": _sign_autocorrelation,
    "KYLE_LAMBDA": _kyle,
    "HASBROUCK_LAMBDA": _hasbrouck,
    "VPIN": _vpin,
    "BVC": _bvc,
    "BOOK_SLOPE": _book_slope,
    "SCALED_DEPTH": _scaled_depth,
    "REALIZED_VARIANCE": _of_returns(lambda r: sum(x * x for x in r)),
    "BIPOWER_VARIATION": _of_returns(bipower_variation),
    "JUMP_VARIATION": _of_returns(jump_variation, relative_jump_variation),
    "TWO_SCALE_VARIANCE": lambda tape, p: (two_scale_realized_variance(_returns(tape, p), int(p["scale"])),),
    "REALIZED_KERNEL": lambda tape, p: (realized_kernel(_returns(tape, p), int(p["lags"])),),
    "VARIANCE_RATIO": lambda tape, p: (variance_ratio_test(_returns(tape, p), int(p["q"])).ratio,),
}
