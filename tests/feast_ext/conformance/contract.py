"""What a contract is: a question to a store, with the answer that is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tests.feast_ext.conformance.world import World


@dataclass(frozen=True)
class Contract:
    """A question and its answer.

    Attributes
    ----------
    name
        Of the function that asks.
    ask
        Asks a store; returns plain Python values.
    answer
        What should come back.
    """

    name: str
    ask: Callable[[World], Any]
    answer: Any


CONTRACTS: dict[str, Contract] = {}


def contract(answer: Any, *, name: str | None = None) -> Callable[[Callable[[World], Any]], Callable[[World], Any]]:
    """Register a function as a contract with this answer."""

    def register(ask: Callable[[World], Any]) -> Callable[[World], Any]:
        called = name or ask.__name__
        assert called not in CONTRACTS, f"two contracts are called {called}"
        CONTRACTS[called] = Contract(called, ask, answer)
        return ask

    return register


@dataclass(frozen=True)
class Difference:
    """What a store does instead of keeping a contract.

    Attributes
    ----------
    reason
        Why, in a sentence.
    gives
        The answer that it gives.
    raises, match
        Or the error that it raises, and words of it.
    """

    reason: str
    gives: Any = None
    raises: type[BaseException] | None = None
    match: str = ""


def plain(value: Any) -> Any:
    """A value in Python's own types: no NaN, no NumPy, times as text in UTC (a naive one counts as UTC)."""
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, datetime):
        moment = pd.Timestamp(value)
        moment = moment.tz_localize(UTC) if moment.tzinfo is None else moment.tz_convert(UTC)
        return f"{moment:%m-%d %H:%M:%S}" + (f".{moment.microsecond:06d}" if moment.microsecond else "")
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def rows(table: pa.Table | pd.DataFrame, *names: str, by: str | None = "n") -> list[Any]:
    """Columns of a result row by row, in the order of a column: stores that keep no order have one here.

    One name gives its values, several give lists of values.
    """
    table = table.to_arrow() if hasattr(table, "to_arrow") else table
    found = table.to_pylist() if isinstance(table, pa.Table) else table.to_dict("records")
    if by is not None:
        found = sorted(found, key=lambda row: plain(row[by]))
    out = [[plain(row[name]) for name in names] for row in found]
    return [row[0] for row in out] if len(names) == 1 else out
