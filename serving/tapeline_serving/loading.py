"""From a model's name to something that can predict: resolve, fetch, verify, compile, replay."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tapeline.core.errors import ModelNotReadyError, ParityError
from tapeline.core.settings import Settings
from tapeline.kernels import cache_folder
from tapeline.registry import BundleManifest, Registry, parse_reference, read_manifest, read_sample, replay_bundle
from tapeline.registry.forest import FOREST_NAME, check_forest, read_forest
from tapeline.registry.manifest import SAMPLE_NAME
from tapeline.storage.migrations import require_schema
from tapeline.storage.postgres import connect
from tapeline.storage.view_versions import require_usable

from tapeline_serving.engine.model import ForestModel, Model
from tapeline_serving.engine.plan import PlannedView, ServingPlan

logger = logging.getLogger("tapeline.serving")


@dataclass(frozen=True)
class Deployment:
    """A plan and its model, ready for traffic."""

    plan: ServingPlan
    model: Model


def load(settings: Settings, reference: str) -> Deployment:
    """Load a registered model.

    Parameters
    ----------
    settings
        Where the database and the artifacts are.
    reference
        ``name``, ``name@version`` or ``name@alias``.

    Raises
    ------
    UnavailableError
        If PostgreSQL is away.
    UnknownNameError
        If there is no such model, version or alias.
    IntegrityError
        If the bundle is not what its SHA-256 promises.
    ModelNotReadyError
        If the model does not give its sample's outputs on this machine.
    LineageError
        If this installation's kernels are not those the model was trained on.
    VersionStateError
        If a view version that the model is built on is retired.
    """
    name, selector = parse_reference(reference)
    with connect(settings) as connection:
        require_schema(connection)
        registry = Registry(connection, settings.artifacts_path, cache_path=settings.home_path / "bundles")
        record = registry.resolve(name, selector)
        folder = registry.fetch(record)
        manifest = read_manifest(folder)
        views = [(view.view, view.version) for view in manifest.views]
        require_usable(connection, views, where=f"model {record.model}@{record.version}")
    try:
        model = _model(folder, manifest, replay_bundle(folder, manifest))
    except ParityError as error:
        raise ModelNotReadyError(error.what, where=error.where, remedy=error.remedy) from error
    plan = ServingPlan.of(manifest, record.bundle_sha256, settings.project)
    for view in plan.views:
        compile_view(view)
    return Deployment(plan, _warmed(model, manifest))


def _model(folder: Path, manifest: BundleManifest, session: Any) -> Model:
    """The compiled trees of a bundle that has them and agrees with itself; else its ONNX model."""
    if FOREST_NAME not in manifest.files:
        return Model(session, manifest.outputs)
    forest = read_forest(folder / FOREST_NAME, len(manifest.features))
    check_forest(forest, read_sample(folder / SAMPLE_NAME), where=f"{folder / SAMPLE_NAME}")
    return ForestModel(forest, manifest.outputs)


def compile_view(view: PlannedView) -> None:
    """Load a view's kernels, or compile them where the cache is cold, and run each once.

    Without the run, numba would load them when the first live row comes.
    """
    plan = view.spec.plan
    if not any(cache_folder().glob(f"*{plan.hash[:32]}*/*.nbi")):
        logger.info("compiling the kernels of %s@%d: the first start takes a while", view.name, view.version)
    state, out = plan.new_state(), np.empty(len(plan.outputs))
    plan.update(state, 1, 0, 1, np.ones(len(plan.inputs)), out)
    one = np.ones(1, dtype=np.int64)
    offsets = np.array([0, 1], dtype=np.int64)
    plan.batch(2 * one, one, one, np.ones((1, len(plan.inputs))), offsets, state[np.newaxis], threads=1)
    if view.builder is not None:
        view.builder.advance(view.builder.fresh(), one, one, one, np.ones((1, 6)), flush=True)


def _warmed(model: Model, manifest: BundleManifest) -> Model:
    model.run(np.zeros((1, len(manifest.features))))
    return model
