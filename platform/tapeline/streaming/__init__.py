"""Streams: events in Redis Streams, and the workers that turn them into features while they happen.

`Producer` sends events, `Worker` computes from them what a back-fill would compute from the raw rows that it writes, bit for
bit. How it works is told in docs/streams.md. Public names load at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeline.streaming.codec import EventKind, Events
    from tapeline.streaming.plan import StreamPlan
    from tapeline.streaming.producer import Producer
    from tapeline.streaming.worker import Worker

_HOMES = {"EventKind": "codec", "Events": "codec", "StreamPlan": "plan", "Producer": "producer", "Worker": "worker"}
__all__ = ["EventKind", "Events", "Producer", "StreamPlan", "Worker"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"tapeline.streaming.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
