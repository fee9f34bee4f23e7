"""Exported folders for tests, without a database: real labels over given prices, features of the caller's making."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from tapeline.compute.sessions import SessionTimes
from tapeline.core.hashing import sha256_json
from tapeline.core.timestamps import format_us
from tapeline.datasets.fingerprint import fingerprint
from tapeline.datasets.labels import MISSING_US, LabelSpec, compute_labels
from tapeline.datasets.manifest import (
    MANIFEST_NAME,
    DatasetEntities,
    DatasetLabels,
    DatasetManifest,
    DatasetView,
    table_columns,
)
from tapeline.datasets.part_files import write_part
from tapeline.datasets.plan import RetrievalPlan, ViewSelection
from tapeline.datasets.prices import Prices, Splits
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars

LAG_US = 900_000_000
NO_SPLITS = Splits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
UTC_US = pa.timestamp("us", tz="UTC")


def write_dataset(
    folder: Path,
    sessions: SessionTimes,
    closes: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
    names: tuple[str, ...],
    *,
    label: str = "direction:5d",
    splits: Mapping[str, Splits] | None = None,
    requests: tuple[FeatureRequest, ...] = (FeatureRequest.of("RSI", timeperiod=14),),
) -> DatasetManifest:
    """One row per symbol and session; `closes` (sessions,) and `features` (sessions, names) by symbol, NaN before life."""
    spec = LabelSpec.parse(label)
    alive = {symbol: ~np.isnan(values) for symbol, values in closes.items()}
    prices = {
        symbol: Prices(sessions.close_us[alive[symbol]], values[alive[symbol]], (splits or {}).get(symbol, NO_SPLITS))
        for symbol, values in closes.items()
    }
    symbols = np.concatenate([np.repeat(symbol, alive[symbol].sum()) for symbol in closes]).astype(object)
    event_us = np.concatenate([sessions.close_us[alive[symbol]] for symbol in closes]) + LAG_US
    values = np.concatenate([features[symbol][alive[symbol]] for symbol in closes])
    labels = compute_labels(spec, symbols, event_us, prices, sessions)
    known = labels.end_us != MISSING_US
    view = FeatureViewSpec(
        name="synthetic", version=1, rows=SessionBars("us-daily", "XNYS"), features=requests, ttl_us=0
    )  # fmt: skip
    plan = RetrievalPlan(
        "synthetic_model",
        (ViewSelection("synthetic", 1, "features.synthetic__v1", ("symbol",), ("symbol",), names, names),),
    )
    rows = pa.table({"symbol": pa.array(symbols, pa.string()), "event_timestamp": pa.array(event_us).cast(UTC_US)})
    columns = {name: pa.array(values[:, place]) for place, name in enumerate(names)}
    table = (
        pa.table(
            {name: rows.column(name) for name in rows.column_names}
            | columns
            | {
                "label": pa.array(labels.value),
                "label_return": pa.array(labels.forward_return),
                "label_end_timestamp": pa.array(labels.end_us).cast(UTC_US),
            }
        )
        .filter(pa.array(known))
        .sort_by([("event_timestamp", "ascending"), ("symbol", "ascending")])
    )
    content = fingerprint(table)
    manifest = DatasetManifest(
        service=plan.service,
        plan={**plan.to_dict(), "views": [{k: list(v) if isinstance(v, tuple) else v for k, v in view.items()} for view in plan.to_dict()["views"]]},
        views=(
            DatasetView(view="synthetic", version=1, plan_hash=sha256_json("p"), lineage_hash=sha256_json("l"), definition=view.definition()),
        ),
        as_of_us=0,
        as_of=format_us(0),
        entities=DatasetEntities(description="given rows", rows=len(rows), sha256=sha256_json("rows")),
        labels=DatasetLabels(spec=str(spec), source="us-daily", kind="bars", calendar="XNYS", without_label=int((~known).sum())),
        row_count=table.num_rows,
        first_event="",
        last_event="",
        columns=table_columns(dict(zip(table.column_names, table.schema.types, strict=True)), content.columns),
        content_sha256=content.sha256,
        parts=write_part(folder, 0, table, "none"),
        cpu="",
        libraries={},
    )  # fmt: skip
    (folder / MANIFEST_NAME).write_text(manifest.to_text())
    return manifest


def random_walks(
    sessions: SessionTimes,
    *,
    symbols: int = 3,
    columns: int = 6,
    signal: float = 0.0,
    seed: int = 0,
    drift: Callable[[int], float] = lambda _: 0.0,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], tuple[str, ...]]:
    """Closes and features; feature `signal` drives the next session's return by that many of its standard deviations."""
    random = np.random.default_rng(seed)
    count = len(sessions.close_us)
    closes, features = {}, {}
    for number in range(symbols):
        values = random.normal(size=(count, columns))
        values[random.random(values.shape) < 0.03] = np.nan
        cause = np.nan_to_num(values[:, 0])
        slow = np.convolve(cause, np.ones(5) / np.sqrt(5), mode="full")[:count]
        values[:, 0] = slow
        noise = random.normal(size=count)
        returns = 0.01 * (noise + signal * np.concatenate([[0.0], slow[:-1]])) + drift(number)
        closes[f"S{number}"] = 50 * np.exp(np.cumsum(returns))
        features[f"S{number}"] = values
    return closes, features, tuple(f"f{place}" for place in range(columns))
