"""The registered views hold every feature whose inputs their rows have."""

from __future__ import annotations

import pytest
from tapeline.features.catalogue import VIEWS, view
from tapeline.indicators import INPUTS, all_indicators

BARS = {i.name: i.group for i in all_indicators() if set(i.inputs) <= set(INPUTS)}
OF_TRADES = {"time", "price", "size", "side"}
NEED_QUOTES = {"EFFECTIVE_SPREAD", "REALIZED_SPREAD", "PRICE_IMPACT", "LEE_READY", "EMO", "CLNV", "PIN"}
"""Read a trade beside the quotes around it: without quotes they have no value, or are the tick rule again."""


@pytest.mark.parametrize("name", ["daily_technical", "intraday_technical"])
def test_bars_have_every_indicator(name: str) -> None:
    wanted = {indicator for indicator, group in BARS.items() if group != "candles"}
    assert len(wanted) >= 120
    assert {feature.name for feature in view(name).features} == wanted


@pytest.mark.parametrize("name", ["daily_candles", "intraday_candles"])
def test_bars_have_every_candle_pattern(name: str) -> None:
    assert sorted(feature.name for feature in view(name).features) == sorted(
        indicator for indicator, group in BARS.items() if group == "candles"
    )


def test_trades_have_every_feature_that_has_a_value_of_them() -> None:
    of_ticks = [i for i in all_indicators() if i.name not in BARS]
    by_quotes = {i.name for i in of_ticks if not set(i.inputs) & (OF_TRADES - {"time"})}  # states of a book
    chosen = {feature.name for feature in view("trade_microstructure").features}
    assert {i.name for i in of_ticks} == chosen | by_quotes | NEED_QUOTES | {"INFORMATION_SHARE"}


def test_names_and_versions_are_unique() -> None:
    assert len({(spec.name, spec.version) for spec in VIEWS}) == len(VIEWS)
