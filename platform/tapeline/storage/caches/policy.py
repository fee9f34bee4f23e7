"""What holds for all entries of a cache, and what a computation may say about one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tapeline.core.errors import ParameterError
from tapeline.storage.caches.entry import ALWAYS_FROM_US, ALWAYS_UNTIL_US


@dataclass(frozen=True)
class CachePolicy:
    """What holds for all entries of one cache.

    Attributes
    ----------
    name
        Part of every key, and the label of its metrics: letters only.
    ttl_us
        How long an entry is used, by the injected clock.
    compress_above_bytes
        Longer values are compressed for the second level.
    lock_above_us
        From which computing time on processes wait for each other; a mean of what was measured is compared with it.
    lease_ms
        How long a lock holds if its holder dies.
    wait_ms
        How long anybody waits for another's computation before computing the same.
    """

    name: str
    ttl_us: int
    compress_above_bytes: int = 8_192
    lock_above_us: int = 1_000
    lease_ms: int = 5_000
    wait_ms: int = 500

    def __post_init__(self) -> None:
        if not self.name.isalpha():
            raise ParameterError(f"{self.name!r} cannot name a cache", remedy="Use letters only")
        if min(self.ttl_us, self.lease_ms, self.wait_ms) < 1:
            raise ParameterError(
                "a time to live, a lease and a wait last longer than nothing", where=f"cache {self.name}"
            )


class Value(NamedTuple):
    """What a computation gave.

    Attributes
    ----------
    payload
        The value's bytes.
    from_us, until_us
        First and last moment at which it is right, both included.
    keep
        Whether others may be given it; if not, it is for who computed it only.
    """

    payload: bytes
    from_us: int = ALWAYS_FROM_US
    until_us: int = ALWAYS_UNTIL_US
    keep: bool = True
