"""Does a large export stay as fast, and in as little memory, as a small one, and is a rebuild as fast as the export?

One-minute rows of 50 symbols with 20 features in an embedded server. Entity rows are a Parquet file in no order, at random
moments over the whole range; each export and rebuild runs in a process of its own, whose greatest resident memory is
read at its end. The large export has fifty times the rows of the small one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tapeline.core.timestamps import to_us

from benchmarks.harness import Result, absolute
from benchmarks.stored.minutes import START, Minutes, server

GROUP = "offline"
STORED = Minutes("minutes", symbols=50, minutes=14 * 24 * 60, features=20)
SMALL_ROWS = 1_000_000
LARGE_ROWS = 50_000_000
ROUNDS = 3
MEMORY_GIB_MAX = 2.0
SLOWER_MAX = 1.2
REBUILD_MAX = 1.05
_BATCH_ROWS = 1_000_000

_CHILD = """
import json, sys, time
from pathlib import Path
from tapeline.datasets import RetrievalPlan, ViewSelection, export, rebuild
from tapeline.storage.postgres import Connection
from benchmarks.harness import greatest_kib
what, url, source, out, features, ttl_us = sys.argv[1:]
names = tuple(f"feature_{number}" for number in range(int(features)))
view = ViewSelection("minutes", 1, "public.minutes", ("symbol",), ("symbol",), names, names, int(ttl_us))
with Connection.connect(url) as connection:
    begin = time.perf_counter()
    if what == "export":
        manifest = export(connection, RetrievalPlan("minutes", (view,)), Path(source), Path(out))
    else:
        result = rebuild(connection, Path(source), out_dir=Path(out))
        result.require_same()
        manifest = result.manifest
    seconds = time.perf_counter() - begin
found = manifest.row_count
print(json.dumps({"seconds": seconds, "rows": found, "sha256": manifest.content_sha256,
    "kib": greatest_kib()}))
"""


def write_entities(path: Path, rows: int) -> None:
    """Entity rows at random moments of random symbols."""
    random = np.random.default_rng(rows)
    names = pa.array([f"SYM{1 + number}" for number in range(STORED.symbols)])
    schema = pa.schema([("symbol", pa.string()), ("event_timestamp", pa.timestamp("us", tz="UTC"))])
    first_us = to_us(START)
    with pq.ParquetWriter(path, schema) as writer:
        for begin in range(0, rows, _BATCH_ROWS):
            count = min(_BATCH_ROWS, rows - begin)
            moments = first_us + random.integers(0, STORED.minutes * 60 * 1_000_000, count)
            columns = [
                names.take(pa.array(random.integers(0, STORED.symbols, count))),
                pa.array(moments).cast(schema.types[1]),
            ]
            writer.write_table(pa.table(columns, schema=schema))


def child(what: str, url: str, source: Path, out: Path) -> dict[str, float]:
    """Run one export or rebuild in a process of its own."""
    ttl_us = timedelta(hours=1) // timedelta(microseconds=1)
    arguments = [what, url, str(source), str(out), str(STORED.features), str(ttl_us)]
    run = subprocess.run([sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(run.stderr)
    answer: dict[str, float] = json.loads(run.stdout)
    return answer


def run() -> Iterator[Result]:
    """Measure."""
    with server() as url, tempfile.TemporaryDirectory(prefix="tapeline-bench-export-") as temporary:
        folder = Path(temporary)
        STORED.create(url)
        small, large = folder / "small.parquet", folder / "large.parquet"
        write_entities(small, SMALL_ROWS)
        write_entities(large, LARGE_ROWS)
        quick = [child("export", url, small, folder / f"small-{number}") for number in range(ROUNDS)]
        whole = child("export", url, large, folder / "large")
        again = child("rebuild", url, folder / "large", folder / "again")
        if whole["rows"] != LARGE_ROWS or again["sha256"] != whole["sha256"]:
            raise AssertionError("the export lost rows, or the rebuild differs")
        sizes = {
            "stored_rows": STORED.rows,
            "entity_rows": LARGE_ROWS,
            "features": STORED.features,
            "rows_per_s": round(LARGE_ROWS / whole["seconds"]),
            "rebuild_s": round(again["seconds"], 1),
        }
        yield absolute(
            f"resident memory of an export of {LARGE_ROWS:,} rows × {STORED.features} features",
            ours=[whole["kib"] / 2**20],
            unit="GiB",
            at_most=MEMORY_GIB_MAX,
            sizes=sizes,
            notes="of the exporting process; the server's is not counted",
        )
        yield absolute(
            f"time of a row of {LARGE_ROWS:,} to that of one of {SMALL_ROWS:,}",
            ours=[whole["seconds"] / LARGE_ROWS / (one["seconds"] / SMALL_ROWS) for one in quick],
            unit="×",
            at_most=SLOWER_MAX,
            sizes=sizes,
        )
        yield absolute(
            f"time of the rebuild of {LARGE_ROWS:,} rows to that of the export",
            ours=[again["seconds"] / whole["seconds"]],
            unit="×",
            at_most=REBUILD_MAX,
            sizes=sizes,
            notes="same SHA-256; written to a folder, as the export was",
        )
