"""Feature plans: many indicators fused into one compiled function over one flat state per entity."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import ParameterError
from tapeline.core.hashing import sha256_json
from tapeline.features import state as states_
from tapeline.features.checks import check_batch, expect, positions, refuse_batch, refuse_update, shape_of
from tapeline.features.codegen import Program, generate
from tapeline.features.frame_code import frames_of
from tapeline.features.kernel_source import kernel_sources, normalised
from tapeline.features.request import FeatureRequest, Hold
from tapeline.features.timeframes import TimeFrame
from tapeline.kernels import cache_folder, driver
from tapeline.kernels.cache import private_folder
from tapeline.kernels.rolling import push

ENGINE_VERSION = 2
"""Raised when a change of the engine changes results without changing any kernel's or program's source."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Compiled = Callable[..., int]


class FeaturePlan:
    """Indicators compiled into one function; batch, stream and request all run that function.

    Build one with :meth:`of`. Compilation happens at first use, or with :meth:`compile`, and is kept on disk.

    Attributes
    ----------
    requests
        What was asked for.
    inputs
        Row columns in order: those needed of open, high, low, close, volume, session; then always ``split_ratio``:
        1, or r on the first row after an r-for-1 split. Prices are as traded and volumes in shares as traded. Before
        ``split_ratio`` stand, where they are needed, the ends of frame bars that follow sessions (``end_week``; see
        :mod:`tapeline.features.timeframes`) and ``dividend_ratio``.
    outputs, units, warm_up
        For each output: column name, unit, and the number of rows up to and with the first that has a value.
    frames
        For each output the time frame whose bars it is computed from, or None. Its warm-up counts bars of that frame:
        how many base rows these take is not known before.
    holds
        For each output what it shows of a last known value (see :class:`tapeline.features.request.Hold`), or None.
    moments
        Whether a row's time is a moment of its own, as of bars that a trade closes, rather than the end of an interval
        that excludes it. It decides which frame bar a row belongs to.
    dividends
        Whether prices are adjusted for dividends: then ``dividend_ratio`` is C/(C − D) on the first row after a cash
        dividend D with the close C before it, else 1. Volumes are not adjusted for dividends.
    state_size
        float64 slots of a state.
    hash
        SHA-256 (hexadecimal) over the program, the syntax trees of all kernels it uses, inputs, outputs and units.

    Notes
    -----
    A row in which a feature's own inputs are missing or impossible (NaN, infinite, price ≤ 0, volume < 0) gives NaN for
    that feature, and the feature goes on as if the row had not been. Before its warm-up a feature is NaN.

    Thread safety: a plan may be shared; a state may not be updated from two threads at once.
    """

    def __init__(
        self,
        requests: Sequence[FeatureRequest],
        *,
        moments: bool = False,
        dividends: bool = False,
        keep: Sequence[str] | None = None,
    ) -> None:
        self.requests = tuple(requests)
        self.moments = moments
        self.dividends = dividends
        if not self.requests:
            raise ParameterError("a feature plan needs at least one request", remedy="See: tapeline features list")
        expressions = [e for r in self.requests for e in r.expressions]
        self.outputs: tuple[str, ...] = tuple(name for r in self.requests for name in r.columns)
        self.units: tuple[str, ...] = tuple(unit for r in self.requests for unit in r.units)
        self.warm_up: tuple[int, ...] = tuple(e.operation.warm_up for e in expressions)
        self.frames: tuple[TimeFrame | None, ...] = tuple(r.frame for r in self.requests for _ in r.columns)
        self.holds: tuple[Hold | None, ...] = tuple(hold for r in self.requests for hold in r.holds)
        twice = sorted({name for name in self.outputs if self.outputs.count(name) > 1})
        if twice:
            raise ParameterError(f"outputs asked for twice: {', '.join(twice)}", remedy="Name each feature once")
        if keep is not None:
            kept = positions(keep, self.outputs)
            self.requests = tuple(r for r in self.requests if not set(r.columns).isdisjoint(keep))
            expressions = [expressions[position] for position in kept]
            self.outputs = tuple(keep)
            self.units = tuple(self.units[position] for position in kept)
            self.warm_up = tuple(self.warm_up[position] for position in kept)
            self.frames = tuple(self.frames[position] for position in kept)
            self.holds = tuple(self.holds[position] for position in kept)
        parts = frames_of(expressions, self.frames)
        self._program: Program = generate(
            expressions, self.units, parts, holds=self.holds, moments=moments, dividends=dividends
        )
        self.inputs: tuple[str, ...] = self._program.inputs
        self.state_size: int = self._program.state_size
        self._sizes = (self.state_size, len(self.inputs), len(self.outputs))

    @classmethod
    def of(cls, requests: Sequence[FeatureRequest], *, moments: bool = False, dividends: bool = False) -> FeaturePlan:
        """The plan of the requested indicators, outputs in the order of the requests.

        ``moments`` and ``dividends`` are described with the class.

        Raises
        ------
        UnknownNameError, ParameterError
            If an indicator or parameter does not exist, a value is impossible, or an output is asked for twice.
        """
        return cls(requests, moments=moments, dividends=dividends)

    def cut(self, outputs: Sequence[str]) -> FeaturePlan:
        """The plan of some of the outputs, in the given order: what only the others need is neither computed nor held.

        Its values equal this plan's bit for bit. It has a hash and states of its own: this plan's states do not fit it.

        Raises
        ------
        UnknownNameError, ParameterError
            If an output does not exist, none is given, or one is given twice.
        """
        return FeaturePlan(self.requests, moments=self.moments, dividends=self.dividends, keep=outputs)

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hexadecimal) of the plan's meaning."""
        return sha256_json(
            {
                "engine": ENGINE_VERSION,
                "program": normalised(ast.parse(self._program.source)),
                "kernels": kernel_sources(
                    [
                        *(driver.check, driver.begin, push),
                        *(p.function for p in self._program.primitives),
                        *self._program.support,
                    ]
                ),
                "inputs": self.inputs,
                "outputs": self.outputs,
                "units": self.units,
                "requests": [request.definition() for request in self.requests],
            }
        )

    def new_state(self) -> Floats:
        """A fresh state, float64 of shape (state_size,)."""
        state = np.zeros(self.state_size)
        state[4] = 1.0  # cumulative split factor
        if self.dividends:
            state[5] = 1.0
        return state

    def position(self, state: Floats) -> states_.StatePosition:
        """Where a state stands: rows seen, last event and sequence, running available time, split factor."""
        return states_.position_of(state)

    def save(self, state: Floats) -> bytes:
        """A state as bytes, bit for bit.

        Raises
        ------
        ParameterError
            If the array is no state of this plan.
        """
        if state.shape != (self.state_size,) or state.dtype != np.float64:
            raise ParameterError(
                f"a state of this plan is float64 of shape ({self.state_size},)", where=shape_of(state)
            )
        return states_.encode(state, self.hash)

    def restore(self, data: bytes, *, verify: bool = True) -> Floats:
        """The state of :meth:`save`'s bytes.

        Parameters
        ----------
        data
            The bytes.
        verify
            Whether to check their checksum; not needed where a checksum around them was checked.

        Raises
        ------
        IntegrityError
            If they are damaged or belong to another plan.
        """
        return states_.decode(data, self.hash, self.state_size, verify=verify)

    def compile(self) -> FeaturePlan:
        """Compile everything now, or load what was compiled before; returns the plan."""
        for name in driver.SIGNATURES:
            _compiled(name)
        _ = self.handle
        return self

    def update(self, state: Floats, event_us: int, sequence: int, available_us: int, row: Floats, out: Floats) -> None:
        """Take one row: advance the state in place and write the row's features.

        Parameters
        ----------
        state
            float64 (state_size,), changed in place; untouched if an error is raised.
        event_us, sequence
            The row's place in time; it must come after the state's.
        available_us
            When the row could have been known; the state keeps the running maximum.
        row
            float64 (len(inputs),).
        out
            float64 (len(outputs),), overwritten.

        Raises
        ------
        ContinuityError
            If the row does not come after the state's last one.
        ParameterError
            If an array has a wrong dtype, shape or layout, or cannot be written.
        InvalidDataError
            If ``split_ratio`` is not positive and finite.
        """
        try:
            code = self._update(self.handle, state, event_us, sequence, available_us, row, out)
        except TypeError:
            code = self._update_reshaped(state, event_us, sequence, available_us, row, out)
        if code:
            refuse_update(code, self._sizes, state, event_us, sequence, row, out)

    def batch(
        self,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        rows: Floats,
        offsets: Integers,
        states: Floats | None = None,
        *,
        out: Floats | None = None,
        available_out: Integers | None = None,
        threads: int | None = None,
    ) -> tuple[Floats, Floats]:
        """Run :meth:`update` over the rows of many entities, in parallel over entities.

        Parameters
        ----------
        event_us, sequence, available_us
            int64 (N,), strictly increasing in (event, sequence) within each entity.
        rows
            float64 (N, len(inputs)).
        offsets
            int64 (E+1,): entity e has rows offsets[e] to offsets[e+1].
        states
            float64 (E, state_size) to continue from, left as they are; None: fresh ones.
        out
            float64 (N, len(outputs)) to write into; None: a new array.
        available_out
            int64 (N,) to write each row's available time into: the maximum so far over the entity's inputs.
        threads
            How many to use; None: one for each processor. The result does not depend on it.

        Returns
        -------
        tuple
            Features (N, len(outputs)), and the states as they end (E, state_size).

        Raises
        ------
        OutOfOrderError
            If rows of an entity are not in order.
        ContinuityError
            If an entity's first row does not come after the state given for it.
        ParameterError, InvalidDataError
            As in :meth:`update`.
        """
        event_us, sequence, available_us, offsets = (
            np.ascontiguousarray(array, dtype=np.int64) for array in (event_us, sequence, available_us, offsets)
        )
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        check_batch(event_us, sequence, available_us, rows, offsets, len(self.inputs))
        entities = len(offsets) - 1
        if states is None:
            ends = np.tile(self.new_state(), (entities, 1))
        else:
            ends = np.array(states, dtype=np.float64, order="C")
            expect(ends, "states", (entities, self.state_size))
        features = np.empty((len(rows), len(self.outputs))) if out is None else out
        available = np.empty(len(rows), dtype=np.int64) if available_out is None else available_out
        expect(features, "out", (len(rows), len(self.outputs)))
        expect(available, "available_out", (len(rows),))

        compiled, handle = _compiled("batch"), self.handle  # before the threads race for them

        def run(part: tuple[int, int]) -> int:
            return compiled(
                handle, event_us, sequence, available_us, rows, offsets, *part, ends, features, available, self._work()
            )

        parts = _parts(offsets, threads or os.cpu_count() or 1)
        if len(parts) == 1:
            codes = [run(parts[0])]
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                codes = list(pool.map(run, parts))
        for code in codes:
            if code:
                refuse_batch(code, event_us, sequence, rows, offsets)
        return features, ends

    def continue_some(
        self,
        states: Floats,
        places: Integers,
        offsets: Integers,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        rows: Floats,
    ) -> tuple[Floats, Integers]:
        """:meth:`batch` in place, for a stream: the next rows of some of the entities whose states lie in one matrix.

        Parameters
        ----------
        states
            float64 (S, state_size); those named are changed in place. After an error they are of no use.
        places
            int64 (E,): rows of ``states``, each once. The caller answers for that.
        offsets
            int64 (E+1,): the entity at ``places[e]`` has rows offsets[e] to offsets[e+1].
        event_us, sequence, available_us, rows
            As of :meth:`batch`, of matching dtype and contiguous.

        Returns
        -------
        tuple
            Features (N, len(outputs)), and available times int64 (N,).

        Raises
        ------
        OutOfOrderError, ContinuityError, ParameterError, InvalidDataError
            As in :meth:`batch`.
        """
        count = len(event_us)
        # For a few events at a time the checks of `batch` would cost more than the rows.
        if (
            rows.shape != (count, len(self.inputs))
            or not len(sequence) == len(available_us) == count == offsets[-1]
            or len(offsets) != len(places) + 1
            or states.shape[1] != self.state_size
        ):
            raise ParameterError("rows, offsets and places of a stream do not fit each other or the states")
        features, available = np.empty((len(rows), len(self.outputs))), np.empty(len(rows), dtype=np.int64)
        code = _compiled("scattered")(
            self.handle,
            event_us,
            sequence,
            available_us,
            rows,
            offsets,
            places,
            states,
            features,
            available,
            self._work(),
        )
        if code:
            refuse_batch(code, event_us, sequence, rows, offsets)
        return features, available

    def update_many(
        self,
        states: Floats,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        rows: Floats,
        out: Floats,
    ) -> None:
        """One row of each of many entities in one compiled call: a cross-section. Equal to as many :meth:`update`, bit for bit.

        Parameters
        ----------
        states
            float64 (S, state_size), each changed in place; all untouched if an error is raised.
        event_us, sequence, available_us
            int64 (S,): each row's place in time, which must come after its state's, and when it could have been known.
        rows
            float64 (S, len(inputs)).
        out
            float64 (S, len(outputs)), overwritten.

        Raises
        ------
        ContinuityError
            If a row does not come after its state's last one; the message names the entity.
        ParameterError
            If an array has a wrong dtype, shape or layout, or cannot be written.
        InvalidDataError
            If a ``split_ratio`` is not positive and finite.
        """
        count = len(states)
        for array, name, shape in (
            (states, "states", (count, self.state_size)),
            (rows, "rows", (count, len(self.inputs))),
            (out, "out", (count, len(self.outputs))),
            (event_us, "event_us", (count,)),
            (sequence, "sequence", (count,)),
            (available_us, "available_us", (count,)),
        ):
            expect(array, name, shape)
        if not (states.flags.writeable and out.flags.writeable):
            raise ParameterError("states and out must be writable")
        across = _compiled("across")
        code = across(self.handle, event_us, sequence, available_us, rows, states, out, self._work())
        if code:
            refuse_batch(code, event_us, sequence, rows, np.arange(count + 1, dtype=np.int64))

    def _work(self) -> Floats:
        """Room for what the sections of a program hand on within a block of rows; its contents never matter."""
        return np.empty((driver.BLOCK_ROWS, self._program.work_size))

    @cached_property
    def handle(self) -> int:
        """The compiled program, for :func:`tapeline.kernels.driver.update` called from other compiled code.

        An address that holds for as long as the plan lives. That function is :meth:`update`, but returns a code: 0, done;
        else nothing was changed: 1, an array has a wrong size; 2, the row does not come after the state; 3 or 4,
        ``split_ratio`` or ``dividend_ratio`` is not positive and finite.
        """
        return int(self._layout.ctypes.data)

    @cached_property
    def _layout(self) -> Integers:
        """What :mod:`tapeline.kernels.driver` must know of the program; its sections' machine code lives as long as the module."""
        layout = np.empty(driver.LAYOUT_HEADER + self._program.sections, dtype=np.int64)
        layout[driver.STATE_SIZE] = self.state_size
        layout[driver.ROW_SIZE] = len(self.inputs)
        layout[driver.OUT_SIZE] = len(self.outputs)
        layout[driver.WORK_SIZE] = self._program.work_size
        layout[driver.DIVIDENDS] = self.dividends
        layout[driver.SECTIONS] = self._program.sections
        for number in range(self._program.sections):
            layout[driver.LAYOUT_HEADER + number] = getattr(self._module, f"section_{number}").address
        return layout

    @cached_property
    def _update(self) -> Compiled:
        return _compiled("update")

    @cached_property
    def _module(self) -> ModuleType:
        """The generated module, loaded from its private file; numba keeps its machine code beside it.

        The file is named by its very text as well: the hash is of its meaning, and leaves out how it is compiled.
        """
        name = f"tapeline_plan_{self.hash[:32]}_{sha256_json(self._program.source)[:8]}"
        folder = private_folder(cache_folder() / name)
        file = folder / "program.py"
        if not file.is_file():
            _write(folder / "plan.json", json.dumps([r.definition() for r in self.requests], indent=1))
            _write(file, self._program.source)
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ParameterError("the generated program cannot be imported", where=str(file))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # numba looks a cached function's module up by name
        spec.loader.exec_module(module)
        return module

    def _update_reshaped(
        self, state: Floats, event_us: int, sequence: int, available_us: int, row: Floats, out: Floats
    ) -> int:
        """The same for a row that needs copying, such as a read-only view; state and out must fit as they are."""
        for name, array in (("state", state), ("out", out)):
            if (
                not isinstance(array, np.ndarray)
                or array.dtype != np.float64
                or array.ndim != 1
                or not array.flags.c_contiguous
                or not array.flags.writeable
            ):
                raise ParameterError(f"{name} must be a writable, contiguous, one-dimensional float64 array")
        try:
            copied = np.array(row, dtype=np.float64, order="C")
            if copied.ndim != 1:
                raise ParameterError("row must be one-dimensional", where=shape_of(copied))
            return self._update(self.handle, state, int(event_us), int(sequence), int(available_us), copied, out)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"a row must be numbers: {error}") from None


@cache
def _compiled(name: str) -> Compiled:
    """A function of the driver, compiled or loaded now: for one kind of arguments and no others."""
    dispatcher: Any = getattr(driver, name)
    dispatcher.compile(driver.SIGNATURES[name])
    dispatcher.disable_compile()
    function: Compiled = dispatcher
    return function


def _parts(offsets: Integers, threads: int) -> list[tuple[int, int]]:
    """Cut entities into at most ``threads`` runs of about equally many rows."""
    entities = len(offsets) - 1
    goals = offsets[-1] * np.arange(1, threads) // threads
    cuts = [0, *np.searchsorted(offsets[:-1], goals).tolist(), entities]
    return [(first, last) for first, last in itertools.pairwise(cuts) if first < last] or [(0, entities)]


def _write(file: Path, text: str) -> None:
    """Write a file whole: another process sees all of it or nothing."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    Path(temporary).replace(file)
