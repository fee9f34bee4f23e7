"""The battery of checks that every feature passes, for features of your own.

>>> from tapeline.features.testing import check_indicator
>>> [check.passed for check in check_indicator("RSI")][:3]
[True, True, True]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import FeatureCheckError
from tapeline.core.timestamps import MINUTE_US
from tapeline.features.leakage import find_leaks
from tapeline.features.plan import FeaturePlan
from tapeline.features.request import FeatureRequest
from tapeline.features.sample_rows import Columns, rows_of, sample_bars, sample_ticks
from tapeline.indicators import Indicator, indicator_named
from tapeline.indicators.expression import Constant
from tapeline.indicators.formula import formula
from tapeline.indicators.schema import COLUMNS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Reference = Callable[[Columns], Sequence[Floats]]

TOLERANCE = 1e-9
_TICKS_MIN = 20_000  # enough to fill fifty buckets of volume or of five minutes
_PRICES = tuple(name for name, column in COLUMNS.items() if column.split_power == 1)
_PRICE_POWER = {
    "price": 1.0, "price squared": 2.0, "price per share": 1.0,
    "money": 1.0, "per money": -1.0, "per root money": -0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """What one check found: ``detail`` says what is wrong, and is empty if it passed."""

    name: str
    detail: str

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.detail


def check_indicator(
    indicator: Indicator | str,
    *,
    parameters: Mapping[str, Constant] | None = None,
    columns: Columns | None = None,
    reference: Reference | None = None,
    memory: int | None = None,
) -> tuple[Check, ...]:
    """Check a feature as the built-in ones are checked; for use in a test.

    Parameters
    ----------
    indicator
        A feature or its name.
    parameters
        Others than the defaults.
    columns
        Row columns to check with, float64 (N,) each, without bad values; None: made-up bars or ticks, enough to be warm.
    reference
        The definition written independently: columns → an array (N,) for each output, NaN before the warm-up. Values must
        agree to 1e-9 of themselves or of a typical one.
    memory
        Rows after which older ones no longer matter; None if the feature never forgets, and this is not checked.

    Returns
    -------
    tuple of Check
        All of them, passed.

    Raises
    ------
    FeatureCheckError
        If one fails; the message names each and the first row where it does.
    """
    found = indicator_named(indicator) if isinstance(indicator, str) else indicator
    checks = tuple(run_checks(found, parameters=parameters, columns=columns, reference=reference, memory=memory))
    failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
    if failed:
        raise FeatureCheckError(
            "; ".join(failed), where=f"feature {found.name}", remedy="See docs/how-to/custom-features.md"
        )
    return checks


def run_checks(
    indicator: Indicator,
    *,
    parameters: Mapping[str, Constant] | None = None,
    columns: Columns | None = None,
    reference: Reference | None = None,
    memory: int | None = None,
) -> Iterator[Check]:
    """Yield each check's outcome; parameters as for :func:`check_indicator`."""
    subject = _Subject(indicator, dict(parameters or {}), columns, reference, memory)
    checks = dict(_CHECKS)
    if memory is not None:
        checks["old rows are forgotten"] = _forgets
    if reference is not None:
        checks["it agrees with its reference"] = _agrees
    for name, check in checks.items():
        yield Check(name, check(subject))


@dataclass
class _Subject:
    """A feature under test, with its rows and its results on them."""

    indicator: Indicator
    parameters: dict[str, Constant]
    given: Columns | None
    reference: Reference | None
    memory: int | None
    plan: FeaturePlan = field(init=False)

    def __post_init__(self) -> None:
        self.plan = FeaturePlan.of([FeatureRequest(self.indicator.name, tuple(self.parameters.items()))])

    @cached_property
    def columns(self) -> Columns:
        count = max(self.plan.warm_up) * 2 + 400
        return self.given or (
            sample_bars(count) if self.indicator.schema == "bars" else sample_ticks(_TICKS_MIN + count)
        )

    @cached_property
    def count(self) -> int:
        return len(next(iter(self.columns.values())))

    @cached_property
    def results(self) -> Floats:
        return self.compute(self.columns)

    def compute(self, columns: Columns, event_us: Integers | None = None) -> Floats:
        rows = rows_of(self.plan.inputs, columns)
        times = _times(len(rows)) if event_us is None else event_us
        return self.plan.batch(times, np.arange(len(rows)), times, rows, np.array([0, len(rows)]))[0]

    def stream(self, cuts: Sequence[int] = ()) -> Floats:
        """Row by row; at each cut the state goes through its bytes."""
        rows, out = rows_of(self.plan.inputs, self.columns), np.empty_like(self.results)
        state, times = self.plan.new_state(), _times(self.count)
        for i, row in enumerate(rows):
            if i in cuts:
                state = self.plan.restore(self.plan.save(state))
            self.plan.update(state, int(times[i]), i, int(times[i]), row, out[i])
        return out

    def differing(self, other: Floats, mine: Floats | None = None) -> str:
        """Where bits differ from the results, in words."""
        mine = self.results if mine is None else mine
        same = (mine == other) | (np.isnan(mine) & np.isnan(other))
        if same.all():
            return ""
        row, output = (int(part) for part in np.argwhere(~same)[0])
        return (
            f"{self.plan.outputs[output]}, row {row}: {float(mine[row, output])!r} became {float(other[row, output])!r}"
        )

    def infinite(self, columns: Columns, what: str) -> str:
        results = self.compute(columns)
        bad = np.argwhere(np.isinf(results))
        return f"{self.plan.outputs[bad[0][1]]} is infinite {what}, row {bad[0][0]}" if len(bad) else ""


def _times(count: int) -> Integers:
    return (np.arange(count, dtype=np.int64) + 1) * MINUTE_US


def _specification(subject: _Subject) -> str:
    missing = [name for name in ("source", "summary") if not getattr(subject.indicator, name).strip()]
    if missing:
        return f"{', '.join(missing)} is empty"
    _ = subject.plan.hash  # refuses a step whose source cannot be followed
    return "" if formula(subject.indicator).lines else "no formula can be written"


def _warm_up(subject: _Subject) -> str:
    """Of ticks, how many rows a value takes depends on what they carry: there it must only come, and stay."""
    for name, warm_up, values in zip(subject.plan.outputs, subject.plan.warm_up, subject.results.T, strict=True):
        early = np.flatnonzero(~np.isnan(values[: warm_up - 1]))
        known = np.flatnonzero(~np.isnan(values))
        if not len(known):
            return f"{name} never has a value in {len(values)} rows"
        start = warm_up - 1 if subject.indicator.schema == "bars" else int(known[0])
        late = np.flatnonzero(~np.isfinite(values[start:]))
        if len(early):
            return f"{name} has a value at row {early[0]}, before its declared warm-up of {warm_up} rows"
        if len(late):
            return f"{name} is {values[start + late[0]]} at row {start + late[0]}, after its warm-up"
    return ""


def _stream(subject: _Subject) -> str:
    return subject.differing(subject.stream())


def _restored(subject: _Subject) -> str:
    rng = np.random.default_rng(3)
    return subject.differing(subject.stream(sorted({1, 2, *rng.integers(1, subject.count, 20).tolist()})))


def _no_look_ahead(subject: _Subject) -> str:
    rows, times = rows_of(subject.plan.inputs, subject.columns), _times(subject.count)
    warm = max(subject.plan.warm_up)
    cuts = sorted({1, warm, warm + 1, (warm + subject.count) // 2, subject.count - 1} - {0, subject.count})
    leaks = find_leaks(subject.plan, times, times, rows, cuts)
    return str(leaks[0]) if leaks else ""


def _blocks_and_threads(subject: _Subject) -> str:
    rows, times = rows_of(subject.plan.inputs, subject.columns), _times(subject.count)
    states, parts = None, []
    for start in range(0, subject.count, 37):
        part = slice(start, min(start + 37, subject.count))
        size = part.stop - part.start
        features, states = subject.plan.batch(
            times[part], np.arange(size), times[part], np.ascontiguousarray(rows[part]), np.array([0, size]), states
        )
        parts.append(features)
    cut = subject.differing(np.concatenate(parts))
    three, offsets = np.concatenate([rows] * 3), np.arange(4) * subject.count
    many = subject.plan.batch(np.tile(times, 3), np.arange(len(three)), np.tile(times, 3), three, offsets, threads=3)[0]
    return cut or subject.differing(many[-subject.count :])


def _bad_rows(subject: _Subject) -> str:
    warm = max(subject.plan.warm_up)
    at = sorted({1, min(warm, subject.count - 2), subject.count - 20})
    kept = {name: np.delete(values, at) for name, values in subject.columns.items()}
    without = subject.compute(kept)
    for name in subject.indicator.inputs:
        values = subject.columns[name].copy()
        values[at] = np.inf
        results = subject.compute(subject.columns | {name: values})
        if not np.isnan(results[at]).all():
            return f"a row with {name} infinite has a value"
        if wrong := subject.differing(np.delete(results, at, axis=0), without):
            return f"a row with {name} infinite leaves a trace: {wrong}"
    return ""


def _scaled(subject: _Subject) -> str:
    for factor in (2.0**-20, 2.0**14):  # powers of two round nothing, so that no comparison can turn out otherwise
        prices = {name: subject.columns[name] * factor for name in _PRICES if name in subject.columns}
        results = subject.compute(subject.columns | prices)
        for position, unit in enumerate(subject.plan.units):
            wanted = subject.results[:, position] * factor ** _PRICE_POWER.get(unit, 0.0)
            if wrong := _unequal(results[:, position], wanted):
                return f"{subject.plan.outputs[position]} ({unit}) does not scale as its unit says, prices × {factor:g}: {wrong}"
    return ""


def _unequal(values: Floats, wanted: Floats) -> str:
    known = ~np.isnan(wanted)
    if not np.array_equal(known, ~np.isnan(values)):
        row = int(np.flatnonzero(known == np.isnan(values))[0])
        return f"row {row} is {float(values[row])!r}, not {float(wanted[row])!r}"
    typical = float(np.median(np.abs(wanted[known]))) if known.any() else 0.0
    close = np.isclose(values[known], wanted[known], rtol=TOLERANCE, atol=TOLERANCE * typical)
    if close.all():
        return ""
    row = int(np.flatnonzero(known)[np.flatnonzero(~close)[0]])
    return f"row {row} is {float(values[row])!r}, not {float(wanted[row])!r}"


def _constant(subject: _Subject) -> str:
    flat = {name: np.full(subject.count, subject.columns[name][0]) for name in _PRICES if name in subject.columns}
    return subject.infinite(subject.columns | flat, "on constant prices")


def _no_volume(subject: _Subject) -> str:
    empty = {name: np.zeros(subject.count) for name in subject.columns if name == "volume"}
    return subject.infinite(subject.columns | empty, "without volume")


def _one_row(subject: _Subject) -> str:
    results = subject.compute({name: values[:1] for name, values in subject.columns.items()})
    return subject.differing(results, subject.results[:1])


def _gaps(subject: _Subject) -> str:
    """Rows count, not the time between them; rows of one moment are told apart by their sequence."""
    steps = np.random.default_rng(5).integers(0, 5, subject.count) ** 4 * MINUTE_US
    return subject.differing(subject.compute(subject.columns, np.cumsum(steps)))


def _forgets(subject: _Subject) -> str:
    assert subject.memory is not None
    tail = subject.memory + 50
    absurd = {name: values * 1e9 for name, values in subject.columns.items() if name in (*_PRICES, "volume")}
    longer = {
        name: np.concatenate([values, absurd.get(name, values), values[-tail:]])
        for name, values in subject.columns.items()
    }
    after, alone = (
        subject.compute(longer)[-50:],
        subject.compute({n: v[-tail:] for n, v in subject.columns.items()})[-50:],
    )
    wrongs = [_unequal(mine, other) for mine, other in zip(after.T, alone.T, strict=True)]
    return next((f"rows before the last {subject.memory} leave a trace: {wrong}" for wrong in wrongs if wrong), "")


def _agrees(subject: _Subject) -> str:
    assert subject.reference is not None
    wanted = subject.reference(subject.columns)
    if len(wanted) != len(subject.plan.outputs):
        return f"the reference gives {len(wanted)} outputs, not {len(subject.plan.outputs)}"
    for name, values, reference in zip(subject.plan.outputs, subject.results.T, wanted, strict=True):
        if wrong := _unequal(values, np.asarray(reference, dtype=np.float64)):
            return f"{name}: {wrong}"
    return ""


_CHECKS: Mapping[str, Callable[[_Subject], str]] = {
    "the specification is complete": _specification,
    "it is NaN exactly until it is warm": _warm_up,
    "batch equals stream, bit for bit": _stream,
    "a state can be saved and restored at any row": _restored,
    "it does not look ahead": _no_look_ahead,
    "blocks and threads change nothing": _blocks_and_threads,
    "a bad row is NaN and otherwise as if absent": _bad_rows,
    "it scales with prices as its unit says": _scaled,
    "constant prices give nothing infinite": _constant,
    "zero volume gives nothing infinite": _no_volume,
    "one row is enough to start": _one_row,
    "gaps and equal times change nothing": _gaps,
}
