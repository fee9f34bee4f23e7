"""Counts the cases that a property test compares with a plain statement of the rule, by what was called.

A case is one entity row of one view. ``make soak`` adds the counts of all its runs up.
"""

from __future__ import annotations

from collections import Counter

counted: Counter[str] = Counter()
"""Of this process."""


def count_cases(call: str, number: int) -> None:
    """So many cases of a call were compared, and every one was right."""
    counted[call] += number
