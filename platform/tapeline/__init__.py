"""Tapeline: point-in-time-correct features for market data, from the tape to a served prediction."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "as_of":
        # Loaded when asked for, and by name, so that the inference server neither pays for nor depends on it.
        from importlib import import_module

        return import_module("tapeline.datasets.vintage").as_of
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
