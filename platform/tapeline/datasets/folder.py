"""The folder of a data set: written beside its place, then moved there."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tapeline.core.errors import ParameterError
from tapeline.datasets.manifest import DATA_NAME, ENTITIES_NAME, MANIFEST_NAME, DatasetManifest


def write_folder(out_dir: Path, table: pa.Table, rows: pa.Table, manifest: DatasetManifest) -> None:
    """Write the folder beside its place, then move it there."""
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    incoming = out_dir.parent / f".incoming-{uuid.uuid4().hex}"
    incoming.mkdir()
    try:
        pq.write_table(table, incoming / DATA_NAME, compression="zstd")
        pq.write_table(rows, incoming / ENTITIES_NAME, compression="zstd")
        (incoming / MANIFEST_NAME).write_text(manifest.to_text(), encoding="utf-8")
        for file in incoming.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if out_dir.exists():
            outgoing = incoming.with_name(incoming.name.replace("incoming", "outgoing"))
            out_dir.rename(outgoing)
            incoming.rename(out_dir)
            shutil.rmtree(outgoing)
        else:
            incoming.rename(out_dir)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def check_folder(out_dir: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is in use.

    Raises
    ------
    ParameterError
        If it holds anything and `overwrite` is not set, or holds something that is no data set.
    """
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    if not overwrite:
        raise ParameterError(f"{out_dir} is in use", remedy="Choose another folder, or pass --overwrite")
    if not (out_dir / MANIFEST_NAME).is_file():
        raise ParameterError(f"{out_dir} holds something that is no data set", remedy="Choose another folder")
