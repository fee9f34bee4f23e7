"""What a primitive is: a compiled step with a known state size, history need and delay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numba import njit

from tapeline.core.errors import ParameterError

Count = int | Callable[..., int]
"""A number, or a function that gives it from the step's constants."""


def count_of(count: Count, constants: Sequence[object]) -> int:
    """The number for given constants."""
    return count if isinstance(count, int) else count(*constants)


@dataclass(frozen=True)
class Primitive:
    """A compiled step and what a plan must know to place it.

    A step is called as ``step([state, at,] [ring, capacity, newest per input,] *inputs, *constants)``: the first pair
    if it has state slots or reads history, the triples if it reads history. Three rules hold for every step:

    * a state of zeros is a fresh one;
    * if any input is NaN, all results are NaN and the state stays as it was;
    * it never changes a history ring, which belongs to the series.

    Parameters
    ----------
    function
        The numba dispatcher.
    outputs
        How many values it returns (a tuple if more than one).
    slots
        Number of float64 state slots, from the constants.
    history
        How many past values of each input it reads besides the newest one, from the constants; None if it reads none.
    delay
        How many further valid rows it needs, after its inputs' first, before its first value; from the constants.
    """

    function: Any
    outputs: int
    slots: Count
    history: Count | None
    delay: Count

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.function.py_func.__name__)

    @property
    def module(self) -> str:
        """The module that generated code imports it from."""
        return str(self.function.py_func.__module__)


_PRIMITIVES: dict[Any, Primitive] = {}


def primitive(
    *,
    outputs: int = 1,
    slots: Count = 0,
    history: Count | None = None,
    delay: Count = 0,
) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function as a primitive; see :class:`Primitive`. Strict IEEE arithmetic: no fastmath, x/0 is not raised."""

    def register(function: Callable[..., Any]) -> Any:
        compiled = _compiled(function, forceinline=True)
        _PRIMITIVES[compiled] = Primitive(compiled, outputs, slots, history, delay)
        return compiled

    return register


def apart(function: Callable[..., Any]) -> Any:
    """Compile a helper of steps that begins with :func:`tapeline.kernels.memory.keep_apart`; numba hands options that are not given on to callees."""
    return _compiled(function, forceinline=False)


def _compiled(function: Callable[..., Any], *, forceinline: bool) -> Any:
    # The folder of cached kernels is named by the sources of this package; of a user's step nobody knows what it calls.
    own = function.__module__.startswith("tapeline.kernels.")
    return njit(  # type: ignore[call-overload]
        error_model="numpy", cache=own, forceinline=forceinline, no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)


def primitive_of(function: Any) -> Primitive:
    """The primitive registered for a compiled function.

    Raises
    ------
    ParameterError
        If the function was never registered.
    """
    try:
        return _PRIMITIVES[function]
    except (KeyError, TypeError):
        raise ParameterError(
            f"{getattr(function, '__name__', function)!r} is no step",
            remedy="Decorate it with @primitive, saying its outputs, slots, history and delay",
        ) from None
