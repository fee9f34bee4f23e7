"""The registered feature views: names, versions and what each computes."""

from __future__ import annotations

from tapeline.core.errors import UnknownNameError
from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars, TradeBars

_of = FeatureRequest.of

DAILY_TECHNICAL = FeatureViewSpec(
    name="daily_technical",
    version=1,
    rows=SessionBars(source="us-daily", calendar="XNYS"),
    features=(
        # averages
        _of("SMA", timeperiod=20),
        _of("EMA", timeperiod=20),
        _of("WMA", timeperiod=20),
        _of("DEMA", timeperiod=20),
        _of("TEMA", timeperiod=20),
        _of("KAMA", timeperiod=20),
        # oscillators
        _of("RSI", timeperiod=14),
        _of("STOCH"),
        _of("WILLR", timeperiod=14),
        _of("CCI", timeperiod=14),
        _of("MFI", timeperiod=14),
        _of("MOM", timeperiod=10),
        _of("ROC", timeperiod=10),
        _of("AROON", timeperiod=14),
        _of("ULTOSC"),
        _of("PPO"),
        _of("MACD"),
        _of("TRIX", timeperiod=15),
        _of("CMO", timeperiod=14),
        # trend
        _of("ADX", timeperiod=14),
        _of("PLUS_DI", timeperiod=14),
        _of("MINUS_DI", timeperiod=14),
        _of("SAR"),
        # volatility
        _of("ATR", timeperiod=14),
        _of("NATR", timeperiod=14),
        _of("BBANDS", timeperiod=20),
        _of("DONCHIAN", timeperiod=20),
        _of("STDDEV", timeperiod=20),
        _of("PARKINSON", timeperiod=20),
        _of("GARMAN_KLASS", timeperiod=20),
        _of("REALIZED_VOL", timeperiod=20),
        # volume
        _of("OBV"),
        _of("AD"),
        _of("ADOSC"),
        _of("CMF", timeperiod=20),
        _of("VWAP", timeperiod=20),
        # statistics
        _of("LINEARREG", timeperiod=14),
        _of("LINEARREG_SLOPE", timeperiod=14),
        _of("CORREL", timeperiod=20),
        _of("ZSCORE", timeperiod=60),
        # momentum and reversion
        _of("RETURN", timeperiod=1),
        _of("RETURN", timeperiod=5),
        _of("RETURN", timeperiod=20),
        _of("LOG_RETURN", timeperiod=1),
        _of("PRICE_Z", timeperiod=20),
        _of("VOLUME_Z", timeperiod=20),
        _of("DIST_SMA", timeperiod=20),
        _of("DIST_SMA", timeperiod=50),
        _of("DIST_SMA", timeperiod=200),
        _of("HIGH_52W"),
        _of("GAP"),
        # composites
        _of("SQUEEZE", timeperiod=20),
        _of("TREND_STRENGTH", timeperiod=14),
    ),
    ttl_us=7 * DAY_US,
    description="Technical indicators of daily bars, adjusted for the splits known at the time.",
)

INTRADAY_TECHNICAL = FeatureViewSpec(
    name="intraday_technical",
    version=1,
    rows=TradeBars(source="cme-trades", calendar="CMES", width_us=MINUTE_US),
    features=(
        _of("EMA", timeperiod=20),
        _of("RSI", timeperiod=14),
        _of("STOCH"),
        _of("CCI", timeperiod=20),
        _of("MFI", timeperiod=14),
        _of("PPO"),
        _of("ADX", timeperiod=14),
        _of("NATR", timeperiod=14),
        _of("REALIZED_VOL", timeperiod=60),
        _of("CMF", timeperiod=20),
        _of("VWAP_SESSION"),
        _of("ZSCORE", timeperiod=60),
        _of("RETURN", timeperiod=1),
        _of("RETURN", timeperiod=15),
        _of("VOLUME_Z", timeperiod=20),
        _of("SQUEEZE", timeperiod=20),
    ),
    ttl_us=HOUR_US,
    description="Technical indicators of one-minute bars built from trades.",
)

VIEWS: tuple[FeatureViewSpec, ...] = (DAILY_TECHNICAL, INTRADAY_TECHNICAL)
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
