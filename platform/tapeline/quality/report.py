"""What the recorded scores say of a view: its factors, the rules that are broken and examples, its blocks over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tapeline.core.settings import Settings
from tapeline.core.timestamps import format_us
from tapeline.features.view import FeatureViewSpec
from tapeline.quality.definition import definition_of
from tapeline.quality.freshness import Freshness, Sessions, freshness_of
from tapeline.quality.score import Counts, weighted
from tapeline.quality.tables import ScoredBlock, blocks, totals
from tapeline.storage.feature_tables import RegisteredView
from tapeline.storage.reference import find_source


@dataclass(frozen=True)
class BrokenRule:
    """A rule that rows of a view break, over all blocks that were looked at."""

    rule: str
    meaning: str
    action: str
    rows: int
    blocks: int
    features: dict[str, int]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class ViewQuality:
    """The quality of one view version.

    Attributes
    ----------
    view, version
        Which.
    counts
        Sums over all blocks written.
    factors, score
        See :mod:`tapeline.quality.score`; freshness by the clock where the view is Tapeline's own, else that of its blocks.
    freshness
        The newest row and how far it is behind; none for a view that is not Tapeline's own.
    at
        The moment that freshness is judged at, ISO 8601.
    verdicts
        Verdict → blocks.
    warn_below
        A lower score is marked.
    broken
        Rules that rows break, most rows first.
    blocks
        The newest blocks, newest first.
    """

    view: str
    version: int
    counts: Counts
    factors: dict[str, float]
    score: float
    freshness: Freshness | None
    at: str
    verdicts: dict[str, int]
    warn_below: float
    broken: tuple[BrokenRule, ...]
    blocks: tuple[ScoredBlock, ...]

    @property
    def label(self) -> str:
        """``view@version``."""
        return f"{self.view}@{self.version}" if self.version else self.view

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        fresh = self.freshness
        return {
            "view": self.view,
            "version": self.version,
            "score": self.score,
            "factors": self.factors,
            "rows": vars(self.counts),
            "newest_event": None if fresh is None else fresh.newest,
            "rows_behind": None if fresh is None else fresh.rows_behind,
            "at": self.at,
            "blocks": self.verdicts,
            "broken": [{**vars(rule), "examples": list(rule.examples)} for rule in self.broken],
        }


def view_quality(
    connection: psycopg.Connection[Any],
    view: str,
    version: int,
    *,
    registered: RegisteredView | None,
    sessions: Sessions | None,
    at_us: int,
    settings: Settings,
) -> ViewQuality:
    """Gather what is recorded of a view version.

    Parameters
    ----------
    connection
        Idle; one transaction is used.
    view, version
        Which.
    registered, sessions
        The view as registered and its calendar, for its freshness; none if it is not Tapeline's own.
    at_us
        The moment to judge freshness at.
    settings
        With thresholds and modules of rules.
    """
    definition = definition_of(view, version, settings)
    with connection.transaction():
        counts, block_freshness, verdicts = totals(connection, view, version)
        newest = blocks(connection, view, version)
        fresh = None
        if registered is not None and sessions is not None:
            spec = FeatureViewSpec.from_definition(registered.definition)
            source = find_source(connection, spec.rows.source)
            lag_us = 0 if source is None else source.declared_lag_us
            fresh = freshness_of(
                connection, registered.table_name, spec.rows, sessions, lag_us, at_us, definition.half_life_rows
            )
    factors = counts.factors(block_freshness if fresh is None else fresh.value)
    return ViewQuality(
        view=view,
        version=version,
        counts=counts,
        factors=factors,
        score=weighted(factors, definition.weights),
        freshness=fresh,
        at=format_us(at_us),
        verdicts=verdicts,
        warn_below=definition.warn_below,
        broken=tuple(_broken(newest)),
        blocks=tuple(newest),
    )


def _broken(found: Sequence[ScoredBlock]) -> list[BrokenRule]:
    """Rules over all blocks; examples are those of the newest block that breaks each."""
    merged: dict[str, BrokenRule] = {}
    for block in found:
        for fault in block.faults:
            before = merged.get(fault["rule"])
            features = dict(before.features) if before else {}
            for feature, cells in fault["features"].items():
                features[feature] = features.get(feature, 0) + cells
            merged[fault["rule"]] = BrokenRule(
                rule=fault["rule"],
                meaning=before.meaning if before else fault["meaning"],
                action=before.action if before else fault["action"],
                rows=(before.rows if before else 0) + fault["rows"],
                blocks=(before.blocks if before else 0) + 1,
                features=dict(sorted(features.items(), key=lambda item: -item[1])),
                examples=before.examples if before else tuple(fault["examples"]),
            )
    return sorted(merged.values(), key=lambda rule: (-rule.rows, rule.rule))
