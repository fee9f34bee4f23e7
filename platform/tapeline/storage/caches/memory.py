"""The first level: entries of this process, the longest unused leaving first when their bytes pass the limit."""

from __future__ import annotations

from collections import OrderedDict

from tapeline.core.errors import ParameterError
from tapeline.storage.caches.entry import Entry

ENTRY_BYTES = 448
"""What an entry takes beside its key and payload: three objects' heads, three numbers, a node of the order. Measured."""


class MemoryCache:
    """Entries in the order of their last use, bounded by bytes.

    Belongs to one event loop, or one thread. It knows no time: who asks judges what it finds.

    Parameters
    ----------
    bytes_max
        Of keys, payloads and ``ENTRY_BYTES`` for each entry, together.

    Attributes
    ----------
    size_bytes
        What its entries take now.
    evictions
        Entries that had to leave for others.
    """

    def __init__(self, bytes_max: int) -> None:
        if bytes_max < 0:
            raise ParameterError(f"a limit of {bytes_max} bytes is negative", where="first level of the caches")
        self.bytes_max = bytes_max
        self.size_bytes = 0
        self.evictions = 0
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Entry | None:
        """The entry of a key, which thereby becomes the last to leave."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry; one that is larger than everything together may be is not kept, nor is what it replaces."""
        self.drop(key)
        size = _size(key, entry)
        if size > self.bytes_max:
            return
        self._entries[key] = entry
        self.size_bytes += size
        while self.size_bytes > self.bytes_max:
            oldest, left = self._entries.popitem(last=False)
            self.size_bytes -= _size(oldest, left)
            self.evictions += 1

    def drop(self, key: bytes) -> None:
        """Forget a key, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= _size(key, entry)

    def drop_prefix(self, prefix: bytes) -> int:
        """Forget all keys that begin with some bytes; returns how many."""
        keys = [key for key in self._entries if key.startswith(prefix)]
        for key in keys:
            self.drop(key)
        return len(keys)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.size_bytes = 0


def _size(key: bytes, entry: Entry) -> int:
    return ENTRY_BYTES + len(key) + (len(entry.payload) if entry.payload is not None else 0)
