"""Runs in the peers' environment: reads a task, then does one round for every line on its standard input.

The task is a ``.npz`` file with ``bars`` (symbols, rows, 5: open, high, low, close, volume), the peer, the calls, the rows of
warm-up and how many rows there are to rotate through. It prints ``ready``, then the seconds of each round.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import names


def updates(peer: str, chosen: list[str], bars: np.ndarray, warm_up: int, rotation: int) -> Callable[[int], None]:
    """One object per symbol and indicator, fed bar by bar, symbols in rotation."""
    if peer == "wickra":
        import wickra as library

        table, method = names.WICKRA, "update"

        def candle(row: Any, at: int) -> Any:
            return (*row, at)
    else:
        from talipp import indicators as library
        from talipp.ohlcv import OHLCV

        table, method = names.TALIPP, "add"

        def candle(row: Any, _at: int) -> Any:
            return OHLCV(*row)

    entries = []
    for symbol in bars.tolist():
        candles = [candle(row, at) for at, row in enumerate(symbol)]
        closes = [row[3] for row in symbol]
        handles = []
        for name in chosen:
            function, arguments, kind = table[name]
            values = closes if kind == "c" else candles
            update = getattr(getattr(library, function)(*arguments), method)
            for value in values[:warm_up]:
                update(value)
            handles.append((update, values))
        entries.append(handles)
    now = warm_up

    def advance(count: int) -> None:
        nonlocal now
        for _ in range(count):
            bar = warm_up + now % rotation
            for handles in entries:
                for update, values in handles:
                    update(values[bar])
            now += 1

    return advance


def batch(chosen: list[str], bars: np.ndarray) -> Callable[[int], None]:
    """pandas-ta's functions over the first so many symbols."""
    import pandas as pd
    import pandas_ta_classic as ta

    frames = []
    for symbol in bars:
        series = dict(zip("ohlcv", (pd.Series(np.ascontiguousarray(column)) for column in symbol.T), strict=True))
        frames.append(series)
    calls = [(getattr(ta, names.PANDAS_TA[n][0]), *names.PANDAS_TA[n][1:]) for n in chosen]

    def advance(count: int) -> None:
        for series in frames[:count]:
            for function, arguments, kind in calls:
                if function(*(series[letter] for letter in kind), *arguments) is None:
                    raise RuntimeError(f"{function.__name__} gave nothing")

    return advance


def main() -> None:
    warnings.simplefilter("ignore")
    with np.load(sys.argv[1]) as task:
        bars, about = task["bars"], json.loads(str(task["about"]))
    if about["peer"] == "pandas-ta-classic":
        advance = batch(about["names"], bars)
    else:
        advance = updates(about["peer"], about["names"], bars, about["warm_up"], about["rotation"])
    print("ready", flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        advance(int(line))
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()
