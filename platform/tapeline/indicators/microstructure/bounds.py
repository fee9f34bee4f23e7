"""Refusal of parameters that do not fit each other."""

from __future__ import annotations

from tapeline.core.errors import ParameterError


def below(name: str, value: int, limit_name: str, limit: int, indicator: str) -> None:
    """Refuse a parameter that is not below a limit that another one sets."""
    if value >= limit:
        raise ParameterError(
            f"{name} {value} is not below {limit_name} {limit}",
            where=f"indicator {indicator}",
            remedy=f"Give a larger window or a smaller {name}",
        )
