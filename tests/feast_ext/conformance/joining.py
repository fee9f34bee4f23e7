"""Which value an entity row gets: the point-in-time rule as far as Feast's stores have it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from tests.feast_ext.conformance.contract import contract, rows
from tests.feast_ext.conformance.world import TABLES, World, at

Asked = tuple[int | None, datetime]


def drivers(*asked: Asked, **columns: Any) -> pd.DataFrame:
    """Entity rows, numbered in ``n``."""
    return pd.DataFrame(
        {
            "driver_id": [driver for driver, _ in asked],
            "event_timestamp": pd.to_datetime([moment for _, moment in asked], utc=True),
            "n": range(len(asked)),
            **columns,
        }
    )


def rates(world: World, *asked: Asked, view: str = "stats", **options: Any) -> list[Any]:
    return rows(world.historical(drivers(*asked), [f"{view}:rate"], **options), "rate")


@contract([1.0])
def a_row_is_seen_at_its_own_moment(world: World) -> Any:
    return rates(world, (1, at("09:00")))


@contract([1.0, 3.0])
def the_newest_earlier_row_counts(world: World) -> Any:
    return rates(world, (1, at("09:59:59.999999")), (1, at("14:00")))


@contract([4.0, None])
def the_ttl_includes_its_edge(world: World) -> Any:
    return rates(world, (2, at("14:00")), (2, at("14:00:00.000001")))


@contract([4.0])
def without_ttl_a_value_lasts(world: World) -> Any:
    return rates(world, (2, at("11:00", day=31)), view="forever")


@contract([None, None])
def before_all_data_there_is_nothing(world: World) -> Any:
    return rates(world, (1, at("08:59:59.999999")), (2, at("00:00")))


@contract([None, 1.0])
def an_unknown_entity_has_nothing(world: World) -> Any:
    return rates(world, (99, at("09:00")), (1, at("09:00")))


@contract([[2.5, 20], [2.5, 20]])
def of_one_moment_the_row_created_last_counts(world: World) -> Any:
    return rows(
        world.historical(drivers((1, at("10:00")), (1, at("11:59"))), ["stats:rate", "stats:trips"]), "rate", "trips"
    )


@contract([None, 1.0, 2.0, 3.0])
def by_created_time_a_row_counts_once_recorded(world: World) -> Any:
    moments = [(1, at(clock)) for clock in ("09:00", "10:00", "11:00", "12:30")]
    return rates(world, *moments, filter_by_created_timestamp=True)


@contract([3.0, 2.5])
def a_null_value_is_a_value(world: World) -> Any:
    """A row whose feature is null hides the older row: nothing is filled in from it."""
    moments = drivers((1, at("12:00")), (1, at("10:30")))
    return rows(world.historical(moments, ["stats:rate", "stats:trips"]), "rate")


@contract([[2.0, None]])
def a_null_of_the_newest_row_stays_null(world: World) -> Any:
    found = world.historical(drivers((1, at("11:00"))), ["stats:rate", "stats:trips"], filter_by_created_timestamp=True)
    return rows(found, "rate", "trips")


def routes(*keys: tuple[str | None, str | None]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "origin": [origin for origin, _ in keys],
            "target": [target for _, target in keys],
            "event_timestamp": pd.to_datetime([at("12:00")] * len(keys), utc=True),
            "n": range(len(keys)),
        }
    )


@contract([11.0, 22.0, None])
def composite_keys_match_together(world: World) -> Any:
    return rows(world.historical(routes(("a", "c"), ("ab", "bc"), ("c", "a")), ["routes:minutes"]), "minutes")


@contract([12.0, 21.0])
def composite_keys_that_read_alike_differ(world: World) -> Any:
    """Put together without a separator, both keys are ``abc``."""
    return rows(world.historical(routes(("a", "bc"), ("ab", "c")), ["routes:minutes"]), "minutes")


@contract([None, 11.0])
def a_null_key_has_nothing(world: World) -> Any:
    return rows(world.historical(routes((None, "c"), ("a", "c")), ["routes:minutes"]), "minutes")


@contract([1.0, None])
def a_null_number_has_nothing(world: World) -> Any:
    asked = drivers((1, at("09:00")), (None, at("09:00"))).astype({"driver_id": "Int64"})
    return rows(world.historical(asked, ["stats:rate"]), "rate")


@contract([[1.0, None], [3.0, 0.5]])
def a_view_without_entities_joins_every_row(world: World) -> Any:
    asked = drivers((1, at("09:00")), (1, at("12:30")))
    return rows(world.historical(asked, ["stats:rate", "weather:rain"]), "rate", "rain")


@contract([[3.0, 11.0]])
def views_with_different_keys_join_at_once(world: World) -> Any:
    asked = drivers((1, at("12:00")), origin=["a"], target=["c"])
    return rows(world.historical(asked, ["stats:rate", "routes:minutes"]), "rate", "minutes")


@contract([[1.0, None], [3.0, 4.0]])
def one_view_in_two_roles(world: World) -> Any:
    asked = pd.DataFrame({"first_id": [1, 1], "second_id": [2, 2], "n": [0, 1]})
    asked["event_timestamp"] = pd.to_datetime([at("09:00"), at("12:00")], utc=True)
    service = world.store.get_feature_service("two_roles")
    return rows(world.historical(asked, service, full_feature_names=True), "first__rate", "second__rate")


def _many() -> list[Asked]:
    random = np.random.default_rng(7)
    return [
        (int(random.integers(1, 4)), at("08:00") + timedelta(minutes=int(random.integers(0, 540)))) for _ in range(200)
    ]


def _rule(driver: int, moment: datetime, *, created: bool) -> float | None:
    """The rule in a sentence: of the rows known by then and no older than the TTL, the last by event and created time."""
    seen = [
        (event, recorded, rate)
        for who, event, recorded, rate, _ in TABLES["stats"].rows
        if who == driver and moment - timedelta(hours=3) <= event <= moment and (not created or recorded <= moment)
    ]
    return max(seen)[2] if seen else None


@contract([_rule(*asked, created=False) for asked in _many()])
def many_rows_follow_the_rule(world: World) -> Any:
    return rates(world, *_many())


@contract([_rule(*asked, created=True) for asked in _many()])
def many_rows_follow_the_rule_by_created_time(world: World) -> Any:
    return rates(world, *_many(), filter_by_created_timestamp=True)
