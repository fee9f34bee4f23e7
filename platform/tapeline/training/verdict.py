"""One honest paragraph on what the numbers mean."""

from __future__ import annotations

from tapeline.training.evaluation import Comparison, Evaluation
from tapeline.training.walk import MODEL

_WORDS = {
    "base_rate": "the base rate",
    "last_direction": "the last known direction",
    "moving_average_cross": "a moving-average cross",
    "logistic_regression": "logistic regression",
}


def verdict(evaluation: Evaluation, *, significance: float = 0.05) -> str:
    """What may be concluded about the model, most important first.

    The log loss decides whether the probabilities say more than the best baseline's: it is a proper score, so no
    strategy, threshold or cost enters. The best baseline was chosen on the same rows, which makes the comparison a little
    harder for the model.
    """
    loss, profit = evaluation.comparisons["log_loss"], evaluation.comparisons["sharpe"]
    sentences = [_judge(evaluation, loss, "log loss", significance, "no evidence that the model's probabilities beat")]
    auc = evaluation.scores[MODEL]["roc_auc"]
    if auc.low > 0.5:
        sentences.append(
            f"It ranks outcomes better than chance (ROC-AUC {auc.value:.3f}, {auc.low:.3f} to {auc.high:.3f})."
        )
    elif auc.high < 0.5:
        sentences.append(
            f"It ranks outcomes worse than chance (ROC-AUC {auc.value:.3f}, {auc.low:.3f} to {auc.high:.3f})."
        )
    else:
        sentences.append(
            f"Its ranking cannot be told from chance (ROC-AUC {auc.value:.3f}, {auc.low:.3f} to {auc.high:.3f})."
        )
    sentences.append(
        _judge(evaluation, profit, "Sharpe ratio after costs", significance, "no evidence that trading on it beats")
    )
    return " ".join(sentences)


def beats_baselines(evaluation: Evaluation, *, significance: float = 0.05) -> bool:
    """Whether the log loss is better than the best baseline's, beyond chance."""
    return _better(evaluation.comparisons["log_loss"], significance)


def _better(comparison: Comparison, significance: float) -> bool:
    estimate = comparison.difference
    return estimate.value > 0 and estimate.low > 0 and (estimate.p_value or 0.0) < significance


def _judge(evaluation: Evaluation, comparison: Comparison, name: str, significance: float, nothing: str) -> str:
    estimate = comparison.difference
    rival = _WORDS.get(comparison.baseline, comparison.baseline)
    mine, theirs = (evaluation.scores[who][comparison.metric].value for who in (MODEL, comparison.baseline))
    numbers = (
        f"{name} {mine:.4f} against {theirs:.4f}; advantage {estimate.value:+.4f}, 95 % interval {estimate.low:+.4f} to"
        f" {estimate.high:+.4f}, p = {estimate.p_value or 0.0:.3f}"
    )
    if _better(comparison, significance):
        return f"The model beats {rival} ({numbers})."
    if estimate.high < 0:
        return f"The model is worse than {rival} ({numbers})."
    return f"There is {nothing} {rival} ({numbers})."
