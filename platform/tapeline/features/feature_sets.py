"""What the registered views compute: every feature whose inputs their rows have, each by name.

The lists are written out, not found by introspection: a feature that is added to the library must not change a view that
is in use. ``tests/features/test_catalogue.py`` says when the newest views lack one.
"""

from __future__ import annotations

from tapeline.features.request import FeatureRequest

_of = FeatureRequest.of


def _defaults(names: str) -> tuple[FeatureRequest, ...]:
    """Features with their default parameters."""
    return tuple(_of(name) for name in names.split())


BAR_FEATURES: tuple[FeatureRequest, ...] = (
    # averages
    *_defaults("TRIMA HMA VWMA RMA ZLEMA T3 ALMA VIDYA MCGINLEY FRAMA MAMA"),
    _of("SMA", timeperiod=20),
    _of("EMA", timeperiod=20),
    _of("WMA", timeperiod=20),
    _of("DEMA", timeperiod=20),
    _of("TEMA", timeperiod=20),
    _of("KAMA", timeperiod=20),
    # oscillators
    *_defaults(
        "RSI CMO CCI MFI MOM ROC ROCP ROCR ROCR100 AROON AROONOSC ULTOSC BOP IMI RVI DPO FOSC APO PPO PVO "
        "MACD MACDEXT MACDFIX TSI COPPOCK KST STOCH STOCHF STOCHRSI KDJ WILLR SMI STC FISHER"
    ),
    _of("TRIX", timeperiod=15),
    _of("CCI", timeperiod=20),
    # trend
    *_defaults(
        "HT_TRENDLINE HT_TRENDMODE HT_DCPERIOD HT_DCPHASE HT_PHASOR HT_SINE ADX ADXR DX PLUS_DI MINUS_DI "
        "PLUS_DM MINUS_DM SAR SAREXT VORTEX SUPERTREND ICHIMOKU CHOP VHF QSTICK"
    ),
    # volatility
    *_defaults(
        "PARKINSON GARMAN_KLASS ROGERS_SATCHELL YANG_ZHANG REALIZED_VOL TRANGE ATR NATR BBANDS DONCHIAN "
        "KELTNER ACCBANDS VAR AVGDEV ULCER CVI MASSI"
    ),
    _of("STDDEV", timeperiod=20),
    _of("REALIZED_VOL", timeperiod=5),
    _of("REALIZED_VOL", timeperiod=60),
    # volume
    *_defaults("OBV AD ADOSC CMF VWAP VWAP_SESSION NVI PVI PVT MARKETFI EFI EMV KLINGER RVOL WAD ER ERI"),
    # statistics
    *_defaults(
        "LINEARREG LINEARREG_SLOPE LINEARREG_ANGLE LINEARREG_INTERCEPT TSF BETA MIDPOINT MIDPRICE PERCENTILE "
        "PERCENTRANK FRACTAL AVGPRICE MEDPRICE TYPPRICE WCLPRICE HEIKIN_ASHI ADR MINMAX_SCALE ROBUST_SCALE"
    ),
    _of("CORREL", timeperiod=20),
    _of("ZSCORE", timeperiod=60),
    # momentum
    *_defaults("RETURN LOG_RETURN PRICE_Z VOLUME_Z DIST_SMA HIGH_52W LOW_52W GAP"),
    _of("RETURN", timeperiod=5),
    _of("RETURN", timeperiod=15),
    _of("RETURN", timeperiod=20),
    _of("DIST_SMA", timeperiod=20),
    _of("DIST_SMA", timeperiod=200),
    # composites
    *_defaults("SQUEEZE TREND_STRENGTH BREAKOUT_SCORE MEAN_REVERSION_SCORE VOLUME_CONFIRMED_MOMENTUM REGIME"),
    # microstructure
    *_defaults("CORWIN_SCHULTZ ABDI_RANALDO EDGE AMIHUD PASTOR_STAMBAUGH"),
)
"""All over bars, candle patterns apart, some with several windows. Views that share the list share its compiled plan."""

CANDLES: tuple[FeatureRequest, ...] = _defaults(
    "CDL3BLACKCROWS CDLIDENTICAL3CROWS CDL3WHITESOLDIERS CDLADVANCEBLOCK CDLSTALLEDPATTERN CDL3LINESTRIKE "
    "CDL3STARSINSOUTH CDLGAPSIDESIDEWHITE CDLTASUKIGAP CDLSTICKSANDWICH CDLCOUNTERATTACK "
    "CDLDARKCLOUDCOVER CDLDOJISTAR CDLENGULFING CDLHARAMI CDLHARAMICROSS CDLHOMINGPIGEON CDLINNECK "
    "CDLKICKING CDLKICKINGBYLENGTH CDLMATCHINGLOW CDLONNECK CDLPIERCING CDLSEPARATINGLINES CDLTHRUSTING "
    "CDLBREAKAWAY CDLCONCEALBABYSWALL CDLLADDERBOTTOM CDLMATHOLD CDLRISEFALL3METHODS CDLHIKKAKE "
    "CDLHIKKAKEMOD CDLBELTHOLD CDLCLOSINGMARUBOZU CDLDOJI CDLDRAGONFLYDOJI CDLGRAVESTONEDOJI CDLHAMMER "
    "CDLHANGINGMAN CDLHIGHWAVE CDLINVERTEDHAMMER CDLLONGLEGGEDDOJI CDLLONGLINE CDLMARUBOZU CDLRICKSHAWMAN "
    "CDLSHOOTINGSTAR CDLSHORTLINE CDLSPINNINGTOP CDLTAKURI CDL2CROWS CDL3INSIDE CDL3OUTSIDE "
    "CDLABANDONEDBABY CDLMORNINGSTAR CDLMORNINGDOJISTAR CDLEVENINGSTAR CDLEVENINGDOJISTAR CDLTRISTAR "
    "CDLUNIQUE3RIVER CDLUPSIDEGAP2CROWS CDLXSIDEGAP3METHODS"
)
"""The candle patterns."""

TRADE_FEATURES: tuple[FeatureRequest, ...] = _defaults(
    "TICK_RULE ROLL_SPREAD TRADE_IMBALANCE SIGN_AUTOCORRELATION VPIN BVC KYLE_LAMBDA HASBROUCK_LAMBDA "
    "REALIZED_VARIANCE BIPOWER_VARIATION JUMP_VARIATION TWO_SCALE_VARIANCE REALIZED_KERNEL VARIANCE_RATIO"
)
"""The microstructure features that trades alone allow: where no side is given, the tick rule tells it."""
