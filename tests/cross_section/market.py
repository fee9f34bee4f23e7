"""Real daily returns of five shares, with listings, gaps and a delisting, as rows and as a frame."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
from bokeh_sampledata.stocks import AAPL, FB, GOOG, IBM, MSFT

SECTOR = {"AAPL": "devices", "MSFT": "software", "GOOG": "web", "FB": "web", "IBM": "software"}


@cache
def returns() -> pl.DataFrame:
    """Rows symbol, event_timestamp, value, group, index; a day's rows in no order; about 2 % of the values missing."""
    parts = []
    for symbol, stock in {"AAPL": AAPL, "FB": FB, "GOOG": GOOG, "IBM": IBM, "MSFT": MSFT}.items():
        close = np.array(stock["close"], dtype=float)
        parts.append(
            pl.DataFrame(
                {
                    "symbol": [symbol] * (len(close) - 1),
                    "event_timestamp": stock["date"][1:],
                    "value": close[1:] / close[:-1] - 1,
                    "group": [SECTOR[symbol]] * (len(close) - 1),
                }
            )
        )
    frame = pl.concat(parts).with_columns(
        pl.col("event_timestamp").str.to_datetime("%Y-%m-%d", time_zone="UTC", time_unit="us")
    )
    random = np.random.default_rng(5)
    values = frame["value"].to_numpy().copy()
    values[random.random(len(values)) < 0.02] = np.nan
    values = np.round(values, 3)  # so that ties occur
    index = frame.group_by("event_timestamp").agg(pl.col("value").median().alias("index"))
    frame = frame.with_columns(pl.Series("value", values)).join(index, on="event_timestamp")
    return frame.sample(fraction=1.0, shuffle=True, seed=3)
