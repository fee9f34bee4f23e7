"""The registered feature views: names, versions and what each computes."""

from __future__ import annotations

from tapeline.core.errors import UnknownNameError
from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US
from tapeline.features.feature_sets import BAR_FEATURES, CANDLES, TRADE_FEATURES
from tapeline.features.view import FeatureViewSpec, SessionBars, TradeBars, Trades

_DAILY = SessionBars(source="us-daily", calendar="XNYS")
_MINUTES = TradeBars(source="cme-trades", calendar="CMES", width_us=MINUTE_US)

DAILY_TECHNICAL = FeatureViewSpec(
    name="daily_technical",
    version=2,
    rows=_DAILY,
    features=BAR_FEATURES,
    ttl_us=7 * DAY_US,
    description="All indicators of daily bars, adjusted for the splits known at the time.",
)

DAILY_CANDLES = FeatureViewSpec(
    name="daily_candles",
    version=1,
    rows=_DAILY,
    features=CANDLES,
    ttl_us=7 * DAY_US,
    description="Candle patterns of daily bars.",
)

INTRADAY_TECHNICAL = FeatureViewSpec(
    name="intraday_technical",
    version=2,
    rows=_MINUTES,
    features=BAR_FEATURES,
    ttl_us=HOUR_US,
    description="All indicators of one-minute bars built from trades.",
)

INTRADAY_CANDLES = FeatureViewSpec(
    name="intraday_candles",
    version=1,
    rows=_MINUTES,
    features=CANDLES,
    ttl_us=HOUR_US,
    description="Candle patterns of one-minute bars built from trades.",
)

TRADE_MICROSTRUCTURE = FeatureViewSpec(
    name="trade_microstructure",
    version=1,
    rows=Trades(source="cme-trades", calendar="CMES"),
    features=TRADE_FEATURES,
    ttl_us=HOUR_US,
    description="Microstructure features of every trade that need no quotes.",
)

VIEWS: tuple[FeatureViewSpec, ...] = (
    DAILY_TECHNICAL,
    DAILY_CANDLES,
    INTRADAY_TECHNICAL,
    INTRADAY_CANDLES,
    TRADE_MICROSTRUCTURE,
)
"""All registered views, every version of each."""


def view(name: str, version: int | None = None) -> FeatureViewSpec:
    """A registered view.

    Parameters
    ----------
    name
        The view's name, or ``name@version``.
    version
        Its version; the newest if not given.

    Raises
    ------
    UnknownNameError
        If there is no such view or version; the message names the nearest.
    """
    if version is None and "@" in name:
        name, _, text = name.partition("@")
        text = text.removeprefix("v")
        if not text.isdigit():
            raise UnknownNameError("feature view", f"{name}@{text}", (f"{v.name}@{v.version}" for v in VIEWS))
        version = int(text)
    versions = {spec.version: spec for spec in VIEWS if spec.name == name}
    if not versions:
        raise UnknownNameError("feature view", name, (spec.name for spec in VIEWS))
    if version is None:
        return versions[max(versions)]
    if version not in versions:
        raise UnknownNameError("feature view", f"{name}@{version}", (f"{v.name}@{v.version}" for v in VIEWS))
    return versions[version]
