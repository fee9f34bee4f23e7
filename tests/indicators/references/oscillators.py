"""References of the oscillators."""

from __future__ import annotations

RECURSIVE = {"TRIX", "RSI", "CMO", "MACD", "PPO"}
DISCRETE = {"MFI"}  # asks whether two means of three prices are equal
