"""Holds a block of rows against its rules: those that every view has, and the view's own pandera schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeline.core.errors import ConfigurationError
from tapeline.core.timestamps import format_us
from tapeline.features.bounds import SLACK, Bounds
from tapeline.features.versions import Flags, Floats, Integers
from tapeline.quality.block import UNKNOWN_WARM_UP, Block, key_order, new_keys
from tapeline.quality.definition import BUILT_IN, Action, QualityDefinition, rule_name

EXAMPLES_MAX = 5
"""Rows, and features, of a broken rule that are told by name."""
_ROWS_AT_ONCE = 32_768


@dataclass(frozen=True)
class Fault:
    """A rule that some rows break.

    Attributes
    ----------
    rule
        Its name.
    meaning
        How they break it.
    action
        What that does.
    rows
        How many rows break it.
    features
        Feature → cells, the worst first, at most ``EXAMPLES_MAX``; empty where it is not about one feature.
    examples
        A few of the rows, in words.
    """

    rule: str
    meaning: str
    action: Action
    rows: int
    features: dict[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "examples": list(self.examples)}


@dataclass(frozen=True)
class Findings:
    """What a look at a block found.

    Attributes
    ----------
    faults
        Broken rules; those that are off are left out.
    invalid
        bool (N,): the row breaks a rule other than ``gap``.
    cells_expected, cells_filled
        Cells that should have a value, and that have one.
    """

    faults: tuple[Fault, ...]
    invalid: Flags
    cells_expected: int
    cells_filled: int


def examine(block: Block, definition: QualityDefinition, now_us: int) -> Findings:
    """Hold a block against its rules.

    Parameters
    ----------
    block
        The rows.
    definition
        The rules.
    now_us
        No event may be later.

    Raises
    ------
    ConfigurationError
        If the view's own rules do not fit its rows, or a check of them fails to run.
    """
    cells = _Cells(block)
    broken: dict[str, Flags] = {
        **cells.rows,
        "available_before_event": block.available_us < block.event_us,
        "event_in_future": block.event_us > now_us,
        "key_twice": _twice(block),
    }
    invalid = np.zeros(len(block), dtype=np.bool_)
    faults = []
    for rule, rows in broken.items():
        action = definition.action_of(rule)
        if action == "off" or not rows.any():
            continue
        if rule != "gap":  # completeness counts those; some features are undefined at times, and rightly missing
            invalid |= rows
        faults.append(cells.fault(rule, action, rows))
    for rule, rows, column in _own(block, definition):
        action = definition.action_of(rule)
        if action != "off":
            invalid |= rows
            faults.append(_own_fault(block, rule, action, rows, column))
    return Findings(tuple(faults), invalid, cells.expected, cells.filled)


class _Cells:
    """The rules about single values, counted in slices of rows so that they need little memory."""

    def __init__(self, block: Block) -> None:
        names = ("finite", "range", "early_value", "gap")
        self.block = block
        self.rows = {name: np.zeros(len(block), dtype=np.bool_) for name in names}
        self.counts = {name: np.zeros(len(block.expected.columns), dtype=np.int64) for name in names}
        self.expected = self.filled = 0
        room = (
            SLACK * np.maximum(np.abs(block.expected.lowest), 1.0),
            SLACK * np.maximum(np.abs(block.expected.highest), 1.0),
        )
        self._lowest, self._highest = block.expected.lowest - room[0], block.expected.highest + room[1]
        self._bounded = np.flatnonzero(np.isfinite(block.expected.lowest) | np.isfinite(block.expected.highest))
        self._begun = _begun(block)
        self._longest = 0 if block.expected.warm_up is None else int(block.expected.warm_up.max(initial=0))
        for start in range(0, len(block), _ROWS_AT_ONCE):
            self._look(slice(start, start + _ROWS_AT_ONCE))

    def _look(self, part: slice) -> None:
        expected = self.block.expected
        values = self.block.values[part]
        missing = np.isnan(values)
        self._note("finite", part, np.isinf(values))
        bounded = values[:, self._bounded]
        outside = (bounded < self._lowest[self._bounded]) | (bounded > self._highest[self._bounded])
        if outside.any():
            self.rows["range"][part] = outside.any(axis=1)
            self.counts["range"][self._bounded] += outside.sum(axis=0)
        live = ~self.block.retracted[part]
        if expected.warm_up is None:
            self.expected += int(live.sum()) * values.shape[1]
            self.filled += int((~missing[live]).sum())
            return
        number = self.block.row_number[part]
        due = (number - self.block.withdrawn[self.block.entity[part]])[:, None] >= expected.warm_up[None, :]
        due &= live[:, None]
        if self._begun is not None:
            due[:, expected.warm_up == UNKNOWN_WARM_UP] = self._begun[part] & live[:, None]
        gap = due & missing
        count = int(due.sum())
        self.expected += count
        self.filled += count - int(gap.sum())
        self._note("gap", part, gap)
        young = np.flatnonzero(live & (number < self._longest))
        early = ~missing[young] & (number[young, None] < expected.warm_up[None, :])
        if early.any():
            rows = np.zeros(len(number), dtype=np.bool_)
            rows[young] = early.any(axis=1)
            self.rows["early_value"][part] = rows
            self.counts["early_value"] += early.sum(axis=0)

    def _note(self, rule: str, part: slice, cells: Flags) -> None:
        if cells.any():
            self.rows[rule][part] = cells.any(axis=1)
            self.counts[rule] += cells.sum(axis=0)

    def fault(self, rule: str, action: Action, rows: Flags) -> Fault:
        """A broken rule in words."""
        features: dict[str, int] = {}
        if rule in self.counts:
            counts = self.counts[rule]
            worst = np.argsort(-counts, kind="stable")[:EXAMPLES_MAX]
            features = {self.block.expected.columns[place]: int(counts[place]) for place in worst if counts[place]}
        examples = tuple(self._example(rule, int(row)) for row in np.flatnonzero(rows)[:EXAMPLES_MAX])
        return Fault(rule, BUILT_IN[rule], action, int(rows.sum()), features, examples)

    def _example(self, rule: str, row: int) -> str:
        block, expected = self.block, self.block.expected
        where = describe_row(block, row)
        if rule not in self.counts:
            return f"{where}, available {format_us(int(block.available_us[row]))}"
        values = block.values[row]
        bad = {
            "finite": np.isinf(values),
            "range": (values < self._lowest) | (values > self._highest),
            "early_value": ~np.isnan(values),
            "gap": np.isnan(values),
        }[rule]
        if rule in {"early_value", "gap"} and expected.warm_up is not None:
            number = int(block.row_number[row])
            held = int(block.withdrawn[block.entity[row]]) if rule == "gap" else 0
            due = number - held >= expected.warm_up
            if self._begun is not None:
                due[expected.warm_up == UNKNOWN_WARM_UP] = self._begun[row]
            bad &= due if rule == "gap" else ~due
        place = int(np.flatnonzero(bad)[0])
        name = expected.columns[place]
        if rule == "range":
            bounds = Bounds(float(expected.lowest[place]), float(expected.highest[place]))
            return f"{where}: {name} is {values[place]:g}, it can be {bounds.text}"
        if rule == "finite":
            return f"{where}: {name} is {values[place]:g}"
        assert expected.warm_up is not None
        due_from = int(expected.warm_up[place])
        since = f"row {int(block.row_number[row])} of its entity" + (
            "" if due_from < 0 else f", due from row {due_from} on"
        )
        return f"{where}: {name} is {'missing' if rule == 'gap' else format(values[place], 'g')} in {since}"


def describe_row(block: Block, row: int) -> str:
    """Entity and time of a row."""
    return f"{block.names[int(block.entity[row])]} at {format_us(int(block.event_us[row]))}"


def _begun(block: Block) -> Flags | None:
    """Of columns with unknown warm-up, whether an earlier row of the entity in this block had a value; None if there are none."""
    warm_up = block.expected.warm_up
    if warm_up is None or not (warm_up == UNKNOWN_WARM_UP).any():
        return None
    present = ~np.isnan(block.values[:, warm_up == UNKNOWN_WARM_UP])
    order = key_order(block.entity, block.event_us, block.sequence, block.available_us)
    begun = np.zeros_like(present)
    starts = np.flatnonzero(new_keys(order, block.entity))
    for part in np.split(order, starts[1:]):
        begun[part] = np.logical_or.accumulate(present[part], axis=0)
    return begun


def _twice(block: Block) -> Flags:
    parts: Sequence[Integers] = (block.entity, block.event_us, block.sequence, block.available_us)
    order = key_order(*parts)
    again = np.zeros(len(block), dtype=np.bool_)
    again[order] = ~new_keys(order, *parts)
    return again


def _own(block: Block, definition: QualityDefinition) -> list[tuple[str, Flags, str | None]]:
    """Of the view's own rules, those that rows break, which rows, and of which column."""
    schema = definition.schema
    if schema is None:
        return []
    import pandera.polars as pa
    from pandera.errors import SchemaErrors

    everything = bool(schema.checks) or bool(schema.strict)
    frame = block.frame(list(block.expected.columns if everything else schema.columns))
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        found: dict[str, tuple[Flags, str | None]] = {}
        for error in errors.schema_errors:
            if error.check_output is None:
                raise ConfigurationError(
                    f"its quality rules cannot be tried: {_first_line(error)}",
                    where=f"view {block.label}",
                    remedy=f"Correct the schema; the view's columns are {', '.join(frame.columns[:8])} …",
                ) from error
            column = error.schema.name if isinstance(error.schema, pa.Column) else None
            rows = ~error.check_output.to_series().fill_null(True).to_numpy()
            name = rule_name(error.check, column)
            found[name] = (rows | found[name][0] if name in found else rows, column)
        return [(name, rows, column) for name, (rows, column) in found.items() if rows.any()]
    return []


def _own_fault(block: Block, rule: str, action: Action, rows: Flags, column: str | None) -> Fault:
    values: Floats | None = None
    if column in block.expected.columns:
        values = block.values[:, block.expected.columns.index(str(column))]
    examples = []
    for row in np.flatnonzero(rows)[:EXAMPLES_MAX]:
        said = "" if values is None else f": {column} is {values[row]:g}"
        examples.append(describe_row(block, int(row)) + said)
    features = {} if column is None else {column: int(rows.sum())}
    return Fault(rule, "it breaks the view's own rule", action, int(rows.sum()), features, tuple(examples))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300]
