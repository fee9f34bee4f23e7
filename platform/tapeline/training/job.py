"""A training from an exported folder to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline.core.timestamps import format_us
from tapeline.export.parity import ParityReport
from tapeline.models import fit_isotonic
from tapeline.models.transformations import stability_of
from tapeline.registry import BundleManifest
from tapeline.training.bundle import check_target, make_bundle
from tapeline.training.config import TrainingConfig
from tapeline.training.dataset import TrainingData, load_dataset
from tapeline.training.evaluation import Evaluation, evaluate
from tapeline.training.verdict import beats_baselines, verdict
from tapeline.training.walk import MODEL, Walk, fit_model, folds_of, selected_by, walk


@dataclass(frozen=True)
class Trained:
    """What a training made.

    Attributes
    ----------
    manifest
        Of the bundle, which is not registered yet.
    evaluation
        The model against its baselines.
    verdict
        One honest paragraph on it.
    importance
        Features with their gain and permutation importance, greatest gain first.
    parity
        How far the exported model is from the native one.
    """

    manifest: BundleManifest
    evaluation: Evaluation
    verdict: str
    importance: list[dict[str, Any]]
    parity: ParityReport


def train(
    data_dir: Path,
    name: str,
    out_dir: Path,
    *,
    config: TrainingConfig | None = None,
    notify: Callable[[str, int | None], Callable[[], object]] = lambda _text, _total: lambda: None,
) -> Trained:
    """Train, judge, calibrate, export and bundle a model.

    The walk-forward predictions serve twice: they are what the model is judged by, and what the final calibration is
    fitted on. The final model is then fitted on all rows, none held back; scikit-learn's ``CalibratedClassifierCV``
    with ``ensemble=False`` does the same on unordered data. The judged models used earlier calibrations made in this
    very way, so the judgement is of the procedure that is delivered.

    Parameters
    ----------
    data_dir
        A folder that ``tapeline export`` wrote, with labels of 0 and 1.
    name
        Name of the model: small letters, digits, underscores.
    out_dir
        Where the bundle folder is written; must not exist.
    config
        Choices; none: the defaults.
    notify
        Called with the name of a stage and its number of steps; gives what is called after each step.

    Raises
    ------
    IntegrityError, InvalidDataError, EmptyDataError
        If the data set is altered, has no such labels, or is too short.
    ParityError
        If the exported model does not reproduce the native one.
    LineageError, ParameterError, UnknownNameError
        If a view, a parameter or a chosen feature is not as it must be.
    """
    check_target(name, out_dir)
    config = config or TrainingConfig()
    notify("reading", None)
    data, dataset = load_dataset(data_dir)
    walked = walk(data, config, advance=notify("walk-forward", len(folds_of(data, config))))
    notify("evaluation", None)
    evaluation = evaluate(data, walked, config)
    notify("final model", None)
    tested = np.flatnonzero(~np.isnan(walked.score))
    calibration = fit_isotonic(walked.score[tested], data.label[tested])
    model = fit_model(data, np.arange(len(data.label)), config)
    selection = _selection(data, walked, selected_by(model, len(data.names)), config)
    importance = _importance(data, walked, model.importance())
    words = verdict(evaluation, significance=config.significance)
    notify("export", None)
    manifest, parity = make_bundle(
        out_dir,
        name=name,
        model=model,
        calibration=calibration,
        data=data,
        dataset=dataset,
        metrics=_metrics(evaluation, words, importance, config) | selection,
        training=_training(data, walked, config),
        seed=config.seed,
    )
    return Trained(manifest, evaluation, words, importance, parity)


def _importance(data: TrainingData, walked: Walk, gain: np.ndarray[Any, np.dtype[np.float64]]) -> list[dict[str, Any]]:
    folds = len(walked.permutation)
    rows = []
    for column in np.argsort(-gain, kind="stable").tolist():
        row: dict[str, Any] = {"feature": data.names[column], "gain": float(gain[column])}
        if folds:
            losses = walked.permutation[:, column]
            row["permutation"] = float(losses.mean())
            row["permutation_error"] = float(losses.std(ddof=1) / np.sqrt(folds)) if folds > 1 else None
        rows.append(row)
    return rows


def _metrics(
    evaluation: Evaluation, words: str, importance: list[dict[str, Any]], config: TrainingConfig
) -> dict[str, Any]:
    scores = {
        predictor: {metric: estimate.to_dict() for metric, estimate in metrics.items()}
        for predictor, metrics in evaluation.scores.items()
    }
    return {
        "model": scores.pop(MODEL),
        "baselines": scores,
        "against_best_baseline": {name: one.to_dict() for name, one in evaluation.comparisons.items()},
        "beats_baselines": beats_baselines(evaluation, significance=config.significance),
        "verdict": words,
        "evaluation": evaluation.details,
        "calibration_curve": evaluation.calibration_curve,
        "importance": importance,
    }


def _selection(data: TrainingData, walked: Walk, chosen: NDArray[np.bool_], config: TrainingConfig) -> dict[str, Any]:
    """Which features the final model sees, and how far the folds agree on them; nothing if all features were taken."""
    if config.selection is None:
        return {}
    stability = stability_of(walked.selected)
    return {
        "selection": {
            "method": config.selection.method,
            "features": [name for name, seen in zip(data.names, chosen, strict=True) if seen],
            "stability": stability.score if np.isfinite(stability.score) else None,
            "frequency": dict(zip(data.names, stability.frequency.tolist(), strict=True)),
        }
    }


def _training(data: TrainingData, walked: Walk, config: TrainingConfig) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json"),
        "rows": len(data.label),
        "steps": len(data.times),
        "symbols": list(data.symbols),
        "first": format_us(int(data.event_us.min())),
        "last": format_us(int(data.event_us.max())),
        "folds": walked.folds,
    }
