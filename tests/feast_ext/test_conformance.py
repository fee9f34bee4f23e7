"""One suite of contracts for this store and Feast's own; see `tests.feast_ext.conformance`.

Every pair of store and contract is a test: the contract's answer comes back, or exactly what the table of differences says.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.feast_ext.conformance import joining, pulling, shapes, values, writing  # noqa: F401 - they register contracts
from tests.feast_ext.conformance.contract import CONTRACTS
from tests.feast_ext.conformance.differences import DIFFERENCES
from tests.feast_ext.conformance.world import KINDS, World
from tests.support.session import SessionServers

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module", params=[*KINDS])
def offline_store(
    request: pytest.FixtureRequest, servers: SessionServers, _template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """One store after the other, each with the same repository over a database or folder of its own."""
    name = sql.Identifier(f"conformance_{request.param}")
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(_template)))
    yield World(
        request.param, tmp_path_factory.mktemp(request.param), servers.postgres_url(name.as_string().strip('"'))
    )
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.mark.parametrize("name", [*CONTRACTS])
def test_contract(offline_store: World, name: str) -> None:
    contract = CONTRACTS[name]
    difference = DIFFERENCES.get((offline_store.kind, name))
    if difference is None:
        assert contract.ask(offline_store) == contract.answer
    elif difference.raises is not None:
        with pytest.raises(difference.raises, match=difference.match):
            contract.ask(offline_store)
    else:
        assert difference.gives != contract.answer
        assert contract.ask(offline_store) == difference.gives


def test_every_difference_is_one_of_a_contract_and_a_store() -> None:
    assert {store for store, _ in DIFFERENCES} <= set(KINDS)
    assert {name for _, name in DIFFERENCES} <= set(CONTRACTS)


def test_this_store_differs_nowhere() -> None:
    assert not [name for store, name in DIFFERENCES if store.startswith("ours")]
