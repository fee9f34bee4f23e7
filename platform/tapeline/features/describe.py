"""Specifications as plain data, and search among them."""

from __future__ import annotations

import difflib
import re

from tapeline.core.errors import UnknownNameError
from tapeline.indicators import Indicator, all_indicators
from tapeline.indicators.custom import load_feature_modules
from tapeline.indicators.formula import formula

_NEAR = 0.75
"""Similarity from which a word counts as misspelt rather than as another."""


def all_features(group: str | None = None) -> list[Indicator]:
    """Every feature, custom ones included, by group and name.

    Raises
    ------
    UnknownNameError
        If there is no such group.
    ConfigurationError
        If a configured module of custom features cannot be loaded.
    """
    load_feature_modules()
    found = sorted(all_indicators(), key=lambda indicator: (indicator.group, indicator.name))
    groups = {indicator.group for indicator in found}
    if group is not None and group not in groups:
        raise UnknownNameError("group of features", group, groups)
    return [indicator for indicator in found if group in {None, indicator.group}]


def describe(indicator: Indicator) -> dict[str, object]:
    """A specification as plain data; output names and warm-up (in rows) are those of the default parameters.

    ``unit`` and ``warm_up`` at the top are all outputs' units, joined, and the longest warm-up.
    """
    outputs = _outputs(indicator)
    return {
        "name": indicator.name,
        "group": indicator.group,
        "summary": indicator.summary,
        "inputs": list(indicator.inputs),
        "parameters": [
            {"name": p.name, "default": p.default, "lowest": p.lowest, "highest": p.highest}
            for p in indicator.parameters
        ],
        "outputs": [{"name": name, "unit": unit, "warm_up": warm_up} for name, unit, warm_up in outputs],
        "unit": ", ".join(dict.fromkeys(unit for _, unit, _ in outputs)),
        "warm_up": max(warm_up for *_, warm_up in outputs),
        "source": indicator.source,
        "oracle": indicator.oracle,
    }


def describe_for_people(indicator: Indicator) -> dict[str, object]:
    """A specification as lines to read, with its formula."""
    written = formula(indicator)
    return {
        "name": indicator.name,
        "group": indicator.group,
        "summary": indicator.summary,
        "formula": "\n".join(written.lines),
        "where": "\n".join([*(f"{step}: {meaning}" for step, meaning in written.steps.items()), *written.notes]),
        "inputs": list(indicator.inputs),
        "parameters": [f"{p.name} = {p.default:g} ({p.lowest:g} to {p.highest:g})" for p in indicator.parameters],
        "outputs": [f"{name} ({unit}, from row {warm_up} on)" for name, unit, warm_up in _outputs(indicator)],
        "source": indicator.source,
        "oracle": indicator.oracle,
    }


def summarise(indicator: Indicator) -> dict[str, object]:
    """A line of a table."""
    return {
        "name": indicator.name,
        "group": indicator.group,
        "inputs": " ".join(indicator.inputs),
        "parameters": " ".join(f"{p.name}={p.default:g}" for p in indicator.parameters) or "–",
        "summary": indicator.summary,
    }


def _outputs(indicator: Indicator) -> list[tuple[str, str, int]]:
    units = indicator.outputs.values()
    made = zip(indicator.columns({}), units, indicator.expressions({}), strict=True)
    return [(name, unit, expression.operation.warm_up) for name, unit, expression in made]


def search(words: str, limit: int = 20) -> list[Indicator]:
    """Features whose name, outputs, group, summary or source hold most of the words, or words much like them.

    Parameters
    ----------
    words
        Separated by spaces; case does not matter.
    limit
        The most to return.

    Returns
    -------
    list of Indicator
        Best first: names before outputs, those before summaries, those before sources.
    """
    wanted = _words(words)
    scored = [(_score(wanted, indicator), indicator) for indicator in all_features()] if wanted else []
    best = sorted(((score, i) for score, i in scored if score > 0.0), key=lambda pair: (-pair[0], pair[1].name))
    return [indicator for _, indicator in best[:limit]]


def _score(wanted: list[str], indicator: Indicator) -> float:
    """Sum over the wanted words of the best place's weight times likeness; 0 if half of them or more are nowhere."""
    places = (
        (8.0, [indicator.name.casefold(), *_words(indicator.name)]),
        (4.0, [word for output in indicator.outputs for word in _words(output)]),
        (2.0, [indicator.group, *_words(indicator.summary)]),
        (1.0, _words(indicator.source)),
    )
    best = [
        max(weight * max((_likeness(word, other) for other in known), default=0.0) for weight, known in places)
        for word in wanted
    ]
    return sum(best) if 2 * best.count(0.0) < len(best) else 0.0


def _likeness(word: str, other: str) -> float:
    if word == other:
        return 1.0
    if len(word) >= 3 and other.startswith(word):
        return 0.9
    if len(word) >= 3 and sorted(word) == sorted(other):
        return 0.8  # letters changed places
    ratio = difflib.SequenceMatcher(None, word, other).ratio() if abs(len(word) - len(other)) <= 2 else 0.0
    return ratio * 0.8 if ratio >= _NEAR else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.casefold().replace("_", " "))
