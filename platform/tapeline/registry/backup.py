"""Backup and restore of everything that cannot be computed again: the database and the registered model bundles.

What can be is left out: the online store is filled again from the restored database by ``tapeline backfill`` (states) and
``feast materialize`` (values). Code, settings and exported data sets are files of their own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tapeline.core.errors import IntegrityError
from tapeline.registry.bundle import verify_bundle
from tapeline.registry.store import BundleStore
from tapeline.storage.backup import BackupManifest, Loaded, dump, load, read_manifest, verify_folder
from tapeline.storage.backup.folder import appearing
from tapeline.storage.backup.manifest import MANIFEST_NAME
from tapeline.storage.backup.writing import SCHEMAS
from tapeline.storage.migrations import CHUNK_INTERVAL_US

BUNDLES_FOLDER = "bundles"


@dataclass(frozen=True)
class Restored:
    """What a restore did: the tables, and how many bundles it put into the store."""

    manifest: BackupManifest
    loaded: Loaded
    bundles: int


def backup(
    connection: psycopg.Connection[Any],
    folder: Path,
    store: BundleStore | None,
    *,
    schemas: Sequence[str] = (),
    advance: Callable[[int], object] = lambda _: None,
) -> BackupManifest:
    """Write a backup into a new folder, all or nothing.

    Parameters
    ----------
    connection
        An idle connection. Writers may go on: the backup is one snapshot.
    folder
        Must be absent or empty.
    store
        Where the registered bundles are; none: they are left out.
    schemas
        Further schemas to save, beside Tapeline's own and that of Feast's registry.
    advance
        Called with a number of rows each time so many are written.

    Returns
    -------
    BackupManifest
        As written.

    Raises
    ------
    IntegrityError
        If a registered bundle is missing or damaged.
    ParameterError
        If the folder is in use.
    SchemaError, UnavailableError
        See :func:`tapeline.storage.backup.dump`.
    """
    with appearing(folder) as incoming:
        manifest, addresses = dump(
            connection, incoming, schemas=tuple(dict.fromkeys((*SCHEMAS, *schemas))), advance=advance
        )
        if store is not None:
            for address in addresses:
                shutil.copytree(store.fetch(address), incoming / BUNDLES_FOLDER / address)
            manifest = manifest.model_copy(update={"bundles": tuple(addresses)})
        manifest = manifest.signed()
        (incoming / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def verify_backup(folder: Path, *, advance: Callable[[int], object] = lambda _: None) -> BackupManifest:
    """Check every byte of a backup without a database; ``advance`` is called with the bytes of each table.

    Raises
    ------
    IntegrityError
        If anything is missing or altered; the message names it.
    """
    manifest = read_manifest(folder)
    verify_folder(folder, manifest, advance)
    for address in manifest.bundles:
        path = folder / BUNDLES_FOLDER / address
        if not path.is_dir():
            raise IntegrityError(f"bundle {address} is missing", where=str(path))
        verify_bundle(path, address=address)
    return manifest


def restore(
    connection: psycopg.Connection[Any],
    folder: Path,
    store: BundleStore | None,
    *,
    overwrite: bool = False,
    chunk_interval_us: int = CHUNK_INTERVAL_US,
    advance: Callable[[int], object] = lambda _: None,
) -> Restored:
    """Restore a backup: every byte is verified before anything is written, and the database changes at once or not at all.

    Parameters
    ----------
    connection
        An idle connection to an empty or freshly migrated database.
    folder
        The backup.
    store
        Where the bundles go; none: they are left where they are.
    overwrite
        Replace what the database holds.
    chunk_interval_us
        Time span of a TimescaleDB chunk, µs.
    advance
        Called with a number of bytes: every table's twice, when verified and when loaded.

    Raises
    ------
    IntegrityError
        If anything of the backup is missing or altered.
    ParameterError, SchemaError, UnavailableError
        See :func:`tapeline.storage.backup.load`.
    """
    manifest = verify_backup(folder, advance=advance)
    if store is not None:  # addressed by content: without the registry's rows nobody sees them
        for address in manifest.bundles:
            store.put(folder / BUNDLES_FOLDER / address)
    loaded = load(
        connection, folder, manifest, overwrite=overwrite, chunk_interval_us=chunk_interval_us, advance=advance
    )
    return Restored(manifest, loaded, len(manifest.bundles) if store is not None else 0)
