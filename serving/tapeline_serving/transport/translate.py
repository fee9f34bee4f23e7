"""Messages into requests and predictions into messages; every check of a request that needs no store."""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tapeline.core.errors import (
    EmptyDataError,
    InvalidDataError,
    LimitError,
    OutOfOrderError,
    ParameterError,
    UnknownNameError,
)
from tapeline.core.settings import Settings
from tapeline.core.timestamps import format_us
from tapeline_client._generated import serving_pb2 as pb

from tapeline_serving.engine.types import (
    SYMBOL_LENGTH_MAX,
    EntityRequest,
    LiveBars,
    LiveTrades,
    PredictRequest,
    is_symbol,
)


def read_entities(
    message: pb.PredictRequest, settings: Settings, model: str, version: str, now_us: int
) -> PredictRequest:
    """A request without its rows: all that must be known to ask the store; :func:`read_rows` adds them.

    Parameters
    ----------
    message
        As it came.
    settings
        Holds the limits.
    model, version
        What this server serves.
    now_us
        The clock at the request.

    Raises
    ------
    EmptyDataError, ParameterError, InvalidDataError, UnknownNameError, LimitError
        See the service's comment in the proto file.
    """
    if message.model and message.model not in (model, f"{model}@{version}"):
        raise UnknownNameError("model", message.model, [model, f"{model}@{version}"], where="model of the request")
    count = len(message.entities)
    if count == 0:
        raise EmptyDataError("the request names no entities", remedy="Name at least one symbol")
    if count > settings.entities_per_request_max:
        raise LimitError(
            f"the request names {count} entities; at most {settings.entities_per_request_max} are allowed",
            remedy="Split it, or raise entities_per_request_max",
        )
    entities = []
    seen: set[str] = set()
    live_rows = 0
    for position, entity in enumerate(message.entities):
        symbol = entity.symbol
        if not symbol:
            raise ParameterError("an entity has no symbol", where=f"entity {position}")
        if not is_symbol(symbol):
            raise ParameterError(
                f"{symbol[:SYMBOL_LENGTH_MAX]!r} is no symbol",
                where=f"entity {position}",
                remedy=f"Give at most {SYMBOL_LENGTH_MAX} printable characters",
            )
        if symbol in seen:
            raise ParameterError(f"{symbol} is named twice", remedy="Name each entity once a request")
        seen.add(symbol)
        has_bars = has_trades = False
        if entity.HasField("bars"):
            live_rows += (rows := len(entity.bars.event_us))
            has_bars = rows > 0 or _refuse_columns(entity.bars, f"bars of {symbol}")
        if entity.HasField("trades"):
            live_rows += (rows := len(entity.trades.event_us))
            has_trades = rows > 0 or _refuse_columns(entity.trades, f"trades of {symbol}")
        if live_rows > settings.live_rows_per_request_max:
            raise LimitError(
                f"the request carries more than {settings.live_rows_per_request_max} live rows",
                where=f"entity {symbol}",
                remedy="Send only what came after the stored state, or raise live_rows_per_request_max",
            )
        entities.append(EntityRequest(symbol, has_bars, has_trades))
    return PredictRequest(
        entities,
        _request_id(message.request_id),
        now_us,
        time.time_ns() // 1_000,
        may_be_retry=bool(message.request_id),
    )


def read_rows(message: pb.PredictRequest, request: PredictRequest) -> None:
    """Check the live rows of a message and put them into the request of :func:`read_entities`.

    Raises
    ------
    InvalidDataError, OutOfOrderError, ParameterError
        If a row is impossible, out of order, or lies after the request's clock.
    """
    for entity, received in zip(request.entities, message.entities, strict=True):
        if entity.has_bars:
            entity.bars = _read_bars(received.bars, entity.symbol, request.now_us)
        if entity.has_trades:
            entity.trades = _read_trades(received.trades, entity.symbol, request.now_us)


def _request_id(text: str) -> str:
    if not text:
        # Names a request, guards nothing: the generator of the process does, and spares a system call.
        return str(uuid.UUID(int=random.getrandbits(128), version=4))
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ParameterError(
            f"{text!r} is not a UUID", where="request_id", remedy="Leave it out to have one made"
        ) from None


def _read_bars(message: pb.BarColumns, symbol: str, now_us: int) -> LiveBars:
    event_us = list(message.event_us)
    count = len(event_us)
    columns = {
        "open": list(message.open),
        "high": list(message.high),
        "low": list(message.low),
        "close": list(message.close),
        "volume": list(message.volume),
    }
    available_us = list(message.available_us) or [now_us] * count
    bars = LiveBars(
        list(message.start_us) or None,
        event_us,
        available_us,
        columns,
        list(message.split_ratio) or None,
        list(message.dividend) or None,
    )
    for name, column in columns.items():
        if len(column) != count:
            raise _uneven(name, len(column), count, f"bars of {symbol}")
    optional = {"start_us": bars.start_us, "split_ratio": bars.split_ratio, "dividend": bars.dividend}
    for name, given in (("available_us", available_us), *optional.items()):
        if given is not None and len(given) != count:
            raise _uneven(name, len(given), count, f"bars of {symbol}")
    latest_us = max(event_us)
    if latest_us > now_us:
        _refuse_future(latest_us, 0, now_us, f"bars of {symbol}")
    for row in range(count):
        fault = _fault(row, bars)
        if fault:
            raise InvalidDataError(fault, where=f"bars of {symbol}, row {row}")
        if row and event_us[row] <= event_us[row - 1]:
            raise OutOfOrderError("time going backwards", where=f"bars of {symbol}, row {row}")
    latest_us = max(available_us)
    if latest_us > now_us:
        _refuse_future(0, latest_us, now_us, f"bars of {symbol}")
    return bars


def _fault(row: int, bars: LiveBars) -> str | None:
    """What is wrong with a bar in itself.

    Comparisons with NaN are false: a missing price is the kernels' business, a contradiction is not.
    """
    columns = bars.columns
    open_, high, low, close = columns["open"][row], columns["high"][row], columns["low"][row], columns["close"][row]
    if high < low:
        return "a bar with high < low"
    if open_ > high or open_ < low:
        return "a bar whose open lies outside low..high"
    if close > high or close < low:
        return "a bar whose close lies outside low..high"
    if bars.split_ratio is not None and (bars.split_ratio[row] <= 0.0 or bars.split_ratio[row] == math.inf):
        return "an impossible split_ratio"
    if bars.dividend is not None and (bars.dividend[row] < 0.0 or bars.dividend[row] == math.inf):
        return "an impossible dividend"
    if bars.start_us is not None and bars.start_us[row] >= bars.event_us[row]:
        return "a bar that ends before it starts"
    if bars.available_us[row] < bars.event_us[row]:
        return "a row available before it happened"
    return None


def _read_trades(message: pb.TradeColumns, symbol: str, now_us: int) -> LiveTrades:
    where = f"trades of {symbol}"
    event_us = _times(message.event_us)
    available_us = _available(message.available_us, event_us, where, now_us)
    sequence = _times(message.sequence)
    _same_length(sequence, event_us, "sequence", where)
    price = _numbers(message.price, event_us, "price", where)
    size = _numbers(message.size, event_us, "size", where)
    _refuse_where(event_us[1:] < event_us[:-1], "time going backwards", where, OutOfOrderError, first=1)
    _refuse_where(sequence[1:] <= sequence[:-1], "a sequence going backwards", where, OutOfOrderError, first=1)
    return LiveTrades(event_us, available_us, sequence, price, size)


def _times(column: Sequence[int]) -> NDArray[np.int64]:
    return np.fromiter(column, dtype=np.int64, count=len(column))


def _numbers(column: Sequence[float], event_us: NDArray[np.int64], name: str, where: str) -> NDArray[np.float64]:
    values = np.fromiter(column, dtype=np.float64, count=len(column))
    _same_length(values, event_us, name, where)
    return values


def _available(column: Sequence[int], event_us: NDArray[np.int64], where: str, now_us: int) -> NDArray[np.int64]:
    if not column:
        _refuse_future(int(event_us.max()), now_us, now_us, where)
        return np.full(len(event_us), now_us, dtype=np.int64)
    available_us = _times(column)
    _same_length(available_us, event_us, "available_us", where)
    _refuse_where(available_us < event_us, "a row available before it happened", where)
    _refuse_future(int(event_us.max()), int(available_us.max()), now_us, where)
    return available_us


def _refuse_future(event_us: int, available_us: int, now_us: int, where: str) -> None:
    """Refuse rows whose latest event or available time is later than the clock."""
    if event_us > now_us:
        raise ParameterError(
            f"a row at {format_us(event_us)} lies after the server's clock, {format_us(now_us)}",
            where=where,
            remedy="Send rows once they have happened; compare the clocks of client and server",
        )
    if available_us > now_us:
        raise ParameterError(
            f"a row available at {format_us(available_us)} lies after the server's clock, {format_us(now_us)}",
            where=where,
            remedy="Send rows once they are available",
        )


def _same_length(column: NDArray[np.generic], event_us: NDArray[np.int64], name: str, where: str) -> None:
    if len(column) != len(event_us):
        raise _uneven(name, len(column), len(event_us), where)


def _uneven(name: str, length: int, count: int, where: str) -> InvalidDataError:
    return InvalidDataError(
        f"column {name} has {length} rows where event_us has {count}",
        where=where,
        remedy="Give every column as many rows as there are events",
    )


def _refuse_columns(message: pb.BarColumns | pb.TradeColumns, where: str) -> bool:
    """Refuse columns without times; ``False``, for there are no rows then."""
    if message.ListFields():
        raise InvalidDataError("column event_us is missing", where=where, remedy="Give every row its event time")
    return False


def _refuse_where(
    faulty: NDArray[np.bool_],
    what: str,
    where: str,
    error: type[InvalidDataError | OutOfOrderError] = InvalidDataError,
    first: int = 0,
) -> None:
    if faulty.any():
        raise error(what, where=f"{where}, row {int(np.argmax(faulty)) + first}")
