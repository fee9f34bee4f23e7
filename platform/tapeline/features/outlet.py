"""Writes the statements that hand a plan's values out: in terms of the share of the day, the last known one where asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapeline.features.request import Hold
from tapeline.features.writer import Writer, literal, output
from tapeline.kernels.holding import HOLD_SLOTS, last_within


class Outlet:
    """Writes outputs into the section at hand.

    A held value is kept as the plan computes it, on the basis of the first share, and scaled when it is handed out: one
    from before a split comes out in terms of the shares after it.

    Parameters
    ----------
    writer
        Of the program.
    units, holds
        For each output.
    """

    def __init__(self, writer: Writer, units: Sequence[str], holds: Sequence[Hold | None]) -> None:
        self._writer = writer
        self._units = units
        self._holds = holds
        self._written: set[int] = set()

    @property
    def support(self) -> tuple[Any, ...]:
        """Compiled functions that the statements call."""
        return (last_within,) if any(self._holds) else ()

    def is_written(self, position: int) -> bool:
        """Whether an output was written, as an age is together with its value."""
        return position in self._written

    def write(self, position: int, name: str) -> None:
        """Write an output from the name that holds its value, and with it every other output of the same held value."""
        hold = self._holds[position]
        if hold is None:
            self._hand_out(position, name)
            return
        held, age = f"held_{position}", f"age_{position}"
        at = self._writer.take(HOLD_SLOTS)
        self._writer.line(
            f"{held}, {age} = last_within(state, {literal(at)}, event_us, {name}, {literal(hold.limit_us)})"
        )
        for other, shown in enumerate(self._holds):
            if shown is not None and shown.column == hold.column:
                self._hand_out(other, age if shown.is_age else held)

    def _hand_out(self, position: int, name: str) -> None:
        value = output(name, self._units[position], dividends=self._writer.dividends)
        self._writer.line(f"out[{position}] = {value}")
        self._written.add(position)
