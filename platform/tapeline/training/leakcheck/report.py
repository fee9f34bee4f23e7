"""What a leak check found: faults by name, and how much each check looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from tapeline.core.errors import FeatureCheckError

FAULTS_KEPT_MAX = 1_000


@dataclass(frozen=True)
class Fault:
    """A value that has seen the future, or a way by which one could.

    Attributes
    ----------
    check
        The check that found it.
    view, feature
        Where; ``feature`` is empty for what concerns the whole view.
    entity, moment
        Of the entity row, where there is one; ISO 8601.
    stored, expected
        The value that the store gives, and the one of what was known; none where there is no row.
    detail
        What explains it.
    """

    check: str
    view: str
    feature: str = ""
    entity: str = ""
    moment: str = ""
    stored: float | None = None
    expected: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        name = f"{self.view}:{self.feature}" if self.feature else self.view
        place = f" of {self.entity} at {self.moment}" if self.entity else ""
        values = f" is {self.stored!r} where {self.expected!r} was known" if self.entity and self.feature else ""
        return f"{self.check}: {name}{place}{values}{'; ' if values and self.detail else ' '}{self.detail}".rstrip()


@dataclass(frozen=True)
class Outcome:
    """One check of one view: how many cases it compared, how many failed, and what else there is to say."""

    check: str
    view: str
    cases: int
    faults: int
    note: str = ""


@dataclass
class LeakReport:
    """What the gate found.

    Attributes
    ----------
    service
        The feature service.
    vintage
        As recorded by this moment, ISO 8601.
    outcomes
        Every check of every view.
    faults
        The first `FAULTS_KEPT_MAX`.
    seconds
        Wall time.
    """

    service: str
    vintage: str
    outcomes: list[Outcome] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, check: str, view: str, cases: int, faults: Iterable[Fault], note: str = "") -> None:
        """Note a check's outcome."""
        found = list(faults)
        self.outcomes.append(Outcome(check, view, cases, len(found), note))
        self.faults += found[: FAULTS_KEPT_MAX - len(self.faults)]

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not any(outcome.faults for outcome in self.outcomes)

    @property
    def found(self) -> Counter[tuple[str, str]]:
        """How many of the faults that are kept concern each (view, feature)."""
        return Counter((fault.view, fault.feature) for fault in self.faults)

    def require_clean(self) -> None:
        """Do nothing if nothing was found.

        Raises
        ------
        FeatureCheckError
            Else; the message names the first faults.
        """
        if self.passed:
            return
        total = sum(outcome.faults for outcome in self.outcomes)
        shown = "; ".join(str(fault) for fault in self.faults[:3])
        raise FeatureCheckError(
            f"{total} faults: {shown}{' …' if total > 3 else ''}",
            where=f"feature service {self.service}",
            remedy="Train nothing on it; see docs/how-to/leak-check.md",
        )

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {
            "service": self.service,
            "passed": self.passed,
            "vintage": self.vintage,
            "seconds": self.seconds,
            "checks": [asdict(outcome) for outcome in self.outcomes],
            "faults": [asdict(fault) for fault in self.faults],
        }
