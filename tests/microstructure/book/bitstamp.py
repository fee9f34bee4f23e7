"""Half an hour of real order events: BTC/USD on Bitstamp, as packaged by ob-analytics (GPL; read here, not installed).

The package asks for a newer pandas than Feast allows, so only its wheel is fetched, kept, checked, and its two files read.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tapeline.kernels.book import ADD, CANCEL, EXECUTE

WHEEL = "ob_analytics-0.1.0-py3-none-any.whl"
SHA256 = "0326a93aaee4ea08356d8dea59868d68592623a2434bbe4d9be379fa855c9c62"
DOWNLOADS = Path(os.environ.get("TAPELINE_TEST_DOWNLOADS", "~/.cache/tapeline-tests")).expanduser()


def _wheel() -> Path:
    wheel = DOWNLOADS / WHEEL
    if not wheel.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input", "ob-analytics==0.1.0"]
        run = subprocess.run(
            [*command, "--dest", str(DOWNLOADS)], capture_output=True, text=True, timeout=120, check=False
        )
        if run.returncode:
            pytest.skip(f"the order events cannot be had here: {run.stderr.strip().splitlines()[-1]}")
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == SHA256
    return wheel


@cache
def _tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    folder = "ob_analytics/_sample_data"
    with zipfile.ZipFile(_wheel()) as archive:
        orders = gzip.decompress(archive.read(f"{folder}/orders.csv.gz"))
        return pl.read_csv(io.BytesIO(orders)), pl.read_csv(io.BytesIO(archive.read(f"{folder}/trades.csv")))


@cache
def events() -> tuple[np.ndarray, ...]:
    """Time (µs), action, order, side, price, size: as :meth:`OrderBook.batch` takes them.

    The venue sends what is left of an order. A change, or a deletion with nothing left, is an execution of the difference
    at the row's price; any other deletion is a cancellation.
    """
    table, _ = _tables()
    side = np.where(table["direction"].to_numpy() == "bid", 1, -1)
    left: dict[int, float] = {}
    actions, sizes = [], []
    for number, volume, action in table.select("id", "volume", "action").iter_rows():
        before = left.get(number, np.nan)
        left[number] = volume
        if action == "created":
            actions.append(ADD)
            sizes.append(volume)
        elif action == "changed" or volume == 0.0:
            actions.append(EXECUTE)
            sizes.append(before - volume)
        else:
            actions.append(CANCEL)
            sizes.append(np.nan)
    time_us = table["exchange_timestamp"].to_numpy() * 1_000
    numbers = table["id"].to_numpy()
    return time_us, np.array(actions), numbers, side, table["price"].to_numpy(), np.array(sizes)


def trades() -> tuple[np.ndarray, ...]:
    """Time (µs), price, size and side (+1: a buyer met a waiting order) of the venue's own list of trades."""
    _, table = _tables()
    side = np.where(table["side"].to_numpy() == "buy", 1.0, -1.0)
    return table["exchange_timestamp"].to_numpy() * 1_000, table["price"].to_numpy(), table["amount"].to_numpy(), side


def last_events() -> list[int]:
    """Row of the last event of each order that the venue deleted."""
    table, _ = _tables()
    return table.with_row_index("row").filter(pl.col("action") == "deleted")["row"].to_list()
