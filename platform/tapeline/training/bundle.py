"""From a trained model to a bundle: ONNX, sample, manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline.compute.sessions import session_times
from tapeline.core.errors import LineageError, ParameterError
from tapeline.core.timestamps import DAY_US
from tapeline.datasets.manifest import DatasetManifest, DatasetView, library_versions
from tapeline.export import export_model
from tapeline.export.parity import ParityReport
from tapeline.features.view import FeatureViewSpec
from tapeline.models import Calibration, LogisticModel, ScoreModel
from tapeline.models.transformations import Imputer, PreprocessedModel, selected
from tapeline.registry import (
    BundleManifest,
    FeatureReference,
    Sample,
    Sessions,
    ViewReference,
    open_session,
    run_session,
    write_bundle,
)
from tapeline.registry.forest import FOREST_NAME
from tapeline.registry.manifest import MODEL_NAME, MODEL_NAME_FORM, SAMPLE_NAME
from tapeline.training.dataset import TrainingData

_SAMPLE_ROWS = 64
_SESSIONS_BEFORE_US = 366 * DAY_US
_SESSIONS_AFTER_US = 731 * DAY_US
_LIBRARIES = ("tapeline", "numpy", "lightgbm", "scikit-learn", "scipy", "onnx", "onnxruntime", "pyarrow")


def check_target(name: str, folder: Path) -> None:
    """Refuse what would fail only when a trained model is written.

    Raises
    ------
    ParameterError
        If the name is none for a model, or the folder exists.
    """
    if not MODEL_NAME_FORM.fullmatch(name):
        raise ParameterError(
            f"{name!r} is no name for a model", remedy="Begin with a small letter; use small letters, digits and _"
        )
    if folder.exists():
        raise ParameterError(f"{folder} exists already", remedy="Choose another folder, or remove it")


def make_bundle(
    folder: Path,
    *,
    name: str,
    model: ScoreModel,
    calibration: Calibration,
    data: TrainingData,
    dataset: DatasetManifest,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
) -> tuple[BundleManifest, ParityReport]:
    """Export a model through the parity gate and write its bundle folder.

    Raises
    ------
    ParityError
        If the exported model does not reproduce the native one.
    LineageError
        If a view of the data set is not one of Tapeline's, so that nothing could serve it.
    ParameterError
        If the name is none for a model, or the folder exists.
    """
    check_target(name, folder)
    imputed = imputations(model, len(data.names))
    features, views = _references(dataset, int(data.event_us.max()), [one["imputation"] for one in imputed])
    metadata = {
        "model": name,
        "service": dataset.service,
        "dataset_sha256": dataset.content_sha256,
        "label": str(dataset.label_spec),
        "features": ",".join(map(str, features)),
        "family": model.family,
    }
    exported = export_model(model, calibration, data.inputs, metadata=metadata, seed=seed)
    manifest = BundleManifest.model_validate(
        {
            "model": name,
            "service": dataset.service,
            "features": features,
            "views": views,
            "label": dataset.labels.model_dump(mode="json") if dataset.labels else {},
            "metrics": dict(metrics),
            "dataset_sha256": dataset.content_sha256,
            "training": dict(training) | {"imputation_fill": [one["fill"] for one in imputed]},
            "libraries": library_versions(_LIBRARIES),
            "files": {"model.onnx": "0" * 64, "sample.npz": "0" * 64},  # replaced when they are written
        }
    )
    sample = make_sample(exported.graph, data.features, seed=seed)
    files = {MODEL_NAME: exported.graph, SAMPLE_NAME: sample.to_bytes()}
    if exported.forest is not None:
        files[FOREST_NAME] = exported.forest.to_bytes()
    return write_bundle(folder, manifest, files), exported.parity


def make_sample(graph: bytes, features: NDArray[np.float64], *, seed: int) -> Sample:
    """Real rows, one row of nothing but missing values, and what the exported model gives for them."""
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(features), size=min(_SAMPLE_ROWS, len(features)), replace=False))
    chosen = np.concatenate([features[rows], np.full((1, features.shape[1]), np.nan)])
    with np.errstate(over="ignore"):
        given = run_session(open_session(graph), chosen.astype(np.float32))
    return Sample(chosen, given["probability"], given["score"])


def imputations(model: ScoreModel, count: int) -> list[dict[str, Any]]:
    """What a model does with missing values: for each of `count` features, ``imputation`` and ``fill``.

    A fill that is only known in scaled terms is given as none.
    """
    if isinstance(model, PreprocessedModel):
        imputer: Imputer = model.pipeline.named_steps["imputation"]
        found = imputer.manifest()
        inner = imputations(model.inner, count)
        scaled = "scaling" in model.pipeline.named_steps
        for column, own in zip(selected(model.pipeline, count).tolist(), inner, strict=False):
            if found[column]["imputation"] == "none" and own["imputation"] != "none":
                found[column] = own | ({"fill": None} if scaled else {})
        return found
    if isinstance(model, LogisticModel):
        return [{"imputation": "median", "fill": float(fill)} for fill in model.fill]
    return [{"imputation": "none", "fill": None}] * count


def _references(
    dataset: DatasetManifest, last_us: int, imputed: Sequence[str]
) -> tuple[list[FeatureReference], list[ViewReference]]:
    features: list[FeatureReference] = []
    views = []
    for selection, view in zip(dataset.retrieval_plan.views, dataset.views, strict=True):
        if view.plan_hash is None or view.lineage_hash is None or view.definition is None:
            raise LineageError(
                f"view {view.view}@v{view.version} is not registered, so a model of it could not be served",
                where=f"service {dataset.service}",
                remedy="Fill it with: tapeline backfill, and export again",
            )
        limits = _age_limits(FeatureViewSpec.from_definition(view.definition))
        features += [
            FeatureReference.model_validate(
                {
                    "view": selection.view,
                    "version": selection.version,
                    "name": name,
                    "imputation": imputation,
                    "last_within_us": limits.get(name),
                }
            )
            for name, imputation in zip(selection.features, imputed[len(features) :], strict=False)
        ]
        views.append(
            ViewReference(
                view=view.view,
                version=view.version,
                plan_hash=view.plan_hash,
                lineage_hash=view.lineage_hash,
                ttl_us=selection.ttl_us,
                definition=view.definition,
                sessions=_sessions(view, last_us),
            )
        )
    return features, views


def _age_limits(spec: FeatureViewSpec) -> dict[str, int]:
    """Columns in which a last known value may stand in, with its greatest age."""
    holds = (hold for request in spec.features for hold in request.holds)
    return {hold.column: hold.limit_us for hold in holds if hold is not None}


def _sessions(view: DatasetView, last_us: int) -> Sessions:
    """A year of sessions before the data's end, for live rows of that time, and two years after it."""
    assert view.definition is not None
    calendar = FeatureViewSpec.from_definition(view.definition).rows.calendar
    every = session_times(calendar)
    first = int(np.searchsorted(every.close_us, last_us - _SESSIONS_BEFORE_US))
    last = int(np.searchsorted(every.close_us, last_us + _SESSIONS_AFTER_US))
    return Sessions(
        calendar=calendar,
        first_number=first,
        open_us=tuple(every.open_us[first:last].tolist()),
        close_us=tuple(every.close_us[first:last].tolist()),
    )
