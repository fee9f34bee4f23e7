"""What an ingest did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tapeline.core.timestamps import format_us
from tapeline.ingestion.calendars import Gap


@dataclass(slots=True)
class IngestReport:
    """What became of every row that was read.

    ``rows_read`` is the sum of added, corrections, unchanged, retractions, unmatched retractions, quarantined and
    skipped.

    Parameters
    ----------
    source, kind
        Where the rows went.
    rows_read
        Rows of the input.
    rows_added
        First sightings.
    corrections
        Rows of a known key with other content.
    unchanged
        Rows that were stored already.
    retractions, unmatched
        Rows withdrawn, and retractions of rows that are not there.
    quarantined
        Rows refused, and in ``faults`` how many by which rule.
    skipped
        Rows outside since and until.
    gaps
        Sessions without rows.
    first_us, last_us
        First and last event among the rows that were not refused or skipped.
    seconds
        Time taken.
    """

    source: str
    kind: str
    rows_read: int = 0
    rows_added: int = 0
    corrections: int = 0
    unchanged: int = 0
    retractions: int = 0
    unmatched: int = 0
    quarantined: int = 0
    skipped: int = 0
    symbols: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)
    first_us: int | None = None
    last_us: int | None = None
    instruments_added: int = 0
    splits_added: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "source": self.source,
            "kind": self.kind,
            "symbols": self.symbols,
            "rows_read": self.rows_read,
            "rows_added": self.rows_added,
            "corrections": self.corrections,
            "unchanged": self.unchanged,
            "retractions": self.retractions,
            "unmatched_retractions": self.unmatched,
            "quarantined": self.quarantined,
            "faults": dict(self.faults),
            "skipped": self.skipped,
            "gaps": [
                {"symbol": gap.symbol, "first": str(gap.first), "last": str(gap.last), "sessions": gap.sessions}
                for gap in self.gaps
            ],
            "first_event": None if self.first_us is None else format_us(self.first_us),
            "last_event": None if self.last_us is None else format_us(self.last_us),
            "instruments_added": self.instruments_added,
            "splits_added": self.splits_added,
            "seconds": round(self.seconds, 3),
        }
