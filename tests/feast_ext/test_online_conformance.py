"""One suite of contracts for this online store and Feast's Redis store; see `tests.feast_ext.online_conformance`.

Every pair of store and contract is a test: the contract's answer comes back, or exactly what the table of differences says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.feast_ext.online_conformance import lifetime, reading, writing  # noqa: F401 - they register contracts
from tests.feast_ext.online_conformance.contract import CONTRACTS
from tests.feast_ext.online_conformance.differences import DIFFERENCES
from tests.feast_ext.online_conformance.world import KINDS, World
from tests.support.redis_servers import RedisServers, valkey

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server on a port, which is all that Feast's own store can use."""
    servers = RedisServers(valkey())
    yield servers.single()
    servers.close()


@pytest.fixture(params=[*KINDS])
def world(request: pytest.FixtureRequest, port: int, tmp_path: Path) -> Iterator[World]:
    """One store after the other over an empty database: each contract writes what it asks for."""
    made = World(request.param, tmp_path, port, [*KINDS].index(request.param))
    yield made
    made.client.close()


@pytest.mark.parametrize("name", [*CONTRACTS])
def test_contract(world: World, name: str) -> None:
    contract = CONTRACTS[name]
    difference = DIFFERENCES.get((world.kind, name))
    if difference is None:
        assert contract.ask(world) == contract.answer
    elif difference.raises is not None:
        with pytest.raises(difference.raises, match=difference.match):
            contract.ask(world)
    else:
        assert difference.gives != contract.answer
        assert contract.ask(world) == difference.gives


def test_every_difference_is_one_of_a_contract_and_a_store() -> None:
    assert {store for store, _ in DIFFERENCES} <= set(KINDS)
    assert {name for _, name in DIFFERENCES} <= set(CONTRACTS)


def test_this_store_differs_nowhere() -> None:
    assert not [name for store, name in DIFFERENCES if store == "ours"]
