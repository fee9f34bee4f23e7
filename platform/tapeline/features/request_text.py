"""Requests written as text, the way people write them: ``rsi(14), macd(fastperiod=5), atr``."""

from __future__ import annotations

import re

from tapeline.core.errors import ParameterError
from tapeline.features.request import FeatureRequest
from tapeline.indicators.expression import Constant
from tapeline.indicators.specification import indicator_like

_CALL = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(?:\(([^()]*)\))?\s*(,|$)")
_EXAMPLE = "Write for example: rsi(14), macd(12, 26, signalperiod=9), atr"


def parse_requests(text: str) -> tuple[FeatureRequest, ...]:
    """Feature requests of a text: names in any case, arguments by position or name.

    Raises
    ------
    ParameterError
        If the text is no list of features, or an argument is no number or given twice.
    UnknownNameError
        If a feature or parameter does not exist; the message names the nearest.

    Examples
    --------
    >>> [request.columns[0] for request in parse_requests("rsi(5), macd(signalperiod=4)")]
    ['rsi_5', 'macd_12_26_4']
    """
    requests: list[FeatureRequest] = []
    at = 0
    while at < len(text) or not requests:
        match = _CALL.match(text, at)
        if match is None:
            raise ParameterError(f"{text[at:].strip()!r} is no feature", where=f"{text!r}, at {at}", remedy=_EXAMPLE)
        requests.append(_request(match[1], match[2] or ""))
        at = match.end()
    return tuple(requests)


def _request(name: str, arguments: str) -> FeatureRequest:
    indicator = indicator_like(name)
    where = f"{name}({arguments})"
    names = [parameter.name for parameter in indicator.parameters]
    given: dict[str, Constant] = {}
    for position, argument in enumerate(part.strip() for part in arguments.split(",") if arguments.strip()):
        key, equals, value = argument.rpartition("=")
        if not equals and position >= len(names):
            raise ParameterError(f"{indicator.name} takes {len(names)} parameters", where=where, remedy=_EXAMPLE)
        key = key.strip() if equals else names[position]
        if key in given:
            raise ParameterError(f"{key} is given twice", where=where)
        given[key] = _number(value.strip(), where)
    return FeatureRequest(indicator.name, tuple(given.items()))


def _number(text: str, where: str) -> Constant:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise ParameterError(f"{text!r} is no number", where=where, remedy=_EXAMPLE)
