"""The sources that come as packages: daily bars of five shares, and trades of one future."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from tapeline.core.errors import IntegrityError, MissingExtraError, UnavailableError
from tapeline.core.hashing import sha256_file
from tapeline.core.timestamps import MINUTE_US
from tapeline.ingestion.inputs import CsvInput, Input, open_input
from tapeline.ingestion.layout import Layout
from tapeline.ingestion.master import FUTURES, SHARES, SPLITS, Split
from tapeline.storage.reference import Instrument, Source


@dataclass(frozen=True, slots=True)
class PackagedSource:
    """A source with everything that an ingest of it needs.

    Parameters
    ----------
    source
        Its declaration.
    layout
        How its file is written.
    instruments, splits
        What its symbols are, and their splits.
    open
        Opens the file; given the folder for downloads.
    """

    source: Source
    layout: Layout
    instruments: tuple[Instrument, ...]
    splits: tuple[Split, ...]
    open: Callable[[Path], Input]


_WHEEL = "mlfinpy-0.1.2-py3-none-any.whl"
_WHEEL_REQUIREMENT = "mlfinpy==0.1.2"
_WHEEL_SHA256 = "2e0237e0a5f693bb1c7e9758e52ec03033a4d24ecee1162899d8241d7340e3f2"
_WHEEL_MEMBER = "mlfinpy/dataset/data/tick_data.csv"
_DOWNLOAD_TIMEOUT_S = 120


def _open_daily_bars(_: Path) -> Input:
    found = find_spec("bokeh_sampledata")
    if found is None or found.origin is None:
        raise MissingExtraError("bokeh-sampledata", "demo")
    # The file itself: importing the package's module would parse it line by line into dictionaries.
    return open_input(Path(found.origin).parent / "_data" / "stocks.csv.gz")


def _open_trades(downloads: Path) -> Input:
    wheel = fetch_wheel(downloads)
    return CsvInput("cme-trades", lambda: _packed_trades(wheel))


def open_trades_file(downloads: Path) -> IO[bytes]:
    """The file of trades as it was published, for readers that want its bytes rather than trades.

    Raises
    ------
    UnavailableError, IntegrityError
        As an ingest of the source does.
    """
    return _packed_trades(fetch_wheel(downloads))


def _packed_trades(wheel: Path) -> IO[bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return io.BytesIO(archive.read(_WHEEL_MEMBER))


def fetch_wheel(downloads: Path) -> Path:
    """The wheel that carries the trades, downloaded once and checked each time.

    It is not installed: its requirements pin an old numpy, and only its data file is wanted.

    Raises
    ------
    UnavailableError
        If it is not in the folder and cannot be downloaded.
    IntegrityError
        If its bytes are not the ones that are known.
    """
    wheel = downloads / _WHEEL
    if not wheel.is_file():
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=downloads) as folder:  # a download that is cut off leaves nothing behind
            _download(Path(folder), downloads)
            (Path(folder) / _WHEEL).replace(wheel)
    actual = sha256_file(wheel)
    if actual != _WHEEL_SHA256:
        raise IntegrityError(
            f"{wheel.name} has SHA-256 {actual}, not {_WHEEL_SHA256}",
            where=str(wheel),
            remedy="Delete the file and ingest again: it is then downloaded anew",
        )
    return wheel


def _download(folder: Path, downloads: Path) -> None:
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--dest", str(folder)]
    remedy = (
        f"On a machine with a network run: pip download --no-deps {_WHEEL_REQUIREMENT};"
        f" then put {_WHEEL} into {downloads}"
    )
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, _WHEEL_REQUIREMENT],
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError("the download of the trades took too long", remedy=remedy) from None
    if run.returncode or not (folder / _WHEEL).is_file():
        lines = (run.stderr or run.stdout).strip().splitlines()
        reason = next(
            (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no output"
        )
        raise UnavailableError(f"the trades could not be downloaded: {reason}", remedy=remedy)


PACKAGED: dict[str, PackagedSource] = {
    "us-daily": PackagedSource(
        Source(
            "us-daily",
            "bars",
            declared_lag_us=15 * MINUTE_US,
            calendar="XNYS",
            description="daily bars of five US shares, as traded (bokeh-sampledata, from Quandl WIKI Prices)",
        ),
        # `Adj Close` is left out: it is scaled by the splits and dividends of later years.
        Layout(columns={"Ticker": "symbol"}),
        SHARES,
        SPLITS,
        _open_daily_bars,
    ),
    "cme-trades": PackagedSource(
        Source(
            "cme-trades",
            "trades",
            calendar="CMES",
            description="trades of the E-mini S&P 500 future, 2013-09-01 to 2013-09-03 (mlfinpy)",
        ),
        Layout(
            columns={"DateTime": "event_timestamp", "Volume": "size"},
            timezone="America/Chicago",
            symbol="ES",
        ),
        FUTURES,
        (),
        _open_trades,
    ),
}
