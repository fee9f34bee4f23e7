"""The quality score of a block, from four factors between 0 and 1:

- **completeness**: of the cells that should have a value (past the feature's warm-up, not withdrawn), the share that has one;
- **freshness**: 0.5 to the power of (rows behind − 1) / half-life, averaged over entities; a row behind is a time at which
  other entities of the block have a row later than the entity's newest. One row behind counts as fresh. For rows without a
  clock (trades, traded bars) it is the time behind in units of the entity's own mean spacing;
- **reliability**: the share of rows that are first versions and on time: available no later than the declared lag after
  their event;
- **validity**: the share of rows that break no rule; a gap after the warm-up counts against completeness alone.

The score is their mean, weighted as the view's definition says. A view's factors are those of all its blocks taken together;
its freshness is asked of the clock instead, see :mod:`tapeline.quality.freshness`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tapeline.core.errors import QualityError
from tapeline.quality.block import Block
from tapeline.quality.definition import FACTORS, QualityDefinition
from tapeline.quality.rules import Fault, examine

Verdict = Literal["passed", "warned", "overridden", "blocked"]


@dataclass(frozen=True)
class Counts:
    """What the factors are shares of; those of several blocks add up."""

    rows: int = 0
    cells_expected: int = 0
    cells_filled: int = 0
    rows_late: int = 0
    rows_corrected: int = 0
    rows_reliable: int = 0
    rows_valid: int = 0

    def factors(self, freshness: float) -> dict[str, float]:
        """The four factors; 1 where there is nothing to be a share of."""
        return {
            "completeness": self.cells_filled / self.cells_expected if self.cells_expected else 1.0,
            "freshness": freshness,
            "reliability": self.rows_reliable / self.rows if self.rows else 1.0,
            "validity": self.rows_valid / self.rows if self.rows else 1.0,
        }


def weighted(factors: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted mean of the factors; one without a weight does not count."""
    total = sum(weights.values())
    return float(sum(weights.get(name, 0.0) * factors[name] for name in FACTORS) / total)


def decay(rows_behind: float, half_life_rows: float) -> float:
    """Freshness of a newest row that so many rows should have followed by now."""
    return float(0.5 ** (max(rows_behind - 1.0, 0.0) / half_life_rows))


@dataclass(frozen=True)
class Assessment:
    """What a block is worth.

    Attributes
    ----------
    block, definition
        What was judged, and by what.
    counts, freshness, score
        See the module.
    faults
        Rules that rows break.
    refusals
        Why it may not be written, a sentence each; empty if it may.
    """

    block: Block
    definition: QualityDefinition
    counts: Counts
    freshness: float
    score: float
    faults: tuple[Fault, ...]
    refusals: tuple[str, ...]

    @property
    def factors(self) -> dict[str, float]:
        """Factor → its value."""
        return self.counts.factors(self.freshness)

    @property
    def is_low(self) -> bool:
        """Whether the score is one to be told of."""
        return self.score < self.definition.warn_below

    def verdict(self, *, overridden: bool) -> Verdict:
        """What becomes of the block."""
        if self.refusals:
            return "overridden" if overridden else "blocked"
        return "warned" if self.faults or self.is_low else "passed"

    def warnings(self) -> list[str]:
        """What to tell of it, a sentence each."""
        told = [f"{self.block.label}: {fault_text(fault)}" for fault in self.faults]
        if self.is_low:
            shares = ", ".join(f"{name} {value:.3f}" for name, value in self.factors.items())
            told.append(
                f"{self.block.label}: score {self.score:.3f} is below {self.definition.warn_below:g} ({shares})"
            )
        return told

    def as_error(self) -> QualityError:
        """The refusal: names the rules, some of the rows, and how to write them all the same."""
        label = self.block.label
        return QualityError(
            f"{len(self.block)} rows of {label} were refused: {'; '.join(self.refusals)}",
            where=f"entities {', '.join(self.block.names[:5])}{' …' if len(self.block.names) > 5 else ''}",
            remedy=f"Nothing was written. Mend the rows, or write them as they are with TAPELINE_QUALITY_OVERRIDE={label}",
        )


def fault_text(fault: Fault) -> str:
    """A broken rule as a sentence with its first row."""
    features = f", of {', '.join(fault.features)}" if fault.features else ""
    example = f", such as {fault.examples[0]}" if fault.examples else ""
    return (
        f"rule {fault.rule}: {fault.meaning} in {fault.rows} {'row' if fault.rows == 1 else 'rows'}{features}{example}"
    )


def assess(block: Block, definition: QualityDefinition, now_us: int) -> Assessment:
    """Judge a block that is not empty.

    Raises
    ------
    ConfigurationError
        If the view's own rules do not fit its rows.
    """
    found = examine(block, definition, now_us)
    late = np.zeros(len(block), dtype=np.bool_)
    if block.expected.lag_us is not None:
        late = block.available_us > block.event_us + (block.expected.lag_us + definition.late_us)
        late &= ~block.known  # a correction is one fault, not two
    counts = Counts(
        rows=len(block),
        cells_expected=found.cells_expected,
        cells_filled=found.cells_filled,
        rows_late=int(late.sum()),
        rows_corrected=int(block.known.sum()),
        rows_reliable=len(block) - int((late | block.known).sum()),
        rows_valid=len(block) - int(found.invalid.sum()),
    )
    freshness = _freshness(block, definition.half_life_rows)
    score = weighted(counts.factors(freshness), definition.weights)
    refusals = [fault_text(fault) for fault in found.faults if fault.action == "block"]
    if score < definition.block_below:
        refusals.append(f"score {score:.3f} is below {definition.block_below:g}")
    return Assessment(block, definition, counts, freshness, score, found.faults, tuple(refusals))


def _freshness(block: Block, half_life_rows: float) -> float:
    entities = len(block.names)
    newest = np.full(entities, np.iinfo(np.int64).min)
    np.maximum.at(newest, block.entity, block.event_us)
    present = np.unique(block.entity)
    end_us = int(block.event_us.max())
    if block.expected.regular:
        times = np.unique(block.event_us)
        behind = (len(times) - np.searchsorted(times, newest[present], side="right")).astype(np.float64)
    else:
        oldest = np.full(entities, np.iinfo(np.int64).max)
        np.minimum.at(oldest, block.entity, block.event_us)
        count = np.bincount(block.entity, minlength=entities)[present]
        spacing = np.maximum(newest[present] - oldest[present], 1) / np.maximum(count - 1, 1)
        single = count < 2
        spacing[single] = max(end_us - int(block.event_us.min()), 1)
        behind = (end_us - newest[present]) / spacing
    return float(np.mean([decay(rows, half_life_rows) for rows in behind.tolist()]))
