"""The type stub of ``tapeline.polars``: signatures for editors and type checkers."""

from __future__ import annotations

from collections.abc import Sequence

from tapeline.indicators import Indicator
from tapeline.polars.functions import function_name

_HEAD = '''"""Features as Polars expressions. Written by ``make docs`` from the specifications."""

# ruff: noqa
from types import SimpleNamespace

from tapeline.polars.feature_expression import AUTO as AUTO
from tapeline.polars.feature_expression import Feature as Feature
from tapeline.polars.feature_expression import IntoColumn, Time
from tapeline.polars.feature_expression import fuse as fuse

def __getattr__(name: str) -> SimpleNamespace: ...
'''


def text(indicators: Sequence[Indicator]) -> str:
    """The stub's text, functions in alphabetical order."""
    return _HEAD + "".join(_function(i) for i in sorted(indicators, key=function_name))


def _function(indicator: Indicator) -> str:
    arguments = [f"{p.name}: {type(p.default).__name__} = {p.default!r}" for p in indicator.parameters]
    arguments.append("*")
    arguments += [f'{name}: IntoColumn = "{name}"' for name in indicator.inputs if name != "time"]
    arguments += ["split_ratio: IntoColumn | None = None", "time: Time = ..."]
    lines = "".join(f"    {argument},\n" for argument in arguments)
    return f'def {function_name(indicator)}(\n{lines}) -> Feature:\n    """{indicator.summary}"""\n'
