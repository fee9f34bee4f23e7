"""What a contract of an online store is: a question and the answer that is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.feast_ext.online_conformance.world import World


@dataclass(frozen=True)
class Contract:
    """A question to a store whose database is empty, and its answer."""

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
