"""The demo's late correction: what changes in a new export, what stays in the old one, and whether the diff says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tapeline.cli.demo_steps import Steps

LATE_ROWS = """\
symbol,date,open,high,low,close,volume,published_timestamp,deleted
IBM,2013-01-23,203.5,208.58,203.36,203.87,13133400,2013-01-24T14:00:00+00:00,
AAPL,2013-02-04,,,,,,2013-02-05T14:00:00+00:00,true
"""
"""The exchange corrects IBM's close of 23 January to 203.87 and withdraws Apple's bar of 4 February, each the next day."""


@dataclass
class LateCorrection:
    """What the step gave.

    Attributes
    ----------
    ingested, rebuilt, exported
        What the commands printed.
    diff
        What ``tapeline vintage diff`` found.
    differing, named, both
        Cells in which the two data sets' files differ; those that the diff names; those in both.
    """

    ingested: dict[str, Any] = field(default_factory=dict)
    rebuilt: dict[str, Any] = field(default_factory=dict)
    exported: dict[str, Any] = field(default_factory=dict)
    diff: dict[str, Any] = field(default_factory=dict)
    differing: int = 0
    named: int = 0
    both: int = 0

    @property
    def holds(self) -> bool:
        """Whether the old export is the same again, and the new one differs exactly where the diff says, and does."""
        return self.rebuilt["same"] and self.differing == self.named == self.both > 0

    def summary(self) -> list[tuple[str, str]]:
        """Rows of the demo's last table."""
        causes = ", ".join(f"{cause} {count:,}" for cause, count in self.diff["by_cause"].items())
        exact = "exactly those" if self.differing == self.named == self.both else f"{self.named:,}, NOT THOSE"
        rebuilt = "same SHA-256" if self.rebuilt["same"] else "DIFFERENT"
        late = f"{self.ingested['corrections']} bar corrected, {self.ingested['retractions']} withdrawn"
        return [
            ("late correction", f"{late}; the old export rebuilt: {rebuilt}"),
            ("cells of a new export that differ", f"{self.differing:,}; vintage diff names {exact}"),
            ("why they differ", causes),
        ]

    def report_rows(self) -> list[dict[str, str]]:
        """What was recorded in between, and how many cells each changed."""
        return [
            {
                "what": change["cause"],
                "row": f"{change['source']} {change['entity']} {change['event_timestamp'][:10]}",
                "recorded": change["created_timestamp"],
                "changed": ", ".join(
                    _told(value) for value in change["values"] if value["column"] != "start_timestamp"
                ),
                "cells": f"{change['cells']:,}",
            }
            for change in self.diff["changes"]
        ]


def _told(value: dict[str, Any]) -> str:
    before, after = (
        f"{side:,}" if isinstance(side, float) else side or "–" for side in (value["before"], value["after"])
    )
    return f"{value['column']} {before} → {after}"


def correct_late(steps: Steps, home: Path, view: str, export_options: tuple[str, ...]) -> LateCorrection:
    """Ingest the late rows, rebuild the old export, make a new one, and compare what differs with what the diff names.

    Parameters
    ----------
    steps
        Runs the commands.
    home
        Holds the old export in ``dataset``.
    view
        What to back-fill.
    export_options
        How the old export was made.
    """
    found = LateCorrection()
    late, now, cells = home / "late.csv", home / "dataset-now", home / "changed-cells.parquet"
    late.write_text(LATE_ROWS, encoding="utf-8")
    found.ingested = steps.tapeline("ingest", "file", str(late), "--source", "us-daily")
    steps.say(
        f"later the exchange corrects {found.ingested['corrections']} bar "
        f"and withdraws {found.ingested['retractions']}; nothing is overwritten"
    )
    steps.tapeline("backfill", view)
    found.rebuilt = steps.tapeline("rebuild", str(home / "dataset"))
    steps.say("the old export, made again from the database: still the same bytes")
    found.exported = steps.tapeline("export", *export_options, "--out", str(now))
    steps.say(f"a new export: SHA-256 {found.exported['content_sha256'][:16]}…")
    found.diff = steps.tapeline(
        "vintage", "diff", str(home / "dataset"), str(now), "--limit", "0", "--parquet", str(cells)
    )
    differing, named = differing_cells(home / "dataset", now), named_cells(cells)
    found.differing, found.named, found.both = len(differing), len(named), len(differing & named)
    steps.say(f"{found.named:,} cells named, {found.differing:,} differ in the two files")
    return found


Cell = tuple[str, int, str, str, str]
"""Symbol, moment, column, and both values."""


def differing_cells(before: Path, after: Path) -> set[Cell]:
    """The cells in which two data sets' files differ, bit for bit, read without anything of the diff."""
    one, other = _cells(before), _cells(after)
    keys = (key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return {(*key, one.get(key, "absent"), other.get(key, "absent")) for key in keys}


def _cells(folder: Path) -> dict[tuple[str, int, str], str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "data")
    symbols = table.column("symbol").to_pylist()
    moments = table.column("event_timestamp").cast(pa.int64()).to_pylist()
    return {
        (symbol, moment, name): _text(value)
        for name in table.column_names
        if name not in {"symbol", "event_timestamp"}
        for symbol, moment, value in zip(symbols, moments, table.column(name).to_pylist(), strict=True)
    }


def named_cells(path: Path) -> set[Cell]:
    """The cells in a file that ``tapeline vintage diff`` wrote."""
    import pyarrow.parquet as pq

    cells = set()
    for row in pq.read_table(path).to_pylist():
        values = []
        for side, absent in (("before", "new"), ("after", "gone")):
            text = row[f"{side}_text"]
            values.append("absent" if row["row"] == absent else _text(row[side] if text is None else text))
        moment_us = round(row["event_timestamp"].timestamp() * 1_000_000)
        cells.add((row["symbol"], moment_us, row["feature"], *values))
    return cells


def _text(value: Any) -> str:
    """A value as text in which any two bits differ, but for NaN, which is one."""
    if isinstance(value, float):
        return "NaN" if value != value else value.hex()  # noqa: PLR0124
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return "null" if value is None else str(value)
