"""Which indicators of ours the peers have too: our name → the peer's name and arguments at our defaults.

Inputs are ``c`` (closes), ``hl``, ``hlc``, ``cv`` and ``hlcv``; ``candle`` where the peer takes a whole bar.
"""

from __future__ import annotations

Call = tuple[str, tuple[float, ...], str]

WICKRA: dict[str, Call] = {
    "SMA": ("SMA", (30,), "c"), "EMA": ("EMA", (30,), "c"), "WMA": ("WMA", (30,), "c"), "DEMA": ("DEMA", (30,), "c"),
    "TEMA": ("TEMA", (30,), "c"), "KAMA": ("KAMA", (30, 2, 30), "c"), "RSI": ("RSI", (14,), "c"),
    "CMO": ("CMO", (14,), "c"), "MOM": ("MOM", (10,), "c"), "ROC": ("ROC", (10,), "c"), "PPO": ("PPO", (12, 26), "c"),
    "MACD": ("MACD", (12, 26, 9), "c"), "TRIX": ("TRIX", (30,), "c"), "BBANDS": ("BollingerBands", (20, 2.0), "c"),
    "STDDEV": ("StdDev", (5,), "c"), "LINEARREG": ("LinearRegression", (14,), "c"),
    "LINEARREG_SLOPE": ("LinRegSlope", (14,), "c"), "ZSCORE": ("ZScore", (30,), "c"),
    "WILLR": ("WilliamsR", (14,), "candle"), "STOCH": ("Stochastic", (5, 3), "candle"), "CCI": ("CCI", (14,), "candle"),
    "MFI": ("MFI", (14,), "candle"), "AROON": ("Aroon", (14,), "candle"),
    "ULTOSC": ("UltimateOscillator", (7, 14, 28), "candle"), "ADX": ("ADX", (14,), "candle"), "DX": ("DX", (14,), "candle"),
    "PLUS_DI": ("PLUS_DI", (14,), "candle"), "MINUS_DI": ("MINUS_DI", (14,), "candle"),
    "SAR": ("PSAR", (0.02, 0.02, 0.2), "candle"), "TRANGE": ("TrueRange", (), "candle"), "ATR": ("ATR", (14,), "candle"),
    "NATR": ("NATR", (14,), "candle"), "DONCHIAN": ("Donchian", (20,), "candle"), "OBV": ("OBV", (), "candle"),
    "AD": ("ADL", (), "candle"), "ADOSC": ("ChaikinOscillator", (3, 10), "candle"),
    "CMF": ("ChaikinMoneyFlow", (20,), "candle"), "VWAP": ("RollingVWAP", (20,), "candle"),
}  # fmt: skip

TALIPP: dict[str, Call] = {
    "SMA": ("SMA", (30,), "c"), "EMA": ("EMA", (30,), "c"), "WMA": ("WMA", (30,), "c"), "DEMA": ("DEMA", (30,), "c"),
    "TEMA": ("TEMA", (30,), "c"), "KAMA": ("KAMA", (30, 2, 30), "c"), "RSI": ("RSI", (14,), "c"), "ROC": ("ROC", (10,), "c"),
    "MACD": ("MACD", (12, 26, 9), "c"), "BBANDS": ("BB", (20, 2.0), "c"), "STDDEV": ("StdDev", (5,), "c"),
    "WILLR": ("Williams", (14,), "candle"), "STOCH": ("Stoch", (5, 3), "candle"), "CCI": ("CCI", (14,), "candle"),
    "AROON": ("Aroon", (14,), "candle"), "ULTOSC": ("UO", (7, 14, 28), "candle"), "ADX": ("ADX", (14, 14), "candle"),
    "ATR": ("ATR", (14,), "candle"), "NATR": ("NATR", (14,), "candle"), "DONCHIAN": ("DonchianChannels", (20,), "candle"),
    "OBV": ("OBV", (), "candle"), "AD": ("AccuDist", (), "candle"), "ADOSC": ("ChaikinOsc", (3, 10), "candle"),
}  # fmt: skip

PANDAS_TA: dict[str, Call] = {
    "SMA": ("sma", (30,), "c"), "EMA": ("ema", (30,), "c"), "WMA": ("wma", (30,), "c"), "DEMA": ("dema", (30,), "c"),
    "TEMA": ("tema", (30,), "c"), "RSI": ("rsi", (14,), "c"), "CMO": ("cmo", (14,), "c"), "MOM": ("mom", (10,), "c"),
    "ROC": ("roc", (10,), "c"), "MACD": ("macd", (12, 26, 9), "c"), "TRIX": ("trix", (30,), "c"),
    "BBANDS": ("bbands", (20, 2.0), "c"), "STDDEV": ("stdev", (5,), "c"), "LINEARREG": ("linreg", (14,), "c"),
    "LINEARREG_SLOPE": ("slope", (14,), "c"), "ZSCORE": ("zscore", (30,), "c"), "WILLR": ("willr", (14,), "hlc"),
    "STOCH": ("stoch", (5, 3, 3), "hlc"), "CCI": ("cci", (14,), "hlc"), "ULTOSC": ("uo", (7, 14, 28), "hlc"),
    "ADX": ("adx", (14,), "hlc"), "TRANGE": ("true_range", (), "hlc"), "ATR": ("atr", (14,), "hlc"),
    "NATR": ("natr", (14,), "hlc"), "AROON": ("aroon", (14,), "hl"), "DONCHIAN": ("donchian", (20, 20), "hl"),
    "OBV": ("obv", (), "cv"), "MFI": ("mfi", (14,), "hlcv"), "AD": ("ad", (), "hlcv"),
}  # fmt: skip
