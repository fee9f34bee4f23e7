"""The sets of features that models are trained on and served with."""

from feast import FeatureService
from feature_views import (
    daily_candles,
    daily_technical,
    intraday_candles,
    intraday_technical,
    trade_microstructure,
)
from on_demand import last_price_position

DAILY = [
    "sma_20",
    "ema_20",
    "wma_20",
    "dema_20",
    "tema_20",
    "kama_20",
    "rsi_14",
    "stoch_k_5_3_3",
    "stoch_d_5_3_3",
    "willr_14",
    "cci_14",
    "mfi_14",
    "mom_10",
    "roc_10",
    "aroon_down_14",
    "aroon_up_14",
    "ultosc_7_14_28",
    "ppo_12_26",
    "macd_12_26_9",
    "macd_signal_12_26_9",
    "macd_hist_12_26_9",
    "trix_15",
    "cmo_14",
    "adx_14",
    "plus_di_14",
    "minus_di_14",
    "sar_0p02_0p2",
    "atr_14",
    "natr_14",
    "bbands_upper_20_2_2",
    "bbands_middle_20_2_2",
    "bbands_lower_20_2_2",
    "donchian_upper_20",
    "donchian_middle_20",
    "donchian_lower_20",
    "stddev_20",
    "parkinson_20",
    "garman_klass_20",
    "realized_vol_20",
    "obv",
    "ad",
    "adosc_3_10",
    "cmf_20",
    "vwap_20",
    "linearreg_14",
    "linearreg_slope_14",
    "correl_20",
    "zscore_60",
    "return_1",
    "return_5",
    "return_20",
    "log_return_1",
    "price_z_20",
    "volume_z_20",
    "dist_sma_20",
    "dist_sma_50",
    "dist_sma_200",
    "high_52w",
    "gap",
    "squeeze_20_2_1p5",
    "trend_strength_14",
]

INTRADAY = [
    "ema_20",
    "rsi_14",
    "stoch_k_5_3_3",
    "stoch_d_5_3_3",
    "cci_20",
    "mfi_14",
    "ppo_12_26",
    "adx_14",
    "natr_14",
    "realized_vol_60",
    "cmf_20",
    "vwap_session",
    "zscore_60",
    "return_1",
    "return_15",
    "volume_z_20",
    "squeeze_20_2_1p5",
]

daily_model = FeatureService(
    name="daily_model",
    features=[daily_technical[DAILY]],
    description="The usual daily indicators: the input of the daily models",
)

daily_full = FeatureService(
    name="daily_full",
    features=[daily_technical, daily_candles],
    description="Every feature of daily bars",
)

intraday_model = FeatureService(
    name="intraday_model",
    features=[intraday_technical[INTRADAY]],
    description="The usual indicators of one-minute bars",
)

intraday_full = FeatureService(
    name="intraday_full",
    features=[intraday_technical, intraday_candles, trade_microstructure],
    description="Every feature of one-minute bars, and of the last trade before",
)

daily_with_last_price = FeatureService(
    name="daily_with_last_price",
    features=[daily_technical[DAILY], last_price_position],
    description="The daily indicators, and where the price of the request stands relative to them",
)
