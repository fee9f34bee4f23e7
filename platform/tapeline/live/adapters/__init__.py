"""Formats of venues: what to say to one, and what its words mean. No I/O, no state.

Each adapter keeps the contract of :class:`tapeline.live.adapters.base.Adapter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapeline.live.adapters.base import Adapter, HttpRequest

if TYPE_CHECKING:
    from tapeline.live.source import LiveSource

__all__ = ["Adapter", "HttpRequest", "adapter_of"]


def adapter_of(source: LiveSource) -> Adapter:
    """The adapter that a live source names.

    Raises
    ------
    ConfigurationError
        If the source asks for something that the venue does not have.
    """
    if source.adapter == "binance":
        from tapeline.live.adapters.binance import Binance

        return Binance(source)
    if source.adapter == "kraken":
        from tapeline.live.adapters.kraken import Kraken

        return Kraken(source)
    from tapeline.live.adapters.mapping import MappedJson

    return MappedJson(source)
