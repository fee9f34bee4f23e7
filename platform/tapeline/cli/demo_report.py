"""The demo's pictures: gathers from the stores and the bundle what the report page shows."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeline.cli.demo_steps import Steps
from tapeline.core.settings import Settings
from tapeline.monitoring import report as page

if TYPE_CHECKING:
    from tapeline.cli.demo import DemoRun

CHART_SYMBOL, CHART_START, CHART_END = "MSFT", "2002-10-01", "2003-06-30"
"""Around the two-for-one split of 18 February 2003, to show that features are in the money of the day."""
_BARS = """
    SELECT b.event_timestamp, b.open, b.high, b.low, b.close, f.sma_20, f.bbands_upper_20_2_2, f.bbands_lower_20_2_2, f.rsi_14
    FROM tapeline.bars b
    JOIN features.daily_technical__v2 f USING (symbol, event_timestamp)
    WHERE b.source = 'us-daily' AND b.symbol = %(symbol)s AND b.event_timestamp BETWEEN %(start)s AND %(end)s
    ORDER BY b.event_timestamp
"""
_SPLITS = """
    SELECT event_timestamp, ratio FROM tapeline.corporate_actions
    WHERE kind = 'split' AND symbol = %(symbol)s AND event_timestamp BETWEEN %(start)s AND %(end)s
"""


def price_chart(home: Path) -> page.PriceChart:
    """Bars of one share around a split, with features as they are stored."""
    from tapeline.storage.postgres import connect

    where = {"symbol": CHART_SYMBOL, "start": CHART_START, "end": CHART_END}
    with connect(Settings(home=home, postgres_url=None)) as connection:
        bars: Sequence[Sequence[Any]] = connection.execute(_BARS, where).fetchall()
        splits: Sequence[Sequence[Any]] = connection.execute(_SPLITS, where).fetchall()
    columns = np.array([[float(value) for value in bar[1:]] for bar in bars]).T
    opened, high, low, close, average, upper, lower, rsi = columns
    return page.PriceChart(
        symbol=CHART_SYMBOL,
        times=[bar[0].date().isoformat() for bar in bars],
        open=opened,
        high=high,
        low=low,
        close=close,
        overlays={"SMA 20": average, "Bollinger upper": upper, "Bollinger lower": lower},
        below={"RSI 14": rsi},
        events=[(moment.date().isoformat(), f"{ratio:g}-for-1 split") for moment, ratio in splits],
    )


def write_report(run: DemoRun, steps: Steps, home: Path, path: Path) -> Path:
    """Write the page of a finished run."""
    from tapeline.cli.demo import summary

    metrics = run.trained["metrics"]
    curve = metrics["calibration_curve"]
    gains = [(row["feature"], float(row["gain"])) for row in metrics["importance"]]
    total = sum(gain for _, gain in gains) or 1.0
    return page.write(
        page.RunReport(
            title="From the tape to a served prediction",
            subtitle="What one run of tapeline demo did, on packaged data, on this machine.",
            summary=summary(run),
            metrics=[
                _row(name, scores) for name, scores in ({"model": metrics["model"]} | metrics["baselines"]).items()
            ],
            verdict=run.trained["verdict"],
            price=price_chart(home),
            calibration=page.CalibrationChart(
                {
                    "calibrated model": (
                        [bin_["probability"] for bin_ in curve],
                        [bin_["frequency"] for bin_ in curve],
                        [int(bin_["rows"]) for bin_ in curve],
                    )
                }
            ),
            importance=[(name, gain / total) for name, gain in gains],
            latency_us=run.latency_us | {run.stream.latency_title: np.array(run.stream.predict_us)},
            late=run.late.report_rows(),
            commands=steps.done,
            data_flow_svg=_data_flow(),
        ),
        path,
    )


def _row(name: str, scores: dict[str, dict[str, float | None]]) -> dict[str, str]:
    return {"predictor": name.replace("_", " ")} | {
        metric.replace("_", " "): _interval(estimate) for metric, estimate in scores.items()
    }


def _interval(estimate: dict[str, float | None]) -> str:
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _data_flow() -> str:
    """The data-flow diagram of the documentation, where there is a checkout."""
    found = find_spec("tapeline")
    if found is None or found.origin is None:
        return ""
    picture = Path(found.origin).parents[2] / "docs" / "pictures" / "data-flow.svg"
    return picture.read_text(encoding="utf-8") if picture.is_file() else ""
