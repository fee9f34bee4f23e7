"""One examined thing: its verdict, what was found, what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]

_LOCAL_HOSTS = frozenset({"", "localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes
    ----------
    name
        What was looked at.
    verdict
        ``ok``; ``warn``: works, with a risk; ``fail``: something does not work or data may be lost.
    found
        What is the case.
    remedy
        What to do about it; none if there is nothing to do.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """The same as plain data."""
        return asdict(self)


def is_local(host: str) -> bool:
    """Whether what is sent to a host stays on this machine: loopback, or a socket's folder."""
    return host in _LOCAL_HOSTS or host.startswith(("/", "@"))


def megabytes(count: float) -> str:
    """A number of bytes for people."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
