"""Order books with a plan's contract: update, batch, save, restore; their rows are the ticks that feature plans take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import ContinuityError, InvalidDataError, LimitError, OutOfOrderError, ParameterError
from tapeline.core.hashing import sha256_json
from tapeline.core.timestamps import format_us
from tapeline.features import state as states_
from tapeline.features.checks import expect_offsets
from tapeline.features.kernel_source import kernel_sources
from tapeline.kernels.book import events, l2, l3, orders
from tapeline.kernels.book.sides import count_at, side_at

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CAPACITY_MAX = 4_194_304


@dataclass(frozen=True)
class BookCounters:
    """What a book has repaired or refused so far.

    Parameters
    ----------
    crossed_levels, crossed_orders, crossed_size
        Dropped because a newer order or level crossed or locked them: levels, the orders on them, their size.
    withheld
        Orders that crossed the other side when they came.
    gaps, missed
        Jumps in dense sequence numbers, and the numbers left out.
    unknown
        Events about an order or level that the book does not hold.
    duplicate
        Added orders whose id was there already; the newer one counts.
    excess
        Cancels and executions of more than was left.
    refused
        Events with an impossible price or size.
    """

    crossed_levels: int
    crossed_orders: int
    crossed_size: float
    withheld: int
    gaps: int
    missed: int
    unknown: int
    duplicate: int
    excess: int
    refused: int


class _Book(ABC):
    """What both kinds of book share; ``_parameters`` are the compiled step's, between state and event."""

    _kernel: Any
    _batch_kernel: Any
    _parameters: tuple[int, ...]
    _event_columns: tuple[str, ...]

    def __init__(self, levels: int, depth: int, dense: bool) -> None:
        _expect_between("levels", levels, 1, CAPACITY_MAX)
        _expect_between("depth", depth, 1, events.DEPTH_MAX)
        self.levels = levels
        self.depth = depth
        self.dense = dense
        self.outputs: tuple[str, ...] = events.tick_columns(depth)
        self.state_size: int = self._size()

    @abstractmethod
    def _size(self) -> int:
        """int64 words of a state, for parameters that were checked."""

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hexadecimal) of the book's meaning: kernels and parameters."""
        return sha256_json({"kernels": kernel_sources([self._kernel]), "parameters": self._parameters})

    def new_state(self) -> Integers:
        """A fresh state, int64 of shape (state_size,)."""
        return np.zeros(self.state_size, dtype=np.int64)

    def position(self, state: Integers) -> states_.StatePosition:
        """Where a state stands: events seen, last event and sequence, running available time."""
        rows, event_us, sequence, available_us = (int(word) for word in state[:4])
        return states_.StatePosition(rows, event_us, sequence, available_us, 1.0)

    def save(self, state: Integers) -> bytes:
        """A state as bytes, bit for bit.

        Raises
        ------
        ParameterError
            If the array is no state of this book.
        """
        if state.shape != (self.state_size,) or state.dtype != np.int64:
            raise ParameterError(
                f"a state of this book is int64 of shape ({self.state_size},)", where=f"{state.dtype} {state.shape}"
            )
        return states_.encode(state.view(np.float64), self.hash)

    def restore(self, data: bytes) -> Integers:
        """The state of :meth:`save`'s bytes.

        Raises
        ------
        IntegrityError
            If they are damaged or belong to a book of other parameters or kernels.
        """
        return states_.decode(data, self.hash, self.state_size).view(np.int64)

    def counters(self, state: Integers) -> BookCounters:
        """What the book has repaired or refused so far."""
        size = float(state[events.CROSSED_SIZE : events.CROSSED_SIZE + 1].view(np.float64)[0])
        rest = (int(word) for word in state[events.WITHHELD : events.REFUSED + 1])
        return BookCounters(int(state[events.CROSSED_LEVELS]), int(state[events.CROSSED_ORDERS]), size, *rest)

    def is_shown(self, state: Integers) -> bool:
        """Whether rows have quotes: not inside a snapshot, nor after a gap until the next one."""
        return not state[events.LOADING] and not state[events.STALE]

    def _side(self, state: Integers, side: int) -> tuple[Floats, Integers]:
        """Prices and values of a side, best first."""
        if side not in {1, -1}:
            raise ParameterError(f"side {side} is neither 1 (bid) nor −1 (ask)")
        at, count = side_at(side, self.levels), int(state[count_at(side)])
        prices = side * state[at : at + count].view(np.float64)[::-1]
        return prices, state[at + self.levels : at + self.levels + count][::-1]

    def _run_update(self, state: Integers, event: tuple[Any, ...], out: Floats) -> None:
        for name, array, dtype in (("state", state, np.int64), ("out", out, np.float64)):
            if array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous or not array.flags.writeable:
                raise ParameterError(f"{name} must be a writable, contiguous, one-dimensional {np.dtype(dtype)} array")
        code = self._kernel(state, *self._parameters, *event, out)
        if code == events.WRONG_SIZE:
            self._refuse(code, f"given: state {state.size}, out {out.size}", first=True)
        if code:
            where = f"event at {format_us(int(event[0]))} #{int(event[1])}"
            last = self.position(state)
            self._refuse(code, f"{where}, state at {format_us(last.event_us)} #{last.sequence}", first=True)

    def _run_batch(
        self, columns: tuple[Any, ...], offsets: Integers, states: Integers | None
    ) -> tuple[Floats, Integers, Integers]:
        whole = len(columns) - 2  # all but price and size
        arrays = tuple(
            np.ascontiguousarray(column, dtype=np.int64 if place < whole else np.float64)
            for place, column in enumerate(columns)
        )
        offsets = np.ascontiguousarray(offsets, dtype=np.int64)
        count = len(arrays[0])
        for name, array in zip(self._event_columns, arrays, strict=True):
            if array.shape != (count,):
                raise ParameterError(f"{name} must have shape ({count},)", where=f"given: {array.shape}")
        expect_offsets(offsets, count, "events")
        shape = (len(offsets) - 1, self.state_size)
        ends = np.zeros(shape, np.int64) if states is None else np.array(states, dtype=np.int64, order="C")
        if ends.shape != shape:
            raise ParameterError(f"states must have shape {shape}", where=f"given: {ends.shape}")
        out, available = np.empty((count, len(self.outputs))), np.empty(count, dtype=np.int64)
        code, row = self._batch_kernel(ends, *self._parameters, *arrays, offsets, out, available)
        if code:
            entity = int(np.searchsorted(offsets, row, side="right")) - 1
            where = f"entity {entity}, event {row}, at {format_us(int(arrays[0][row]))} #{int(arrays[1][row])}"
            self._refuse(code, where, first=row == offsets[entity])
        return out, available, ends

    def _refuse(self, code: int, where: str, *, first: bool) -> NoReturn:
        if code == events.NOT_AFTER:
            kind = ContinuityError if first else OutOfOrderError
            raise kind("an event does not come after the one before", where=where, remedy="Sort by time and sequence")
        if code == events.NO_EVENT:
            raise InvalidDataError("this book knows no such action or side", where=where)
        if code == events.ORDERS_FULL:
            raise LimitError("the book has no room for another order", where=where, remedy="Give it more orders=")
        if code == events.LEVELS_FULL:
            raise LimitError("a side has no room for another level", where=where, remedy="Give it more levels=")
        raise ParameterError(f"sizes must be state {self.state_size}, out {len(self.outputs)}", where=where)


class OrderBook(_Book):
    """A book by order (L3): every order by its id, in the queue of its level.

    Parameters
    ----------
    orders, levels
        Room for orders, and for levels on each side. More of them is a LimitError, and the state stays as it was.
    depth
        Levels of the row on each side.
    patience_us
        How long (µs of event time) an order that crosses or locks the other side is withheld: one that trades is gone by
        then; else the older levels that it crosses are dropped with their orders. 0: they are dropped at once.
    dense
        Whether sequence numbers leave nothing out. Then a jump counts as a gap, and rows have no quotes from there to the
        next snapshot.

    Notes
    -----
    On the 314,057 BTC/USD events of ``ob-analytics`` plain replay is crossed or locked after nine events out of ten, for
    want of two deletions. A patience of 1 to 50 ms drops 2 or 3 orders, and 99 % of the trades are then at the quote
    before them; a patience of 0 drops 13,612 orders, because each order on its way to trade wipes out what lies up to its
    limit, and leaves 30 % there.

    Thread safety: a book may be shared; a state may not be updated from two threads at once.

    Raises
    ------
    ParameterError
        If a parameter is out of bounds.
    """

    _kernel = staticmethod(l3.l3_update)
    _batch_kernel = staticmethod(l3.l3_batch)
    _event_columns = ("event_us", "sequence", "available_us", "action", "order_id", "side", "price", "size")

    def __init__(
        self,
        orders: int = 16_384,
        levels: int = 4_096,
        depth: int = 5,
        *,
        patience_us: int = 10_000,
        dense: bool = True,
    ) -> None:
        _expect_between("orders", orders, 1, CAPACITY_MAX)
        _expect_between("patience_us", patience_us, 0, 86_400_000_000)
        self.orders = orders
        self.patience_us = patience_us
        super().__init__(levels, depth, dense)
        self._parameters = (orders, levels, depth, patience_us, dense)

    def _size(self) -> int:
        return int(orders.l3_size(self.orders, self.levels))

    def update(
        self,
        state: Integers,
        event_us: int,
        sequence: int,
        available_us: int,
        action: int,
        order_id: int,
        side: int,
        price: float,
        size: float,
        out: Floats,
    ) -> None:
        """Take one event; see :func:`tapeline.kernels.book.l3_update`.

        Raises
        ------
        ContinuityError
            If the event does not come after the state's last one.
        InvalidDataError
            If the action or side does not exist.
        LimitError
            If there is no room.
        ParameterError
            If an array has a wrong dtype, size or layout.
        """
        self._run_update(state, (event_us, sequence, available_us, action, order_id, side, price, size), out)

    def batch(
        self,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        action: Integers,
        order_id: Integers,
        side: Integers,
        price: Floats,
        size: Floats,
        offsets: Integers,
        states: Integers | None = None,
    ) -> tuple[Floats, Integers, Integers]:
        """Run :meth:`update` over the events of many entities.

        Parameters
        ----------
        event_us, sequence, available_us, action, order_id, side
            int64 (N,).
        price, size
            float64 (N,).
        offsets
            int64 (E+1,): entity e has events offsets[e] to offsets[e+1].
        states
            int64 (E, state_size) to continue from, left as they are; None: fresh ones.

        Returns
        -------
        tuple
            Rows (N, len(outputs)), their available times (N,), and the states as they end (E, state_size).

        Raises
        ------
        OutOfOrderError, ContinuityError, InvalidDataError, LimitError, ParameterError
            As in :meth:`update`; out of order if the events themselves are.
        """
        columns = (event_us, sequence, available_us, action, order_id, side, price, size)
        return self._run_batch(columns, offsets, states)

    def depth_of(self, state: Integers, side: int) -> tuple[Floats, Floats, Integers]:
        """Prices, sizes and numbers of orders of all levels of a side, best first; withheld orders are not among them."""
        prices, slots = self._side(state, side)
        at = np.array([orders.level_at(self.levels, int(slot)) for slot in slots], dtype=np.int64)
        return prices, state[at + orders.LEVEL_SIZE].view(np.float64), state[at + orders.LEVEL_COUNT]


class LevelBook(_Book):
    """A book by price level (L2): each event sets a level to a size.

    Parameters
    ----------
    levels, depth, dense
        As in :class:`OrderBook`. Levels that a newer one crosses or locks are dropped at once: a feed by level shows no
        order on its way to trade.

    Raises
    ------
    ParameterError
        If a parameter is out of bounds.
    """

    _kernel = staticmethod(l2.l2_update)
    _batch_kernel = staticmethod(l2.l2_batch)
    _event_columns = ("event_us", "sequence", "available_us", "action", "side", "price", "size")

    def __init__(self, levels: int = 4_096, depth: int = 5, *, dense: bool = True) -> None:
        super().__init__(levels, depth, dense)
        self._parameters = (levels, depth, dense)

    def _size(self) -> int:
        return int(l2.l2_size(self.levels))

    def update(
        self,
        state: Integers,
        event_us: int,
        sequence: int,
        available_us: int,
        action: int,
        side: int,
        price: float,
        size: float,
        out: Floats,
    ) -> None:
        """Take one event; see :func:`tapeline.kernels.book.l2_update`. Raises as :meth:`OrderBook.update`."""
        self._run_update(state, (event_us, sequence, available_us, action, side, price, size), out)

    def batch(
        self,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        action: Integers,
        side: Integers,
        price: Floats,
        size: Floats,
        offsets: Integers,
        states: Integers | None = None,
    ) -> tuple[Floats, Integers, Integers]:
        """Run :meth:`update` over the events of many entities; shapes, results and errors as :meth:`OrderBook.batch`."""
        return self._run_batch((event_us, sequence, available_us, action, side, price, size), offsets, states)

    def depth_of(self, state: Integers, side: int) -> tuple[Floats, Floats]:
        """Prices and sizes of all levels of a side, best first."""
        prices, sizes = self._side(state, side)
        return prices, np.ascontiguousarray(sizes).view(np.float64)


def _expect_between(name: str, value: int, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ParameterError(f"{name} {value!r} is not a whole number from {lowest} to {highest}")
