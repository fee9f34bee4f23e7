"""Which row stays, in whatever order rows arrive."""

from __future__ import annotations

import asyncio
from typing import Any

from feast.data_source import PushMode

from tests.feast_ext.online_conformance.contract import contract
from tests.feast_ext.online_conformance.world import NOON, SECOND, World, frame


@contract([1.0])
def an_older_row_does_not_replace_a_newer_one(world: World) -> Any:
    world.write("stats", world.rate(1))
    world.write("stats", world.rate(1, NOON - SECOND, rate=9.0))
    return world.rates(1)


@contract([2.0])
def a_newer_row_replaces_an_older_one(world: World) -> Any:
    world.write("stats", world.rate(1, NOON - SECOND))
    world.write("stats", world.rate(1, rate=2.0))
    return world.rates(1)


@contract([2.0])
def a_correction_replaces_the_row_of_its_moment(world: World) -> Any:
    """The same event time, recorded later."""
    world.write("stats", world.rate(1))
    world.write("stats", world.rate(1, rate=2.0) | {"created": NOON + SECOND})
    return world.rates(1)


@contract([2.0])
def a_correction_that_comes_first_stays(world: World) -> Any:
    world.write("stats", world.rate(1, rate=2.0) | {"created": NOON + SECOND})
    world.write("stats", world.rate(1))
    return world.rates(1)


@contract([2.0])
def moments_within_a_second_are_told_apart(world: World) -> Any:
    world.write("stats", world.rate(1, NOON - 0.4 * SECOND, rate=2.0))
    world.write("stats", world.rate(1, NOON - 0.6 * SECOND, rate=1.0))
    return world.rates(1)


@contract([2.0])
def of_one_batch_the_newest_row_stays(world: World) -> Any:
    rows = [world.rate(1, NOON - n * SECOND, rate=rate) for n, rate in ((1, 1.0), (0, 2.0), (2, 3.0))]
    world.write("stats", *rows)
    return world.rates(1)


@contract([[2.0], [None]])
def a_row_replaces_the_whole_row(world: World) -> Any:
    """No mixture of two moments: what the newer row does not have is null."""
    world.write("stats", world.rate(1, NOON - SECOND, trips=5))
    world.write("stats", world.rate(1, rate=2.0, trips=None))
    found = world.read(["stats:rate", "stats:trips"], [{"driver_id": 1}]).columns
    return [found["rate"], found["trips"]]


@contract([1.0, 1.0])
def a_batch_written_again_changes_nothing(world: World) -> Any:
    for _ in range(2):
        world.write("stats", world.rate(1), world.rate(2))
    return world.rates(1, 2)


@contract([5.0])
def a_push_is_read(world: World) -> Any:
    world.store.push("pushed_push", frame([world.rate(1, rate=5.0)]), to=PushMode.ONLINE)
    return world.read(["pushed:rate"], [{"driver_id": 1}]).columns["rate"]


@contract([6.0])
def the_event_loop_writes_the_same(world: World) -> Any:
    async def write() -> None:
        try:
            await world.store.write_to_online_store_async("stats", df=frame([world.rate(1, rate=6.0)]))
        finally:
            await world.store.close()

    asyncio.run(write())
    return world.rates(1)


@contract([3.0, 4.0])
def what_is_materialized_is_read(world: World) -> Any:
    rows = [world.rate(1, NOON - 9 * SECOND, rate=1.0), world.rate(1, NOON - SECOND, rate=3.0), world.rate(2, rate=4.0)]
    frame(rows).astype({"driver_id": "int64", "rate": "float64", "trips": "int64"}).to_parquet(
        world.folder / "stats.parquet"
    )
    world.store.materialize(NOON - 60 * SECOND, NOON, feature_views=["stats"])
    return world.rates(1, 2)


@contract([[1.0], [None], [2.0]])
def a_batch_may_hold_thousands_of_rows(world: World) -> Any:
    world.write("stats", *(world.rate(n, rate=float(n)) for n in range(1, 3_001)))
    found = world.rates(1, 3_001, 2)
    return [[rate] for rate in found]
