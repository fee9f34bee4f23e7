"""Live trades of a view over trades: each is a row of its own, final as it comes."""

from __future__ import annotations

import numpy as np
import pytest
from tapeline.core.timestamps import SECOND_US
from tapeline.features import FeatureRequest
from tapeline.features.view import FeatureViewSpec, Trades
from tapeline.storage.state_codec import SavedState
from tapeline_serving.engine.live import continue_with_trades
from tapeline_serving.engine.plan import PlannedView, ServingPlan
from tapeline_serving.engine.types import LiveTrades

from tests.serving import world

_of = FeatureRequest.of
TICKS = FeatureViewSpec(
    name="ticks",
    version=1,
    rows=Trades("test-trades", "CMES"),
    features=(_of("TICK_RULE"), _of("KYLE_LAMBDA", window=20), _of("VPIN", bucket_size=50.0, window=5)),
    ttl_us=3600 * SECOND_US,
)


def rows_of(history: world.TradeHistory, spec: FeatureViewSpec) -> np.ndarray:
    given = {"price": history.price, "size": history.size, "time": history.event_us.astype(np.float64)}
    given["split_ratio"] = np.ones(len(history.price))
    if history.split is not None:
        given["split_ratio"][np.searchsorted(history.event_us, history.split[0])] = history.split[1]
    missing = np.full(len(history.price), np.nan)
    return np.column_stack([given.get(name, missing) for name in spec.plan.inputs])


def batch(history: world.TradeHistory, spec: FeatureViewSpec, stop: int) -> tuple[np.ndarray, np.ndarray]:
    event_us, sequence = history.event_us[:stop], history.sequence[:stop]
    features, states = spec.plan.batch(event_us, sequence, event_us, rows_of(history, spec)[:stop], np.array([0, stop]))
    return features[-1], states[0]


def saved(view: PlannedView, history: world.TradeHistory, stop: int) -> SavedState:
    outputs, state = batch(history, view.spec, stop)
    part = slice(0, stop)
    _, builder = view.builder.advance(
        view.builder.fresh(), history.event_us[part], history.sequence[part], history.event_us[part],
        np.column_stack([history.price, history.size])[part],
    )  # fmt: skip
    event_us = int(history.event_us[stop - 1])
    return SavedState(
        plan_hash=view.plan_hash, event_us=event_us, sequence=int(history.sequence[stop - 1]), available_us=event_us,
        recorded_us=event_us, rows_seen=stop, plan_state=view.plan.save(state), bar_state=builder, outputs=outputs,
    )  # fmt: skip


def live(history: world.TradeHistory, first: int, last: int) -> LiveTrades:
    part = slice(first, last)
    event_us = history.event_us[part]
    return LiveTrades(
        event_us=event_us, available_us=event_us, sequence=history.sequence[part], price=history.price[part],
        size=history.size[part],
    )  # fmt: skip


@pytest.fixture(scope="module")
def view() -> PlannedView:
    (planned,) = ServingPlan.of(world.make_manifest([TICKS]), "0" * 64, "tapeline").views
    return planned


@pytest.mark.parametrize(("stored", "count"), [(200, 1), (200, 150), (1, 5)])
def test_live_trades_give_what_batch_gives_and_are_final(view: PlannedView, stored: int, count: int) -> None:
    history = world.trade_history(11, 400)
    out, use = continue_with_trades(
        view, "ES", saved(view, history, stored), live(history, stored, stored + count), None
    )
    expected, _ = batch(history, TICKS, stored + count)
    np.testing.assert_array_equal(out, expected)
    assert not use.partial
    assert (use.event_us, use.sequence) == (history.event_us[stored + count - 1], history.sequence[stored + count - 1])
    assert use.rows_seen == stored + count


def test_a_known_split_takes_effect_with_its_trade(view: PlannedView) -> None:
    plain = world.trade_history(12, 400)
    at_us = int(plain.event_us[310])
    first = int(np.searchsorted(plain.event_us, at_us))
    halved = np.where(np.arange(400) >= first, 0.5, 1.0)
    history = world.TradeHistory(
        plain.event_us, plain.sequence, plain.price * halved, plain.size / halved, split=(at_us, 2.0)
    )
    splits = (np.array([at_us]), np.array([2.0]))
    out, use = continue_with_trades(view, "ES", saved(view, history, 300), live(history, 300, 400), splits)
    expected, _ = batch(history, TICKS, 400)
    np.testing.assert_array_equal(out, expected)
    assert use.splits == ((at_us, 2.0),)
    unsplit, _ = continue_with_trades(view, "ES", saved(view, plain, 300), live(plain, 300, 400), None)
    np.testing.assert_allclose(out[0], unsplit[0])
