"""Reading an exported folder: its rows in order, whole or a file at a time, and checked against the fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from tapeline.core.errors import IntegrityError
from tapeline.datasets.fingerprint import StreamingFingerprint
from tapeline.datasets.manifest import DatasetManifest, read_manifest
from tapeline.datasets.part_files import read_part


def read_tables(folder: Path, manifest: DatasetManifest | None = None) -> Iterator[pa.Table]:
    """The rows of a data set in their order, a file at a time; what is on the disk, unchecked.

    Raises
    ------
    IntegrityError
        If the manifest or a file is missing or unreadable.
    """
    for part in (manifest or read_manifest(folder)).parts:
        yield read_part(folder, part)


def read_data(folder: Path, manifest: DatasetManifest | None = None) -> pa.Table:
    """All rows of a data set, checked.

    Raises
    ------
    IntegrityError
        If a file is missing or unreadable, or the content is not what the manifest says.
    """
    manifest = manifest or read_manifest(folder)
    tables = list(read_tables(folder, manifest))
    schemas = {table.schema.remove_metadata() for table in tables}
    if len(schemas) != 1:
        raise IntegrityError(f"the files have {len(schemas)} different sets of columns", where=str(folder))
    with StreamingFingerprint(tables[0].schema) as content:
        for table in tables:
            content.update(table)
        actual = content.result().sha256
    if actual != manifest.content_sha256:
        raise IntegrityError(
            f"the data has SHA-256 {actual} where {manifest.content_sha256} is expected",
            where=str(folder),
            remedy="Make it again with: tapeline rebuild",
        )
    return pa.concat_tables(tables)
