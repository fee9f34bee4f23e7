"""The page of a verification: everything in one file, nothing that was served taken for markup."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tapeline.core.timestamps import DAY_US, MINUTE_US, to_us
from tapeline.monitoring.findings import Cause, ConsistencyReport, Mismatch, RowPlace
from tapeline.monitoring.verify_page import VerificationPage, render, time_figure, write_page

SERVED_US = to_us("2026-03-02T14:30:20+00:00")


def mismatch(cause: Cause, entity: str = "AAA", served_us: int = SERVED_US) -> Mismatch:
    used, recorded = RowPlace(served_us - 9, 1, served_us - 8), RowPlace(served_us - 7, 2, served_us - 6, served_us - 5)
    return Mismatch("r", entity, "daily", 2, "rsi_14", served_us, served_us, "store", 1.25, 1.5, cause, used, recorded)


def test_a_page_names_each_difference() -> None:
    found = ConsistencyReport(vectors=2)
    for number, cause in enumerate((Cause.LAG, Cause.UNKNOWN)):
        found.differs(mismatch(cause, f"<b>{number}</b>", SERVED_US + number * MINUTE_US))
    found.by_view["daily@2", None] = 1_000
    found.by_minute[SERVED_US - SERVED_US % MINUTE_US, None] = 1_000
    page = VerificationPage(
        "Served = stored?",
        "a run",
        [("values", "1,000")],
        found.by_view,
        found.by_minute,
        found.mismatches,
        {"5m": 20.0},
    )
    text = render(page)
    for part in (
        "rsi_14",
        "1.25",
        "1.5",
        "lag",
        "unknown",
        "0.2000%",
        "&lt;b&gt;1&lt;/b&gt;",
        "#2, available",
        "recorded 2026-03",
    ):
        assert part in text, part
    assert "<td><b>" not in text
    assert "<script src" not in text, "nothing is fetched"


def test_a_page_without_differences_says_so(tmp_path: Path) -> None:
    counts = Counter({("daily@2", None): 10})
    minutes = Counter({(SERVED_US - SERVED_US % MINUTE_US, None): 10})
    path = write_page(VerificationPage("Served = stored?", "", [], counts, minutes), tmp_path / "new" / "page.html")
    text = path.read_text()
    assert "none differ" in text
    assert "Differences" not in text
    assert [each.name for each in path.parent.iterdir()] == ["page.html"]
    assert "Served" in render(VerificationPage("Served = stored?", "", [], {}, {}))


def test_bars_are_as_wide_as_the_time_needs() -> None:
    """A month of minutes becomes a few hundred bars that hold as much."""
    minutes = {(SERVED_US - SERVED_US % MINUTE_US + i * 7 * MINUTE_US, None): 3 for i in range(6_000)}
    [bars] = time_figure(minutes).data
    assert len(bars.x) <= 401
    assert sum(bars.y) == 18_000
    assert max(moment for moment, _ in minutes) - min(moment for moment, _ in minutes) > 29 * DAY_US
