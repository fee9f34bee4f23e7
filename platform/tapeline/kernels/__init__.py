"""Numba loops and nothing else: arrays in, arrays out.

A *primitive* is a compiled step ``step(state, at, …) -> value(s)`` over a flat float64 state; feature plans fuse many
of them into one function. Importing this package points numba's disk cache at a private folder that is keyed by the
sources of all kernels, because numba itself does not notice an edit in a file that a cached function only calls.
"""

from __future__ import annotations

import numba

from tapeline.kernels.cache import cache_folder, kernel_sources_hash

numba.config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]

__all__ = ["cache_folder", "kernel_sources_hash"]
