"""Small real bundles for tests: a linear model in ONNX with its sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tapeline.core.hashing import sha256_json
from tapeline.export.graph import Knots, Linear, build_graph
from tapeline.registry import BundleManifest, FeatureReference, Sample, ViewReference, write_bundle
from tapeline.registry.replay import open_session, run_session

PLAN_HASH = sha256_json("plan")
LINEAGE_HASH = sha256_json("lineage")


def linear_model(weights: list[float]) -> bytes:
    count = len(weights)
    return build_graph(
        feature_count=count,
        core=Linear(np.zeros(count), np.ones(count), np.array(weights), 0.1),
        calibration=Knots(np.array([0.2, 0.5, 0.8]), np.array([0.4, 0.5, 0.6])),
        fill=np.zeros(count),
    )


def make_sample(model: bytes, count: int, rows: int = 16) -> Sample:
    features = np.random.default_rng(3).normal(size=(rows, count))
    features[0, 0] = np.nan
    given = run_session(open_session(model), features.astype(np.float32))
    return Sample(features, given["probability"], given["score"])


def make_manifest(names: tuple[str, ...] = ("rsi_14", "roc_10"), **changes: object) -> BundleManifest:
    fields: dict[str, object] = {
        "model": "daily_direction",
        "service": "daily_model",
        "features": [FeatureReference(view="daily_technical", version=2, name=name) for name in names],
        "views": [
            ViewReference(
                view="daily_technical",
                version=2,
                plan_hash=PLAN_HASH,
                lineage_hash=LINEAGE_HASH,
                ttl_us=7 * 86_400_000_000,
                definition={"features": list(names)},
                sessions={"calendar": "XNYS", "open_us": (1, 11), "close_us": (9, 19)},
            )
        ],
        "label": {"spec": "direction:5d"},
        "dataset_sha256": sha256_json("data"),
        "metrics": {"model": {"accuracy": 0.5}},
        "files": {"model.onnx": "0" * 64, "sample.npz": "0" * 64},
    }
    return BundleManifest.model_validate(fields | changes)


def make_bundle(
    folder: Path, *, weights: tuple[float, ...] = (0.5, -0.3), names: tuple[str, ...] = ("rsi_14", "roc_10"), **changes
) -> BundleManifest:
    model = linear_model(list(weights))
    files = {"model.onnx": model, "sample.npz": make_sample(model, len(weights)).to_bytes()}
    return write_bundle(folder, make_manifest(names, **changes), files)
