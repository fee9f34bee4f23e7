"""Walking the folds: every prediction that is evaluated was made by a model and a calibration that came before it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import EmptyDataError, UnknownNameError
from tapeline.models.calibration import fit_isotonic
from tapeline.models.logistic import fit_logistic
from tapeline.models.protocol import Features, ScoreModel
from tapeline.models.transformations import (
    Imputation,
    PreprocessedModel,
    fit_preprocessed,
    preprocessing,
    selected,
)
from tapeline.models.trees import fit_trees
from tapeline.stats.classification import log_losses
from tapeline.training.baselines import Baselines
from tapeline.training.config import TrainingConfig
from tapeline.training.dataset import TrainingData
from tapeline.training.selection import selector_of
from tapeline.training.splits import Fold, walk_forward

MODEL = "model"
UNCALIBRATED = "model_uncalibrated"


@dataclass(frozen=True)
class Walk:
    """Out-of-fold predictions.

    Attributes
    ----------
    score
        Uncalibrated score of each row of the data set, NaN for rows that were in no test window.
    rows
        Numbers of the rows that are evaluated: those of test windows after the calibration folds.
    fold
        Number of the fold that each of these rows was tested in.
    probability
        Probabilities of these rows by predictor: the calibrated model, the uncalibrated one, each baseline.
    folds
        Size and span of each fold.
    selected
        Which features each fold's model saw, bool (folds, features); empty if it was not asked to choose.
    permutation
        Increase of the log loss when a feature's values are shuffled within a test window, (folds, features); empty if
        that was not asked for.
    """

    score: NDArray[np.float64]
    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    probability: dict[str, NDArray[np.float64]]
    folds: list[dict[str, int]] = field(default_factory=list)
    selected: NDArray[np.bool_] = field(default_factory=lambda: np.empty((0, 0), dtype=bool))
    permutation: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))


def fit_model(data: TrainingData, rows: NDArray[np.int64], config: TrainingConfig) -> ScoreModel:
    """A model of the configured family behind the configured imputation, scaling and selection.

    All of it is fitted on the given rows alone.

    Raises
    ------
    UnknownNameError
        If the configuration names a feature that the data set has not.
    ParameterError, InvalidDataError, EmptyDataError
        If features are to be selected, and the rows or the features are too few for it.
    """
    names, features, labels = data.names, data.inputs[rows], data.label[rows]

    def fit(rows: Features, outcomes: NDArray[np.float64]) -> ScoreModel:
        if config.family == "logistic":
            return fit_logistic(rows, outcomes)
        return fit_trees(rows, outcomes, parameters=config.parameters, seed=config.seed, threads=config.threads)

    for name in config.imputations:
        if name not in names:
            raise UnknownNameError("feature", name, names, where="imputations")
    wanted = [config.imputations.get(name, config.imputation) for name in names]
    if config.scaling is None and config.selection is None and all(one == "none" for one in wanted):
        return fit(features, labels)
    chosen = [Imputation(one) if isinstance(one, str) else Imputation("constant", one) for one in wanted]
    selector = None
    if config.selection is not None:
        selector = selector_of(
            config.selection,
            data.event_us[rows],
            data.end_us[rows],
            len(names),
            embargo_steps=config.embargo_steps,
            seed=config.seed,
        )
    return fit_preprocessed(preprocessing(chosen, config.scaling, selector), features, labels, fit)


def selected_by(model: ScoreModel, count: int) -> NDArray[np.bool_]:
    """Which of `count` features a model sees, bool (features,)."""
    seen = np.zeros(count, dtype=bool)
    seen[selected(model.pipeline, count) if isinstance(model, PreprocessedModel) else slice(None)] = True
    return seen


def folds_of(data: TrainingData, config: TrainingConfig) -> list[Fold]:
    """The folds of a training.

    Raises
    ------
    EmptyDataError
        If there are too few to calibrate on some and evaluate on others.
    """
    folds = list(
        walk_forward(
            data.event_us,
            data.end_us,
            train_steps=config.train_steps,
            test_steps=config.test_steps,
            embargo_steps=config.embargo_steps,
            window=config.window,
        )
    )
    if len(folds) <= config.calibration_folds:
        raise EmptyDataError(
            f"{len(folds)} folds are too few to calibrate on {config.calibration_folds} and evaluate on the rest",
            remedy="Export a longer span, or choose smaller windows (train_steps, test_steps, calibration_folds)",
        )
    return folds


def walk(
    data: TrainingData, config: TrainingConfig, *, advance: Callable[[], object] = lambda: None, baselines: bool = True
) -> Walk:
    """Fit and predict fold by fold.

    A fold's calibration is fitted on the out-of-fold scores of all earlier test windows whose labels had ended by the
    fold's start. The first folds have too few of those, so they only serve to calibrate the later ones.

    Parameters
    ----------
    data, config
        The data set and the choices.
    advance
        Called after each fold, from several threads.
    baselines
        Whether to fit those too.
    """
    folds = folds_of(data, config)
    rivals = Baselines(data, config) if baselines else None

    def fit(fold: Fold) -> _Fitted:
        fitted = _fit_fold(fold, data, config, rivals)
        advance()
        return fitted

    with ThreadPoolExecutor(config.workers) as pool:
        fits = list(pool.map(fit, folds))
    score = np.full(len(data.label), np.nan)
    rows: list[NDArray[np.int64]] = []
    numbers: list[NDArray[np.int64]] = []
    parts: dict[str, list[NDArray[np.float64]]] = {}
    losses: list[NDArray[np.float64]] = []
    described = []
    for fold, fitted in zip(folds, fits, strict=True):
        before = np.flatnonzero(~np.isnan(score) & (data.end_us <= fold.known_by_us))
        score[fold.test] = fitted.score
        evaluated = _is_evaluated(fold, config) and len(before) > 0
        if evaluated:
            calibration = fit_isotonic(score[before], data.label[before])
            predictions = {MODEL: calibration(fitted.score), UNCALIBRATED: fitted.score} | fitted.rivals
            rows.append(fold.test)
            numbers.append(np.full(len(fold.test), fold.number, dtype=np.int64))
            for name, values in predictions.items():
                parts.setdefault(name, []).append(values)
            if fitted.permutation is not None:
                losses.append(fitted.permutation)
        chosen = {} if config.selection is None else {"selected": int(fitted.selected.sum())}
        described.append(_describe(fold, data, evaluated=evaluated) | chosen)
    if not rows:
        raise EmptyDataError(
            "no test window follows one whose labels had ended",
            remedy="Choose longer test windows or a shorter horizon",
        )
    return Walk(
        score=score,
        rows=np.concatenate(rows),
        fold=np.concatenate(numbers),
        probability={name: np.concatenate(values) for name, values in parts.items()},
        folds=described,
        selected=np.array([fitted.selected for fitted in fits if config.selection is not None], dtype=bool),
        permutation=np.array(losses) if losses else np.empty((0, len(data.names))),
    )


@dataclass(frozen=True)
class _Fitted:
    """What a fold gives without looking at other folds; arrays over its test rows."""

    score: NDArray[np.float64]
    selected: NDArray[np.bool_]
    rivals: dict[str, NDArray[np.float64]]
    permutation: NDArray[np.float64] | None


def _is_evaluated(fold: Fold, config: TrainingConfig) -> bool:
    return fold.number >= config.calibration_folds


def _fit_fold(fold: Fold, data: TrainingData, config: TrainingConfig, rivals: Baselines | None) -> _Fitted:
    model = fit_model(data, fold.train, config)
    score = model.score(data.inputs[fold.test])
    seen = selected_by(model, len(data.names))
    if rivals is None or not _is_evaluated(fold, config):
        return _Fitted(score, seen, {}, None)
    permutation = None
    if config.permutations:
        random = np.random.default_rng([config.seed, fold.number])
        permutation = _permutation_losses(model, data, fold, config.permutations, random)
    return _Fitted(score, seen, rivals.scores(fold), permutation)


def _describe(fold: Fold, data: TrainingData, *, evaluated: bool) -> dict[str, int]:
    moments = data.event_us[fold.test]
    return {
        "number": fold.number,
        "train_rows": len(fold.train),
        "test_rows": len(fold.test),
        "first_test_us": int(moments.min()),
        "last_test_us": int(moments.max()),
        "evaluated": int(evaluated),
    }


def _permutation_losses(
    model: ScoreModel, data: TrainingData, fold: Fold, repeats: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Breiman (2001): what a model loses when one feature no longer belongs to its row."""
    inputs, labels = data.inputs[fold.test], data.label[fold.test]
    base = log_losses(model.score(inputs), labels).mean()
    used = model.importance() > 0
    losses = np.zeros(inputs.shape[1])
    for column in np.flatnonzero(used):
        shuffled = inputs.copy()
        for _ in range(repeats):
            shuffled[:, column] = random.permutation(inputs[:, column])
            losses[column] += log_losses(model.score(shuffled), labels).mean() - base
    return losses / repeats
