"""``tapeline.user_tiers``: what users of each tier may ask of the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from tapeline.core.errors import InvalidDataError, UnknownNameError

_COLUMNS = (
    "tier, requests_per_s, burst_requests, entities_per_request_max, live_rows_max, features_allowed, models_allowed,"
    " description"
)


@dataclass(frozen=True, slots=True)
class UserTier:
    """Limits of a tier.

    Attributes
    ----------
    tier
        Its name.
    requests_per_s, burst_requests
        Rate, and how many may come at once; none: no limit.
    entities_per_request_max, live_rows_max
        Of one request.
    features_allowed
        ``view``, ``view@version`` or ``view@version:feature``; none: all.
    models_allowed
        Names of models; none: all.
    description
        For people.
    """

    tier: str
    requests_per_s: float | None
    burst_requests: int | None
    entities_per_request_max: int
    live_rows_max: int
    features_allowed: list[str] | None = None
    models_allowed: list[str] | None = None
    description: str = ""

    def allows_feature(self, view: str, version: int, feature: str) -> bool:
        """Whether a feature may be asked for."""
        if self.features_allowed is None:
            return True
        return not {view, f"{view}@{version}", f"{view}@{version}:{feature}"}.isdisjoint(self.features_allowed)


def read_tiers(connection: psycopg.Connection[Any]) -> list[UserTier]:
    """All tiers, the smallest first."""
    with connection.cursor(row_factory=class_row(UserTier)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM tapeline.user_tiers ORDER BY requests_per_s NULLS LAST, tier"
        ).fetchall()


def read_tier(connection: psycopg.Connection[Any], name: str) -> UserTier:
    """One tier.

    Raises
    ------
    UnknownNameError
        If it does not exist.
    """
    tiers = {tier.tier: tier for tier in read_tiers(connection)}
    if name not in tiers:
        raise UnknownNameError("tier", name, tiers)
    return tiers[name]


def write_tier(connection: psycopg.Connection[Any], tier: UserTier) -> None:
    """Add a tier, or replace the one of its name.

    Raises
    ------
    InvalidDataError
        If a limit is impossible.
    """
    try:
        with connection.transaction():
            connection.execute(
                f"INSERT INTO tapeline.user_tiers ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (tier) DO UPDATE SET requests_per_s = EXCLUDED.requests_per_s,"
                " burst_requests = EXCLUDED.burst_requests,"
                " entities_per_request_max = EXCLUDED.entities_per_request_max,"
                " live_rows_max = EXCLUDED.live_rows_max, features_allowed = EXCLUDED.features_allowed,"
                " models_allowed = EXCLUDED.models_allowed, description = EXCLUDED.description,"
                " changed_timestamp = now()",
                (
                    tier.tier,
                    tier.requests_per_s,
                    tier.burst_requests,
                    tier.entities_per_request_max,
                    tier.live_rows_max,
                    tier.features_allowed,
                    tier.models_allowed,
                    tier.description,
                ),
            )
    except psycopg.errors.IntegrityError as error:
        raise InvalidDataError(
            f"the tier breaks the rule {error.diag.constraint_name or error.diag.column_name}",
            where=f"tier {tier.tier}",
            remedy="See the columns' rules in tapeline.user_tiers",
        ) from error
