"""What the soaks so far have done, and what is next."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("TAPELINE_HOME", ROOT / ".tapeline")) / "soak.json"
TRIALS_GOAL = 1_000
CASES_GOAL = 1_000_000
"""Of each SQL call."""
GOALS = {"hostile stream events": 100_000}
"""Of what is counted otherwise."""


def files() -> list[str]:
    """Test files that hold property tests, in order."""
    found = (path for path in (ROOT / "tests").rglob("test_*.py") if "@given(" in path.read_text(encoding="utf-8"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@dataclass
class Progress:
    """Counts, and where to go on.

    Attributes
    ----------
    seed, after
        Rounds over all files of property tests, and the last file of this round.
    cases, runs
        Examples that hypothesis ran, and processes that ran them.
    compared
        Entity rows, of one view each, that were compared with the plain rule, by SQL call.
    trials_seed
        The next seed of kill trials.
    kills, missed
        Kills that hit a living process, with recovery and comparison; kills that came too late.
    stream_seed, stream_kills, stream_missed, stream_events, stream_values
        The same of kills upon streams: the next seed, kills that hit and that came too late, events that Redis had acknowledged,
        and feature values that were compared.
    exports, acknowledged
        Data sets compared with the same export in quiet, and rows that writers had acknowledged.
    """

    seed: int = 1
    after: str = ""
    cases: int = 0
    runs: int = 0
    compared: dict[str, int] = field(default_factory=dict)
    trials_seed: int = 1
    kills: int = 0
    missed: int = 0
    exports: int = 0
    acknowledged: int = 0
    stream_seed: int = 1
    stream_kills: int = 0
    stream_missed: int = 0
    stream_events: int = 0
    stream_values: int = 0

    @classmethod
    def load(cls) -> Progress:
        """The progress of the soaks so far."""
        stored = json.loads(STATE.read_text()) if STATE.exists() else {}
        return cls(**{one.name: stored[one.name] for one in fields(cls) if one.name in stored})

    def save(self) -> None:
        """Write it, whole or not at all."""
        STATE.parent.mkdir(parents=True, exist_ok=True)
        partial = STATE.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)))
        partial.replace(STATE)

    def next(self) -> str:
        """The file whose turn it is; after the last one, the first with the next seed."""
        waiting = [file for file in files() if file > self.after]
        if not waiting:
            self.seed, self.after = self.seed + 1, ""
            waiting = files()
        return waiting[0]

    def add_properties(self, file: str, cases: int, compared: dict[str, int]) -> None:
        """A file with one seed passed."""
        self.after, self.cases, self.runs = file, self.cases + cases, self.runs + 1
        self.compared = dict(Counter(self.compared) + Counter(compared))

    def add_trials(self, outcome: dict[str, int]) -> None:
        """The kill trials of one seed came to their end without a fault."""
        self.trials_seed = outcome["seed"] + 1
        self.kills += outcome["kills"]
        self.missed += outcome["missed"]
        self.exports += outcome["exports"]
        self.acknowledged += outcome["acknowledged"]

    def add_stream_trials(self, outcome: dict[str, int]) -> None:
        """The kill trials of one seed of streams came to their end without a fault."""
        self.stream_seed = outcome["seed"] + 1
        self.stream_kills += outcome["kills"]
        self.stream_missed += outcome["missed"]
        self.stream_events += outcome["events"]
        self.stream_values += outcome["values"]

    def told(self) -> list[str]:
        """The counts in words."""
        rows = f"{self.acknowledged:,} acknowledged rows once each"
        sets = f"{self.exports:,} data sets the same bytes as in quiet"
        lines = [f"{self.kills:,} of {TRIALS_GOAL:,} kill trials, 0 faults: {rows}, {sets}"]
        lines.append(
            f"{self.stream_kills:,} of {TRIALS_GOAL:,} kill trials upon streams, 0 faults: {self.stream_events:,} acknowledged"
            f" events once each, {self.stream_values:,} feature values the same by stream, tables, online store and back-fill"
        )
        lines += [
            f"{count:>11,} of {GOALS.get(call, CASES_GOAL):,} cases of {call}"
            for call, count in sorted(self.compared.items())
        ]
        return [*lines, f"{sum(self.compared.values()):,} cases compared with the plain rule in all"]
