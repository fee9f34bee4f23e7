"""What the benchmarks of indicators run over: made bars of many symbols, and plans and peers with states for each."""

from __future__ import annotations

import numpy as np
import talib.stream
from numpy.typing import NDArray
from tapeline.features import FeaturePlan, FeatureRequest, sample_rows
from tapeline.indicators import INPUTS, Indicator, all_indicators, indicator_named

SYMBOLS = 50
BARS = 20_000
SYMBOLS_AT_ONCE = 10  # of a batch: bounds memory
WARM_UP = 300
ROTATION = 20  # different bars of each symbol while measuring: as hot in the cache as a request that has just come in
PRICES = ("open", "high", "low", "close", "volume")
TALIB_NAMES = {"KELTNER": "KC", "HEIKIN_ASHI": "HA"}
FORTY = (
    "SMA", "EMA", "WMA", "DEMA", "TEMA", "KAMA", "ADX", "DX", "PLUS_DI", "MINUS_DI", "SAR", "TRANGE", "ATR", "NATR", "BBANDS",
    "STDDEV", "LINEARREG", "LINEARREG_SLOPE", "CORREL", "RSI", "CMO", "STOCH", "WILLR", "CCI", "MFI", "MOM", "ROC", "AROON",
    "ULTOSC", "PPO", "MACD", "TRIX", "OBV", "AD", "ADOSC", "DONCHIAN", "PARKINSON", "GARMAN_KLASS", "REALIZED_VOL", "SQUEEZE",
)  # fmt: skip
TALIB_INPUTS = {"CORREL": ("high", "low"), "OBV": ("close", "volume")}

Floats = NDArray[np.float64]
Columns = dict[str, Floats]


def walk(seed: int, bars: int) -> Columns:
    """Bars of a geometric random walk."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
    opened = close * np.exp(rng.normal(0, 0.005, bars))
    high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, 0.004, bars)))
    low = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, 0.004, bars)))
    return {
        "open": opened, "high": high, "low": low, "close": close,
        "volume": rng.integers(1_000, 1_000_000, bars).astype(np.float64),
        "session": np.arange(bars) // 390.0, "split_ratio": np.ones(bars),
    }  # fmt: skip


def shared() -> list[Indicator]:
    """Indicators that TA-Lib has too, candle patterns apart."""
    return [i for i in bar_indicators() if i.oracle == "TA-Lib" and i.group != "candles"]


def bar_indicators() -> list[Indicator]:
    """All that read bars."""
    return [indicator for indicator in all_indicators() if set(indicator.inputs) <= set(INPUTS)]


def full() -> list[Indicator]:
    """The full vector: all over bars but the candle patterns, which are a plan of their own."""
    return [indicator for indicator in bar_indicators() if indicator.group != "candles"]


def forty() -> list[Indicator]:
    """The 40 of the whole path's acceptance: over all groups, 35 of them TA-Lib's too."""
    return [indicator_named(name) for name in FORTY]


def plan_of(indicators: list[Indicator]) -> FeaturePlan:
    return FeaturePlan.of([FeatureRequest(indicator.name) for indicator in indicators]).compile()


def rows_of(plan: FeaturePlan, columns: Columns) -> Floats:
    return sample_rows.rows_of(plan.inputs, columns)


def talib_call(indicator: Indicator) -> tuple[str, tuple[str, ...], dict[str, float]]:
    """Name, input columns and parameters of TA-Lib's function."""
    inputs = TALIB_INPUTS.get(indicator.name, indicator.inputs)
    return TALIB_NAMES.get(indicator.name, indicator.name), inputs, indicator.complete({})


class Updates:
    """Both libraries' states of all symbols, advanced to the same bar."""

    def __init__(self, indicators: list[Indicator]) -> None:
        self.plan = plan_of(indicators)
        self.columns = [walk(seed, WARM_UP + ROTATION) for seed in range(SYMBOLS)]
        self.rows = [list(rows_of(self.plan, columns)) for columns in self.columns]
        self.states = [self.plan.new_state() for _ in range(SYMBOLS)]
        self.out = np.empty(len(self.plan.outputs))
        self.now = 0
        for _ in range(WARM_UP):
            self.ours(SYMBOLS)

    def ours(self, calls: int) -> None:
        """So many updates, symbols in rotation."""
        update, out = self.plan.update, self.out
        for _ in range(calls // SYMBOLS):
            now = self.now
            bar = now if now < WARM_UP else WARM_UP + now % ROTATION
            for state, rows in zip(self.states, self.rows, strict=True):
                update(state, now, 0, now, rows[bar], out)
            self.now += 1


class Handles:
    """TA-Lib's stream handles of all symbols, each with the tuple of values that its update takes for every bar."""

    def __init__(self, indicators: list[Indicator], columns: list[Columns]) -> None:
        self.symbols = []
        for symbol in columns:
            entries = []
            for name, inputs, parameters in map(talib_call, indicators):
                history = [symbol[column][:WARM_UP] for column in inputs]
                handle = getattr(talib.stream, name)(*history, **parameters)
                entries.append((handle.update, list(zip(*(symbol[column].tolist() for column in inputs), strict=True))))
            self.symbols.append(entries)
        self.now = WARM_UP

    def theirs(self, calls: int) -> None:
        """So many bars, symbols in rotation, every indicator for each."""
        for _ in range(calls // SYMBOLS):
            bar = WARM_UP + self.now % ROTATION
            for entries in self.symbols:
                for update, values in entries:
                    update(*values[bar])
            self.now += 1


class Batches:
    """``FeaturePlan.batch`` over many bars of all symbols, so many symbols at once, into buffers that are used again."""

    def __init__(self, indicators: list[Indicator], columns: list[Columns]) -> None:
        self.plan = plan_of(indicators)
        self.rows = [
            np.concatenate([rows_of(self.plan, symbol) for symbol in columns[first : first + SYMBOLS_AT_ONCE]])
            for first in range(0, len(columns), SYMBOLS_AT_ONCE)
        ]
        count = min(SYMBOLS_AT_ONCE, len(columns))
        self.at = np.tile(np.arange(BARS, dtype=np.int64), count)
        self.sequence = np.zeros_like(self.at)
        self.offsets = np.arange(count + 1, dtype=np.int64) * BARS
        self.out = np.empty((len(self.at), len(self.plan.outputs)))
        self.available = np.empty(len(self.at), np.int64)

    def ours(self, threads: int) -> None:
        for part in self.rows:
            self.plan.batch(
                self.at, self.sequence, self.at, part, self.offsets,
                out=self.out, available_out=self.available, threads=threads,
            )  # fmt: skip
