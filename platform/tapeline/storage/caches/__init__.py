"""Caches of two levels, in this process and in Redis, that never answer with what is no longer so.

:class:`TwoLevelCache` holds values that are functions of their keys; the other names are its parts, and the counting of what is
popular. Light: the inference server imports it. Nothing here knows what the values mean.
"""

from tapeline.storage.caches.entry import (
    ALWAYS_FROM_US,
    ALWAYS_UNTIL_US,
    PAYLOAD_BYTES_MAX,
    Entry,
    decode_entry,
    encode_entry,
)
from tapeline.storage.caches.memory import ENTRY_BYTES, MemoryCache
from tapeline.storage.caches.policy import CachePolicy, Value
from tapeline.storage.caches.popular import PopularityCounter, read_popular, share_popular
from tapeline.storage.caches.shared import SharedLevel
from tapeline.storage.caches.statistics import CacheStatistics, cache_metrics
from tapeline.storage.caches.two_level import TwoLevelCache

__all__ = [
    "ALWAYS_FROM_US",
    "ALWAYS_UNTIL_US",
    "ENTRY_BYTES",
    "PAYLOAD_BYTES_MAX",
    "CachePolicy",
    "CacheStatistics",
    "Entry",
    "MemoryCache",
    "PopularityCounter",
    "SharedLevel",
    "TwoLevelCache",
    "Value",
    "cache_metrics",
    "decode_entry",
    "encode_entry",
    "read_popular",
    "share_popular",
]
