"""The compiled cross-section over a universe: batch and stream run the same step on one flat state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import ContinuityError, IntegrityError, LineageError, OutOfOrderError, ParameterError
from tapeline.core.hashing import sha256_json
from tapeline.core.timestamps import format_us
from tapeline.cross_section.specification import KINDS, REFERENCES, WINDOWED, CrossFeature
from tapeline.cross_section.universe import Universe
from tapeline.features.checks import expect_offsets
from tapeline.features.kernel_source import kernel_sources
from tapeline.features.state import decode, encode
from tapeline.kernels import cross_section as kernel

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class CrossSection:
    """Features across the listings of a universe.

    Parameters
    ----------
    features
        Features, or their texts; see :meth:`CrossFeature.parse`.
    universe
        The listings; a row names its listing by its place there.

    Attributes
    ----------
    outputs
        Column name of each feature.
    needs_groups, needs_index
        Whether rows must have groups, moments an index value.
    slots, state_size
        float64 slots of a listing, and of the whole state.
    hash
        SHA-256 (hexadecimal) over the features and the kernels' sources; the universe is no part of it.

    Raises
    ------
    UnknownNameError, ParameterError
        If a feature is malformed or asked for twice, or there is none.

    Notes
    -----
    A value that is NaN or infinite takes no part and gets NaN; a beta or correlation counts only the moments at which
    its row had a value and its reference was known. Results do not depend on listings without a row.

    Thread safety: may be shared; a state may not be updated from two threads at once.
    """

    def __init__(self, features: Sequence[CrossFeature | str], universe: Universe) -> None:
        self.features = tuple(CrossFeature.parse(one) if isinstance(one, str) else one for one in features)
        self.universe = universe
        self.outputs: tuple[str, ...] = tuple(one.column for one in self.features)
        if not self.features or len(set(self.outputs)) < len(self.outputs):
            raise ParameterError("a cross-section needs features, each once", where=", ".join(self.outputs))
        self.needs_groups = any(one.reference == "group" for one in self.features)
        self.needs_index = any(one.reference == "index" for one in self.features)
        pairs = list(dict.fromkeys((one.reference, one.window) for one in self.features if one.kind in WINDOWED))
        sizes = [kernel.pair_size(window) for _, window in pairs]
        starts = np.cumsum([0, *sizes])
        self.slots = int(starts[-1])
        self.state_size = kernel.HEADER_SIZE + self.slots * len(universe)
        self._pairs = np.array(
            [(REFERENCES[reference], window, start) for (reference, window), start in zip(pairs, starts, strict=False)],
            dtype=np.int64,
        ).reshape(-1, 3)
        self._features = np.array(
            [
                (KINDS[f.kind], REFERENCES[f.reference], pairs.index((f.reference, f.window)) if f.window else 0)
                for f in self.features
            ],
            dtype=np.int64,
        )
        self._thresholds = np.array([f.threshold for f in self.features])

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hexadecimal) of what is computed."""
        return sha256_json({"kernels": kernel_sources([kernel.update]), "outputs": self.outputs})

    @cached_property
    def _state_hash(self) -> str:
        listings = [[one.symbol, one.valid_from_us] for one in self.universe.listings]
        return sha256_json({"cross_section": self.hash, "listings": listings})

    def new_state(self) -> Floats:
        """A fresh state, float64 of shape (state_size,)."""
        return np.zeros(self.state_size)

    def save(self, state: Floats) -> bytes:
        """A state as bytes, bit for bit.

        Raises
        ------
        ParameterError
            If the array is no state of this cross-section.
        """
        self._expect_state(state)
        return encode(state, self._state_hash)

    def restore(self, data: bytes) -> Floats:
        """The state of :meth:`save`'s bytes.

        Raises
        ------
        IntegrityError
            If they are damaged, or belong to other features or another universe.
        """
        try:
            return decode(data, self._state_hash, self.state_size)
        except IntegrityError as error:
            raise IntegrityError(
                f"a saved cross-section cannot be used: {error.what}",
                where=error.where,
                remedy="Restore it with its own features and universe, then carry it over with CrossSection.carry",
            ) from None

    def carry(self, state: Floats, earlier: CrossSection) -> Floats:
        """A state of this universe that goes on from one of an earlier universe; a new listing begins fresh.

        Raises
        ------
        LineageError
            If the other cross-section computes something else.
        ParameterError
            If the state is none of the other's.
        """
        if earlier.hash != self.hash:
            raise LineageError("a state of other features cannot be carried over", where=", ".join(earlier.outputs))
        earlier._expect_state(state)
        carried = self.new_state()
        carried[: kernel.HEADER_SIZE] = state[: kernel.HEADER_SIZE]
        places = {(one.symbol, one.valid_from_us): place for place, one in enumerate(earlier.universe.listings)}
        old = state[kernel.HEADER_SIZE :].reshape(len(earlier.universe), self.slots)
        new = carried[kernel.HEADER_SIZE :].reshape(len(self.universe), self.slots)
        for place, one in enumerate(self.universe.listings):
            before = places.get((one.symbol, one.valid_from_us))
            if before is not None:
                new[place] = old[before]
        return carried

    def update(
        self,
        state: Floats,
        event_us: int,
        columns: Integers,
        values: Floats,
        groups: Integers | None = None,
        index: float = np.nan,
        *,
        available_us: int | None = None,
    ) -> Floats:
        """Take one moment: advance the state in place and give its rows' features.

        Parameters
        ----------
        state
            float64 (state_size,), changed in place; untouched if an error is raised.
        event_us
            The moment, µs since the epoch; after the state's last one.
        columns, values
            The rows in rising order of their columns: int64 and float64 (rows,).
        groups
            int64 (rows,), 0 to 65,535, −1 for none; None: no row has one.
        index
            The index's value; NaN: none.
        available_us
            When all of the moment could have been known; None: at the moment. The state keeps the running maximum.

        Returns
        -------
        NDArray[np.float64]
            Shape (rows, features).

        Raises
        ------
        ContinuityError
            If the moment does not come after the state's last one.
        ParameterError
            If arrays do not fit each other, or columns do not rise or exist.
        """
        self._expect_state(state)
        rows, numbers, kinds = self._rows(columns, values, groups)
        out = np.empty((len(rows), len(self.outputs)))
        known = event_us if available_us is None else available_us
        code = kernel.update(
            state, event_us, known, rows, numbers, kinds, float(index),
            self._features, self._thresholds, self._pairs, self.slots, out,
        )  # fmt: skip
        if code == kernel.NOT_AFTER:
            raise ContinuityError(
                "a moment does not come after the state it is to continue",
                where=f"moment {format_us(event_us)}",
                remedy="Send each moment once, with all its rows, in the order of time",
            )
        if code:
            _refuse(code, event_us)
        return out

    def batch(
        self,
        event_us: Integers,
        offsets: Integers,
        columns: Integers,
        values: Floats,
        groups: Integers | None = None,
        index: Floats | None = None,
        *,
        available_us: Integers | None = None,
        state: Floats | None = None,
    ) -> tuple[Floats, Integers, Floats]:
        """Run the step over many moments.

        Parameters
        ----------
        event_us, available_us, index
            Of each moment, as in :meth:`update`; shape (moments,), times rising.
        offsets
            int64 (moments + 1,): moment m has rows offsets[m] to offsets[m+1].
        columns, values, groups
            Of each row, as in :meth:`update`; shape (rows,).
        state
            To continue from, left as it is; None: a fresh one.

        Returns
        -------
        tuple
            Features (rows, features); when each moment's were available (moments,); the state as it ends.

        Raises
        ------
        OutOfOrderError
            If moments are not in the order of time, or do not come after the state.
        ParameterError
            As in :meth:`update`.
        """
        end = self.new_state() if state is None else np.array(state, dtype=np.float64)
        self._expect_state(end)
        event_us, offsets = (np.ascontiguousarray(array, dtype=np.int64) for array in (event_us, offsets))
        rows, numbers, kinds = self._rows(columns, values, groups)
        moments = len(event_us)
        known = event_us if available_us is None else np.ascontiguousarray(available_us, dtype=np.int64)
        series = np.full(moments, np.nan) if index is None else np.ascontiguousarray(index, dtype=np.float64)
        if known.shape != (moments,) or series.shape != (moments,) or offsets.shape != (moments + 1,):
            raise ParameterError(
                "available_us and index need one entry per moment, offsets one more", where=f"{moments} moments"
            )
        expect_offsets(offsets, len(rows))
        out = np.empty((len(rows), len(self.outputs)))
        available = np.empty(moments, dtype=np.int64)
        code = kernel.batch(
            end, event_us, known, offsets, rows, numbers, kinds, series,
            self._features, self._thresholds, self._pairs, self.slots, out, available,
        )  # fmt: skip
        if code % 8 == kernel.NOT_AFTER:
            raise OutOfOrderError(
                "moments are not in order, or do not come after the state",
                where=f"moment {code // 8}, at {format_us(int(event_us[code // 8]))}",
            )
        if code:
            _refuse(code % 8, int(event_us[code // 8]))
        return out, available, end

    def _rows(self, columns: Integers, values: Floats, groups: Integers | None) -> tuple[Integers, Floats, Integers]:
        rows = np.ascontiguousarray(columns, dtype=np.int64)
        numbers = np.ascontiguousarray(values, dtype=np.float64)
        kinds = np.full(rows.shape, -1, np.int64) if groups is None else np.ascontiguousarray(groups, dtype=np.int64)
        if rows.ndim != 1 or numbers.shape != rows.shape or kinds.shape != rows.shape:
            raise ParameterError(
                "columns, values and groups must be one-dimensional and equally long",
                where=f"shapes {rows.shape}, {numbers.shape}, {kinds.shape}",
            )
        return rows, numbers, kinds

    def _expect_state(self, state: Floats) -> None:
        if state.shape != (self.state_size,) or state.dtype != np.float64 or not state.flags.c_contiguous:
            raise ParameterError(
                f"a state of this cross-section is float64 of shape ({self.state_size},)",
                where=f"given: {state.dtype} of shape {state.shape}",
            )


def _refuse(code: int, event_us: int) -> NoReturn:
    where = f"moment {format_us(event_us)}"
    if code == kernel.BAD_COLUMN:
        raise ParameterError("columns must rise, each once, and lie within the universe", where=where)
    raise ParameterError(f"a group must be −1 or 0 to {kernel.GROUPS_MAX - 1}", where=where)
