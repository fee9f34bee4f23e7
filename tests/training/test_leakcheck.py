"""The leakage gate finds nothing in what the store computes, and finds every leak that is put there on purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tapeline.core.errors import EmptyDataError, FeatureCheckError
from tapeline.datasets.plan import RetrievalPlan, ViewSelection
from tapeline.datasets.vintage import safe_horizon
from tapeline.training import leakcheck as gate
from tapeline.training.leakcheck import LeakReport, OnDemandView, OwnFeatures, SampleSizes, leakcheck

from tests.compute import oracle
from tests.training import leakcheck_market as market
from tests.training.leakcheck_market import DAILY

SIZES = SampleSizes(entities=2, moments=40, futures=6, units=300)
FEW = SampleSizes(entities=2, moments=30, futures=2, units=150)
TABLE = f"features.{DAILY.table}"
EMA, RETURN = "small_daily__ema_3", "small_daily__return_1"


@pytest.fixture
def daily(connection: psycopg.Connection) -> psycopg.Connection:
    """A store with one small daily view."""
    market.daily(connection)
    market.fill(connection, DAILY)
    return connection


def check(connection: psycopg.Connection, plan: RetrievalPlan | None = None, **options: object) -> LeakReport:
    return leakcheck(connection, plan or market.plan_of(DAILY), **({"sizes": FEW} | options))


def failed(report: LeakReport) -> set[str]:
    return {outcome.check for outcome in report.outcomes if outcome.faults}


@pytest.mark.slow
@pytest.mark.parametrize(
    "specs", [(market.DAILY, market.WEEKLY), (market.MINUTES, market.DOLLARS), (market.TICKS,)], ids=lambda s: s[0].name
)
def test_nothing_is_found_in_what_the_store_computes(connection, specs):
    if specs[0] is DAILY:
        market.daily(connection)
    else:
        market.trades(connection)
    market.fill(connection, *specs)
    before = connection.execute("SELECT count(*) FROM pg_class").fetchone()
    connection.commit()
    report = check(connection, market.plan_of(*specs), sizes=SIZES)
    assert report.faults == []
    report.require_clean()
    cases = {(outcome.view, outcome.check): outcome.cases for outcome in report.outcomes}
    for spec in specs:
        for name in ("truncated history", "other raw future", "other stored future", "shuffled entity rows"):
            assert cases[(f"{spec.name}@1", name)] >= 6 * len(spec.columns), "it looked at something"
    planted = [o for o in report.outcomes if o.check == "planted signal" and o.cases]
    assert len(planted) >= len(specs) - 1
    assert all("0/" not in outcome.note for outcome in planted), "each leak on purpose was found"
    assert connection.execute("SELECT count(*) FROM pg_class").fetchone() == before, "nothing is left behind"


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_found_in_random_histories(connection, seed):
    """Late rows, corrections, retractions, splits and dividends in any order, in back-fills that came in several runs."""
    rng = np.random.default_rng(seed)
    spec, make = [
        (oracle.BARS, oracle.bar_scenario),
        (oracle.TRADES, oracle.trade_scenario),
        (oracle.LONGER, oracle.longer_scenario),
    ][seed % 3]
    scenarios = [make(f"S{i}", rng, 2) for i in range(8)]
    for run in range(2):
        oracle.record(connection, spec, scenarios, run)
        market.fill(connection, spec)
    plan = RetrievalPlan("random", (market.selection(spec),))
    report = check(connection, plan, sizes=SampleSizes(entities=8, moments=30, futures=4, seed=seed))
    assert [fault for fault in report.faults if fault.check != "adjusted prices"] == [], "random splits move no prices"


def test_the_same_seed_looks_at_the_same(daily):
    vintage_us = safe_horizon(daily)  # of both: a horizon moves

    def findings(seed: int) -> list[gate.Fault]:
        plan = market.plan_of(DAILY, available_column=None)
        return check(daily, plan, sizes=replace(FEW, seed=seed), as_of_us=vintage_us).faults

    assert findings(1) == findings(1) != []
    assert findings(1) != findings(2)


# Leaks on purpose, through the store's own path ----------------------------------------------------------------------


def test_values_available_too_early(daily):
    daily.execute(f"UPDATE {TABLE} SET available_timestamp = event_timestamp")
    daily.commit()
    report = check(daily)
    assert {"truncated history", "available before its inputs"} <= failed(report)
    with pytest.raises(
        FeatureCheckError, match=r"truncated history: small_daily@1:small_daily__\w+ of (AAA|BBB) at 201"
    ):
        report.require_clean()
    explained = [fault.detail for fault in report.faults if "it knows what was only available from" in fault.detail]
    assert any("row at 201" in detail for detail in explained), "the row of the future is named"


def test_a_join_that_does_not_heed_available_times(daily):
    report = check(daily, market.plan_of(DAILY, available_column=None))
    assert {"truncated history", "other stored future"} <= failed(report)


def test_a_correction_that_overwrote_what_it_corrected(daily):
    """The corrected values stand in the rows that were available before the correction."""
    daily.execute(
        f"UPDATE {TABLE} f SET ema_3 = n.ema_3, return_1 = n.return_1 FROM (SELECT DISTINCT ON (symbol, event_timestamp)"
        f" symbol, event_timestamp, ema_3, return_1 FROM {TABLE} ORDER BY symbol, event_timestamp, available_timestamp DESC) n"
        " WHERE (n.symbol, n.event_timestamp) = (f.symbol, f.event_timestamp)"
    )
    daily.commit()
    report = check(daily, sizes=SIZES)
    assert "truncated history" in failed(report)
    assert {fault.feature for fault in report.faults} <= {EMA, RETURN}


def test_a_feature_that_looks_one_row_ahead(daily):
    """As a user's own batch code would write with shift(-1)."""
    daily.execute(
        f"UPDATE {TABLE} f SET return_1 = n.ahead FROM (SELECT ctid, lead(return_1) OVER (PARTITION BY symbol"
        f" ORDER BY event_timestamp, available_timestamp) AS ahead FROM {TABLE}) n WHERE n.ctid = f.ctid"
    )
    daily.commit()
    report = check(daily)
    assert failed(report) == {"truncated history", "other raw future"}
    assert {fault.feature for fault in report.faults} == {RETURN}


def test_prices_adjusted_by_a_later_split(connection):
    market.daily(connection, adjusted=True)
    market.fill(connection, DAILY)
    report = check(connection)
    [fault] = [fault for fault in report.faults if fault.check == "adjusted prices"]
    assert fault.entity == "AAA"
    assert "a split of 4 for 1" in str(fault)


def test_features_of_prices_adjusted_later(daily):
    """Raw rows as traded, but the features were computed from prices divided by a split that came later."""
    daily.execute(
        f"UPDATE {TABLE} SET ema_3 = ema_3 / 4 FROM tapeline.corporate_actions a"
        f" WHERE {TABLE}.symbol = a.symbol AND {TABLE}.event_timestamp < a.event_timestamp".replace(
            f"{TABLE}.", "small_daily__v1."
        )
    )
    daily.commit()
    report = check(daily)
    assert {(fault.entity, fault.feature) for fault in report.faults} == {("AAA", EMA)}


def outcome_view(connection: psycopg.Connection) -> ViewSelection:
    """A user's table with a column that is the next five sessions' return."""
    connection.execute(
        "CREATE TABLE public.mine AS SELECT symbol, event_timestamp, available_timestamp, created_timestamp,"
        " ln(lead(close, 5) OVER w / close) AS secret, ln(close / lag(close, 5) OVER w) AS momentum"
        " FROM (SELECT DISTINCT ON (symbol, event_timestamp) * FROM tapeline.bars WHERE NOT deleted ORDER BY symbol,"
        " event_timestamp, available_timestamp) b WHERE symbol = 'BBB'"
        " WINDOW w AS (PARTITION BY symbol ORDER BY event_timestamp)"
    )
    connection.commit()
    return ViewSelection(
        view="mine", version=1, table="public.mine", entity_columns=("symbol",), join_keys=("symbol",),
        features=("secret", "momentum"), output_names=("secret", "momentum"), sequence_column=None,
    )  # fmt: skip


def test_a_label_among_the_features(daily):
    plan = RetrievalPlan("small", (market.selection(DAILY), outcome_view(daily)))
    report = check(daily, plan, labels="forward_return:5d", sizes=SIZES)
    assert failed(report) == {"labels"}
    assert {fault.feature for fault in report.faults} == {"secret"}
    named = replace(market.selection(DAILY), output_names=("label", "b", "c", "d"))
    assert "is called like a label" in str(check(daily, RetrievalPlan("small", (named,))).faults[0])


def own(compute) -> OwnFeatures:
    return OwnFeatures("mine", "small-daily", "bars", compute)


def honest(frame: pl.DataFrame) -> pl.DataFrame:
    close = pl.col("close")
    return frame.select(
        "event_timestamp", momentum=(close / close.shift(5)).log(), secret=(close.shift(-5) / close).log()
    )


def test_features_that_users_compute_themselves(daily):
    """A function run on truncated history gives what was known; the stored look-ahead is not among that."""
    selection = outcome_view(daily)
    daily.execute("DELETE FROM tapeline.bars WHERE symbol = 'BBB' AND deleted")
    daily.execute(
        "DELETE FROM tapeline.bars b WHERE symbol = 'BBB' AND EXISTS (SELECT FROM tapeline.bars f WHERE f.symbol = b.symbol"
        " AND f.event_timestamp = b.event_timestamp AND f.available_timestamp < b.available_timestamp)"
    )
    daily.execute(  # no late rows: the user's batch does not know of them
        "UPDATE tapeline.bars SET available_timestamp = event_timestamp + interval '15 minutes' WHERE symbol = 'BBB'"
    )
    daily.execute("UPDATE public.mine SET available_timestamp = event_timestamp + interval '15 minutes'")
    daily.commit()
    report = check(daily, RetrievalPlan("own", (selection,)), own_features=[own(honest)])
    assert failed(report) == {"own features on truncated history"}
    assert {fault.feature for fault in report.faults} == {"secret"}
    alone = replace(selection, features=("momentum",), output_names=("momentum",))
    assert check(daily, RetrievalPlan("own", (alone,)), own_features=[own(honest)]).passed


def test_an_on_demand_view_that_reads_other_rows(daily):
    def transform(table: pa.Table, *, leaks: bool) -> pa.Table:
        ratio = pc.divide(table.column("price"), table.column(EMA))
        if leaks:
            ratio = pc.subtract(ratio, pc.mean(ratio))
        return pa.table({"ratio": ratio})

    for leaks in (False, True):
        view = OnDemandView("ratios", ("ratio",), ("price",), lambda table, leaks=leaks: transform(table, leaks=leaks))
        report = check(daily, on_demand_views=[view])
        assert failed(report) == ({"on-demand rows alone"} if leaks else set())


def test_kernels_that_look_ahead_fail_the_planted_signal(daily, monkeypatch):
    """The planted signal alone finds what every recomputation repeats: a back-fill that heeds no available times."""
    from tapeline.training.leakcheck import planted

    real = planted._computed

    def heedless(subject, series, available_us):
        return real(subject, series, series.first.available_us[series.rows])

    monkeypatch.setattr(planted, "_computed", heedless)
    report = check(daily)
    assert failed(report) == {"planted signal"}
    assert {fault.feature for fault in report.faults} == {f"small_daily__{c}" for c in DAILY.columns}


def test_a_test_that_could_find_nothing_is_a_fault(daily, monkeypatch):
    from tapeline.training.leakcheck import planted

    real = planted.Series.corrections
    monkeypatch.setattr(
        planted.Series, "corrections", lambda self, at: replace(real(self, at), values=self.first.values[self.rows])
    )
    report = check(daily)
    assert failed(report) == {"planted signal"}
    assert "the test is blind" in str(report.faults[0])


def test_an_empty_view_is_no_pass(connection):
    market.daily(connection)
    market.fill(connection, DAILY)
    connection.execute(f"DELETE FROM {TABLE}")
    connection.commit()
    with pytest.raises(EmptyDataError, match="tapeline backfill small_daily"):
        check(connection)


def test_planted_guesses_are_those_of_a_fair_coin():
    """Without a leak the bound on the chance holds: over many made-up features of every persistence nothing is found."""
    from tapeline.training.leakcheck import planted

    random = np.random.default_rng(0)
    coins = random.choice([-1.0, 1.0], size=300)
    steps = random.normal(size=(300, 2_000))
    walks = np.cumsum(steps, axis=0)
    # Features that show every coin, one row too late to matter.
    late = np.concatenate([[0.0], np.cumsum(coins)[:-1]])[:, None] + 0.1 * walks
    for values in (steps, walks, late):
        right = planted._guesses(values) * coins[:, None]
        made, agreed = (right != 0).sum(axis=0), np.abs(right.sum(axis=0))
        chance = np.array([planted._tail(int(n), int(n + a) // 2) for n, a in zip(made, agreed, strict=True)])
        assert (chance <= 0.05).mean() < 0.12
        assert (chance * 300 * 4 * values.shape[1] > planted.ALPHA).all()
    shown = coins[:, None] + steps[:, :10]
    right = planted._guesses(shown) * coins[:, None]
    assert (right.sum(axis=0) > 150).all()
