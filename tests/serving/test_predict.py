"""Predictions from the store and from live rows, against what batch gives."""

from __future__ import annotations

from tapeline_client import Bar, EntityStatus

from tests.serving import world
from tests.serving.conftest import Served


def names(spec, several=True):
    return [f"{spec.name}:{name}" if several else name for name in spec.plan.outputs]


def bars_of(history, first, last, **changes):
    return [
        Bar(
            event_us=int(history.event_us[i]),
            **{name: float(history.columns[name][i]) for name in world.BARS},
            split_ratio=float(history.columns["split_ratio"][i]),
            start_us=int(history.start_us[i]),
            **changes,
        )
        for i in range(first, last)
    ]


def test_predict(served: Served) -> None:
    bars, trades = world.bar_history(1, 60), world.trade_history(2, 900)
    for symbol in ("AAA", "BBB"):
        world.put_bars(served.redis, "tapeline", symbol, bars, 60)
        world.put_trades(served.redis, "tapeline", symbol, trades, 900)
    for prediction in served.client.predict(["BBB", "AAA"], include_features=True):
        assert prediction.status is EntityStatus.OK, prediction
        print(prediction)
