"""Whatever arrives in whatever order: at every moment exactly the values computed from what was known then are visible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psycopg
import pytest
from tapeline.compute import entities
from tapeline.features.view import FeatureViewSpec

from tests.compute.oracle import (
    BARS,
    LONGER,
    TRADED,
    TRADES,
    Scenario,
    bar_scenario,
    longer_scenario,
    run_all,
    trade_scenario,
    with_dividends,
)


@pytest.mark.parametrize("seed", range(4))
def test_bars_recorded_in_any_order_show_what_was_known(connection: psycopg.Connection, seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = 1 + seed
    scenarios = [bar_scenario(f"S{i}", rng, runs) for i in range(60)]
    assert run_all(connection, BARS, scenarios, runs) > 500


@pytest.mark.parametrize("lag_us", [0, 7_000_000])
@pytest.mark.parametrize("seed", range(4))
def test_trades_recorded_in_any_order_show_what_was_known(
    connection: psycopg.Connection, seed: int, lag_us: int
) -> None:
    rng = np.random.default_rng(100 + seed)
    runs = 1 + seed
    scenarios = [trade_scenario(f"S{i}", rng, runs, lag_us) for i in range(60)]
    assert run_all(connection, TRADES, scenarios, runs) > 500


@pytest.mark.parametrize("lag_us", [0, 7_000_000])
@pytest.mark.parametrize("measure", TRADED)
def test_bars_that_trading_closes_show_what_was_known(
    connection: psycopg.Connection, measure: str, lag_us: int
) -> None:
    rng = np.random.default_rng(300 + lag_us)
    scenarios = [trade_scenario(f"S{i}", rng, 3, lag_us) for i in range(25)]
    assert run_all(connection, TRADED[measure], scenarios, 3) > 200


@pytest.mark.parametrize("lag_us", [0, 7_000_000])
@pytest.mark.parametrize("seed", range(2))
def test_longer_bars_show_what_was_known(connection: psycopg.Connection, seed: int, lag_us: int) -> None:
    rng = np.random.default_rng(400 + seed)
    scenarios = [longer_scenario(f"S{i}", rng, 3, lag_us) for i in range(40)]
    assert run_all(connection, LONGER, scenarios, 3) > 200


MAKERS = {"bars_view": bar_scenario, "hours_view": longer_scenario}


@pytest.mark.parametrize(
    "view", [BARS, TRADES, TRADED["volume"], TRADED["each trade"], LONGER], ids=lambda view: view.name
)
def test_dividends_adjust_from_when_they_were_known(connection: psycopg.Connection, view: FeatureViewSpec) -> None:
    adjusted = replace(view, dividends=True)
    rng = np.random.default_rng(500)
    make = MAKERS.get(view.name, trade_scenario)
    made = [make(f"S{i}", rng, 3) for i in range(40)]
    scenarios: list[Scenario] = [with_dividends(scenario, rng, 3) for scenario in made if scenario.rows]
    assert sum(split.dividend > 0 for scenario in scenarios for split in scenario.splits) > 20
    assert run_all(connection, adjusted, scenarios, 3) > 200


def test_without_the_choice_dividends_change_nothing(connection: psycopg.Connection) -> None:
    rng = np.random.default_rng(501)
    scenarios = [with_dividends(s, rng, 2) for s in (bar_scenario(f"S{i}", rng, 2) for i in range(20)) if s.rows]
    assert run_all(connection, BARS, scenarios, 2) > 100


@pytest.mark.parametrize("view", [BARS, TRADES, TRADED["tick"], LONGER], ids=lambda view: view.name)
@pytest.mark.parametrize("seed", range(2))
def test_neither_checkpoints_nor_slices_change_what_is_visible(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, view: FeatureViewSpec, seed: int
) -> None:
    monkeypatch.setattr(entities, "_BAR_SPACING", 1 + seed)
    monkeypatch.setattr(entities, "_TRADE_SPACING", 1 + seed)
    monkeypatch.setattr(entities, "SNAPSHOTS_PER_RUN_MAX", 100)
    rng = np.random.default_rng(200 + seed)
    make = MAKERS.get(view.name, trade_scenario)
    scenarios = [make(f"S{i}", rng, 2) for i in range(5)]
    assert run_all(connection, view, scenarios, 2, raw_rows_max=6) > 50
