"""Live sources: a venue's WebSocket becomes events of a stream, whole and in order whatever the connection does.

`LiveSource` says what to listen to, `LiveRunner` listens, records, repairs and sends. What it does with each frame is decided by
`Feed`, which does no I/O: a recording replayed through it gives the same events bit for bit. How it works is told in
docs/how-to/live.md. Public names load at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeline.live.feed import Feed
    from tapeline.live.gaps import list_gaps
    from tapeline.live.recording import read_recording
    from tapeline.live.runner import LiveRunner
    from tapeline.live.source import LiveSource, read_source

_HOMES = {
    "Feed": "feed",
    "LiveRunner": "runner",
    "LiveSource": "source",
    "list_gaps": "gaps",
    "read_recording": "recording",
    "read_source": "source",
}
__all__ = ["Feed", "LiveRunner", "LiveSource", "list_gaps", "read_recording", "read_source"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"tapeline.live.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
