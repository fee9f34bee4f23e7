"""References of the averages."""

from __future__ import annotations

RECURSIVE = {"EMA", "DEMA", "TEMA", "KAMA"}
