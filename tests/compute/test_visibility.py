"""Whatever arrives in whatever order: at every moment exactly the values computed from what was known then are visible."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from tapeline.compute import run
from tapeline.features.view import FeatureViewSpec

from tests.compute.oracle import BARS, TRADES, bar_scenario, run_all, trade_scenario


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


@pytest.mark.parametrize("view", [BARS, TRADES], ids=["bars", "trades"])
@pytest.mark.parametrize("seed", range(2))
def test_neither_checkpoints_nor_slices_change_what_is_visible(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, view: FeatureViewSpec, seed: int
) -> None:
    monkeypatch.setattr(run, "_BAR_SPACING", 1 + seed)
    monkeypatch.setattr(run, "_TRADE_SPACING", 1 + seed)
    monkeypatch.setattr(run, "SNAPSHOTS_PER_RUN_MAX", 100)
    rng = np.random.default_rng(200 + seed)
    make = bar_scenario if view is BARS else trade_scenario
    scenarios = [make(f"S{i}", rng, 2) for i in range(5)]
    assert run_all(connection, view, scenarios, 2, raw_rows_max=6) > 50
