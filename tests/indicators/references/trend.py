"""References of the trend."""

from __future__ import annotations

RECURSIVE = {"ADX", "DX", "PLUS_DI", "MINUS_DI", "SAR"}
