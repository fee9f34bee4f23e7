"""What a request gives, and how it says what is not there."""

from __future__ import annotations

from datetime import datetime
from itertools import permutations
from typing import Any

import pytest

from tests.feast_ext.conformance.feast_types import TYPES
from tests.feast_ext.online_conformance.contract import contract
from tests.feast_ext.online_conformance.world import HOUR, NOON, SECOND, World, frame


def _as_feast_keeps_it(value: Any) -> Any:
    """Feast's timestamps are whole seconds."""
    if isinstance(value, list):
        return [_as_feast_keeps_it(item) for item in value]
    return value.replace(microsecond=0) if isinstance(value, datetime) else value


def _type_contract(name: str) -> None:
    @contract(
        [_as_feast_keeps_it(TYPES[name].value), None], name=f"a_value_of_type_{name}_comes_back_and_so_does_a_null"
    )
    def ask(world: World) -> Any:
        values = {other: case.value for other, case in TYPES.items()}
        # Each in a batch of its own: in one, Feast makes a column with a null into doubles.
        world.write("typed", {"driver_id": 1, "created": NOON, **values})
        world.write("typed", {"driver_id": 2, "created": NOON, **dict.fromkeys(TYPES)})
        return world.read([f"typed:{name}"], [{"driver_id": 1}, {"driver_id": 2}]).columns[name]


for _name in TYPES:
    _type_contract(_name)


@contract(["PRESENT", "NULL_VALUE", "NOT_FOUND"])
def statuses_tell_present_null_and_missing(world: World) -> Any:
    world.write("stats", world.rate(1), world.rate(2, rate=None))
    return world.read(["stats:rate"], [{"driver_id": n} for n in (1, 2, 3)]).statuses["rate"]


@contract([1.0, None, None])
def null_and_missing_are_none(world: World) -> Any:
    world.write("stats", world.rate(1), world.rate(2, rate=None))
    return world.rates(1, 2, 3)


@contract([[1.0, "PRESENT"], [None, "OUTSIDE_MAX_AGE"]])
def the_ttl_includes_its_edge(world: World) -> Any:
    world.write("stats", world.rate(1, NOON - HOUR), world.rate(2, NOON - HOUR - SECOND))
    found = world.read(["stats:rate"], [{"driver_id": 1}, {"driver_id": 2}])
    return [list(pair) for pair in zip(found.columns["rate"], found.statuses["rate"], strict=True)]


@contract([1.0])
def without_ttl_a_value_lasts(world: World) -> Any:
    world.write("forever", world.rate(1, NOON - 9_000 * HOUR))
    return world.read(["forever:rate"], [{"driver_id": 1}]).columns["rate"]


@contract([None])
def a_row_of_after_the_moment_is_not_there_yet(world: World) -> Any:
    world.write("forever", world.rate(1, NOON + SECOND))
    return world.read(["forever:rate"], [{"driver_id": 1}]).columns["rate"]


@contract(True)
def columns_come_as_they_were_asked_for(world: World) -> Any:
    """In every order in which the features of two views can be asked for."""
    world.write("stats", world.rate(1))
    keys = {"driver_id": 1, "origin": "a", "target": "b"}
    return all(
        list(world.read([*features], [keys]).columns) == [*keys, *(feature.partition(":")[2] for feature in features)]
        for features in permutations(["stats:rate", "routes:minutes", "stats:trips"])
    )


@contract([3.0, 1.0, None, 3.0])
def rows_come_as_they_were_asked_for_repeated_ones_too(world: World) -> Any:
    world.write("stats", *(world.rate(n, rate=float(n)) for n in (1, 2, 3)))
    return world.rates(3, 1, 9, 3)


@contract([2.0, 1.0])
def composite_keys_that_read_alike_differ(world: World) -> Any:
    keys = [("a", "bc"), ("ab", "c")]
    world.write(
        "routes", *({"origin": o, "target": t, "minutes": n, "created": NOON} for n, (o, t) in enumerate(keys, 1))
    )
    asked = [{"origin": origin, "target": target} for origin, target in keys[::-1]]
    return world.read(["routes:minutes"], asked).columns["minutes"]


@contract({"stats__rate": [1.0], "forever__rate": [2.0]})
def full_names_tell_views_apart(world: World) -> Any:
    world.write("stats", world.rate(1))
    world.write("forever", world.rate(1, rate=2.0))
    found = world.read(["stats:rate", "forever:rate"], [{"driver_id": 1}], full_feature_names=True).columns
    return {name: found[name] for name in ("stats__rate", "forever__rate")}


@contract([60, None])
def event_times_come_with_the_values(world: World) -> Any:
    world.write("stats", world.rate(1, NOON - 60 * SECOND))
    return world.read(["stats:rate"], [{"driver_id": 1}, {"driver_id": 2}]).events["rate"]


@contract([[1], [7.0]])
def a_service_gives_its_features(world: World) -> Any:
    world.write("stats", world.rate(1))
    world.write("routes", {"origin": "a", "target": "b", "minutes": 7.0, "created": NOON})
    service = world.store.get_feature_service("drivers")
    found = world.read(service, [{"driver_id": 1, "origin": "a", "target": "b"}]).columns
    return [found["trips"], found["minutes"]]


@contract([[1.0], [2.0]])
def one_view_in_two_roles(world: World) -> Any:
    world.write("stats", world.rate(1), world.rate(2, rate=2.0))
    service = world.store.get_feature_service("two_roles")
    found = world.read(service, [{"first_id": 1, "second_id": 2}], full_feature_names=True).columns
    return [found["first__rate"], found["second__rate"]]


@contract([[3.0, None], [1, None]])
def on_demand_views_are_applied(world: World) -> Any:
    world.write("stats", world.rate(1))
    service = world.store.get_feature_service("scaled_drivers")
    asked = [{"driver_id": 1, "factor": 3.0}, {"driver_id": 2, "factor": 3.0}]
    found = world.read(service, asked).columns
    return [found["scaled"], found["trips"]]


@contract([0.5])
def a_view_without_entities_is_read(world: World) -> Any:
    frame([{"rain": 0.5, "created": NOON}]).astype({"rain": "float64"}).to_parquet(world.folder / "weather.parquet")
    world.store.materialize(NOON - HOUR, NOON, feature_views=["weather"])
    return world.read(["weather:rain"], [{"driver_id": 1}]).columns["rain"]


@contract([1.0, 2.0])
def entities_may_come_by_column(world: World) -> Any:
    world.write("stats", world.rate(1), world.rate(2, rate=2.0))
    return world.read(["stats:rate"], {"driver_id": [1, 2]}).columns["rate"]


@contract([[1.0, None], ["PRESENT", "NOT_FOUND"]])
def the_event_loop_reads_the_same(world: World) -> Any:
    world.write("stats", world.rate(1))
    found = world.read_async(["stats:rate"], [{"driver_id": 1}, {"driver_id": 2}])
    return [found.columns["rate"], found.statuses["rate"]]


@contract(True)
def a_request_without_its_join_key_is_an_error(world: World) -> Any:
    with pytest.raises(KeyError, match="driver_id"):
        world.read(["stats:rate"], [{"nothing": 1}])
    return True


@contract(True)
def an_unknown_feature_is_an_error(world: World) -> Any:
    with pytest.raises(Exception, match="nothing"):
        world.read(["stats:nothing"], [{"driver_id": 1}])
    return True
