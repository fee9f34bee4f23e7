"""What becomes of values when views, versions and projects come and go."""

from __future__ import annotations

from typing import Any

from feast import FeatureView, Field
from feast.types import Float64, Int64

from tests.feast_ext.online_conformance.contract import contract
from tests.feast_ext.online_conformance.world import HOUR, World, definitions


@contract([[None], [1.0]])
def a_view_that_goes_takes_its_values_along_and_no_others(world: World) -> Any:
    world.write("stats", world.rate(1))
    world.write("forever", world.rate(1))
    views = [world.store.get_feature_view("forever")]
    world.store.apply([], objects_to_delete=views, partial=False)
    kept = world.rates(1)
    world.store.apply(views)
    return [world.read(["forever:rate"], [{"driver_id": 1}]).columns["rate"], kept]


@contract([[1.0], [9.0]])
def projects_do_not_mix(world: World) -> Any:
    other = world.opened("elsewhere")
    other.apply(definitions(world.folder))
    world.write("stats", world.rate(1))
    world.write("stats", world.rate(1, rate=9.0), store=other)
    theirs = world.read(["stats:rate"], [{"driver_id": 1}], store=other).columns["rate"]
    return [world.rates(1), theirs]


@contract([[], [b"other"], [9.0]])
def a_teardown_removes_this_projects_values_alone(world: World) -> Any:
    other = world.opened("elsewhere")
    other.apply(definitions(world.folder))
    world.client.set("other", b"x")
    world.write("stats", world.rate(1))
    mine = set(world.client.keys()) - {b"other"}
    world.write("stats", world.rate(1, rate=9.0), store=other)
    world.store.teardown()
    left = set(world.client.keys())
    theirs = world.read(["stats:rate"], [{"driver_id": 1}], store=other).columns["rate"]
    return [sorted(mine & left), sorted(left & {b"other"}), theirs]


@contract({"stats@v0__rate": [1.0], "stats@v1__rate": [2.0]})
def versions_stand_side_by_side(world: World) -> Any:
    world.write("stats", world.rate(1))
    fields = [
        Field(name="driver_id", dtype=Int64),
        Field(name="rate", dtype=Float64),
        Field(name="extra", dtype=Float64),
    ]
    old = world.store.get_feature_view("stats")
    entity = world.store.get_entity("driver")
    world.store.apply([FeatureView(name="stats", entities=[entity], ttl=HOUR, schema=fields, source=old.batch_source)])
    world.write("stats", {name: value for name, value in world.rate(1, rate=2.0, extra=0.0).items() if name != "trips"})
    names = ["stats@v0:rate", "stats@v1:rate"]
    found = world.read(names, [{"driver_id": 1}], full_feature_names=True).columns
    return {name: values for name, values in found.items() if name != "driver_id"}
