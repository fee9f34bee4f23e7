"""``tapeline backup`` and ``restore``: the database with its recording times, and the registered models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tapeline.cli.app import JsonOption, emit, progress
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import format_us, parse_duration_us


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    folder: Annotated[Path, typer.Argument(help="Folder to write; must not exist yet.", show_default=False)],
    schema: Annotated[
        list[str] | None, typer.Option(help="A further schema to save, such as that of logged features; repeatable.")
    ] = None,
    without_models: Annotated[bool, typer.Option("--without-models", help="Leave out the model bundles.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Save the database and the registered models as of one moment, recording times included.

    Writers may go on meanwhile. The folder appears complete or not at all.
    """
    from tapeline.registry.backup import backup as write
    from tapeline.registry.store import open_store
    from tapeline.storage.postgres import connect

    store = None if without_models else open_store(get_settings().artifacts_path)
    with progress("Rows saved") as advance, connect() as connection:
        manifest = write(connection, folder, store, schemas=schema or (), advance=advance)
    emit(
        {
            "folder": str(folder),
            "tables": len(manifest.tables),
            "rows": manifest.rows,
            "bytes": manifest.bytes,
            "models": len(manifest.bundles),
            "taken": format_us(manifest.taken_us),
            "safe_horizon": format_us(manifest.safe_horizon_us),
            "edition": manifest.edition,
            "schema_version": len(manifest.migrations),
            "manifest_sha256": manifest.manifest_sha256,
        },
        as_json=as_json,
        title="Backup",
    )


def restore(
    folder: Annotated[Path, typer.Argument(help="Folder that tapeline backup wrote.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Lose what the database holds.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only verify the backup; no database is needed.")] = False,
    without_models: Annotated[bool, typer.Option("--without-models", help="Leave the model bundles alone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into an empty database, after verifying every byte: all of it, or nothing."""
    from tapeline.registry.backup import restore as load
    from tapeline.registry.backup import verify_backup
    from tapeline.registry.store import open_store
    from tapeline.storage.backup import read_manifest
    from tapeline.storage.postgres import connect

    settings = get_settings()
    total = read_manifest(folder).bytes
    if check:
        with progress("Bytes verified", total=total) as advance:
            manifest = verify_backup(folder, advance=advance)
        result: dict[str, object] = {"folder": str(folder), "intact": True}
    else:
        store = None if without_models else open_store(settings.artifacts_path)
        with progress("Bytes verified, then loaded", total=2 * total) as advance, connect() as connection:
            restored = load(
                connection,
                folder,
                store,
                overwrite=overwrite,
                chunk_interval_us=parse_duration_us(settings.chunk_interval),
                advance=advance,
            )
        manifest = restored.manifest
        result = {
            "edition": restored.loaded.edition,
            "migrated": list(restored.loaded.migrated),
            "seconds": restored.loaded.seconds,
        }
    emit(
        {
            "tables": len(manifest.tables),
            "rows": manifest.rows,
            "models": len(manifest.bundles),
            "taken": format_us(manifest.taken_us),
            "safe_horizon": format_us(manifest.safe_horizon_us),
            **result,
        },
        as_json=as_json,
        title="Verified" if check else "Restored",
    )
