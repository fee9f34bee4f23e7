"""Features as Polars expressions: ``df.with_columns(tl.rsi(14), tl.macd().over("symbol"))``.

One function for each feature, named as the feature is in lower case, eager and lazy; ``tl.return_`` has an underscore
because ``return`` is a word of Python. Features of your own are ``tl.<namespace>.<name>``. :func:`fuse` computes several
with one compiled plan. The same kernels run here as in back-fill, stream and server.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tapeline.core.errors import MissingExtraError, UnknownNameError
from tapeline.indicators import all_indicators
from tapeline.indicators.custom import load_feature_modules

try:
    from tapeline.polars.feature_expression import AUTO, Feature, fuse
except ModuleNotFoundError as error:
    if error.name != "polars":
        raise
    raise MissingExtraError("polars", "feast") from None
from tapeline.polars.functions import function_name, function_of

_OWN = {"AUTO": AUTO, "Feature": Feature, "fuse": fuse}
_FUNCTIONS = {function_name(i): function_of(i, __name__) for i in all_indicators() if "." not in i.name}
globals().update(_FUNCTIONS)

__all__ = [*_OWN, *_FUNCTIONS]  # noqa: PLE0604


def _namespaces() -> dict[str, SimpleNamespace]:
    """Custom features by namespace."""
    load_feature_modules()
    found: dict[str, dict[str, Any]] = {}
    for indicator in all_indicators():
        namespace, dot, _ = indicator.name.rpartition(".")
        if dot:
            found.setdefault(namespace, {})[function_name(indicator)] = function_of(
                indicator, f"{__name__}.{namespace}"
            )
    return {namespace: SimpleNamespace(**functions) for namespace, functions in found.items()}


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        namespaces = _namespaces()
        if name in namespaces:
            return namespaces[name]
        known = [*__all__, *namespaces]
        raise AttributeError(str(UnknownNameError("feature", name, known)))
    raise AttributeError(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_namespaces()])
