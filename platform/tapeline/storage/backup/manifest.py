"""A backup's ``manifest.json``: which tables with how many rows, their digests, and what the snapshot stood for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tapeline.core.errors import IntegrityError
from tapeline.core.hashing import sha256_file, sha256_json
from tapeline.storage.backup.catalogue import TableDescription

MANIFEST_NAME = "manifest.json"
TABLES_FOLDER = "tables"
_MANIFEST_BYTES_MAX = 64 * 1024 * 1024

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SavedSequence(_Part):
    """Where a column's sequence stood."""

    column: str
    last_value: int
    is_called: bool


class SavedTable(_Part):
    """A table and its file: binary COPY, compressed by zstd."""

    table: TableDescription
    rows: int
    bytes: int
    sha256: Sha256
    sequences: tuple[SavedSequence, ...] = ()

    @property
    def file_name(self) -> str:
        """Below the backup's folder."""
        return f"{TABLES_FOLDER}/{self.table.full_name}.copy.zst"


class SavedPolicy(_Part):
    """A policy that Tapeline set once: whether it is still there, and with which interval."""

    table: str
    policy: Literal["compression", "refresh", "retention"]
    active: bool
    after: str | None = None


class AppliedMigration(_Part):
    """A migration of the database's schema."""

    number: int
    name: str
    sha256: Sha256


class BackupManifest(_Part):
    """The whole manifest.

    Attributes
    ----------
    taken_us
        Time of the snapshot by the server's clock, microseconds UTC; no row was recorded after it.
    safe_horizon_us
        Vintages up to this moment are complete in the backup.
    edition, server_version
        What the database ran on; a restore does not depend on them.
    migrations
        Its schema.
    tables
        In the order in which they can be loaded.
    policies
        Under the Community edition: what became of the policies that Tapeline sets.
    bundles
        Addresses of the model bundles beside the tables.
    manifest_sha256
        Of everything above.
    """

    format: Literal[1] = 1
    taken_us: int
    safe_horizon_us: int
    edition: str
    server_version: int
    tapeline_version: str
    migrations: tuple[AppliedMigration, ...]
    tables: tuple[SavedTable, ...]
    policies: tuple[SavedPolicy, ...] = ()
    bundles: tuple[Sha256, ...] = ()
    manifest_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(saved.rows for saved in self.tables)

    @property
    def bytes(self) -> int:
        """Of all tables' files."""
        return sum(saved.bytes for saved in self.tables)

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return sha256_json(self.model_dump(mode="json", exclude={"manifest_sha256"}))

    def signed(self) -> Self:
        """The same with its digest."""
        return self.model_copy(update={"manifest_sha256": self.digest})


def read_manifest(folder: Path) -> BackupManifest:
    """Read and check a backup's manifest.

    Raises
    ------
    IntegrityError
        If it is missing, malformed, or not what was written.
    """
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > _MANIFEST_BYTES_MAX:
            raise IntegrityError("the manifest is larger than any that a backup writes", where=str(path))
        text = path.read_text(encoding="utf-8")
        manifest = BackupManifest.model_validate_json(text)
    except (FileNotFoundError, NotADirectoryError):
        raise IntegrityError(
            "there is no backup", where=str(folder), remedy="Name the folder that tapeline backup wrote"
        ) from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise IntegrityError(f"the manifest is damaged: {str(error).splitlines()[0]}", where=str(path)) from None
    if manifest.digest != manifest.manifest_sha256:
        raise IntegrityError(
            f"the manifest has SHA-256 {manifest.digest} where {manifest.manifest_sha256 or 'nothing'} is expected",
            where=str(path),
            remedy="Take another copy of the backup",
        )
    return manifest


def verify_folder(folder: Path, manifest: BackupManifest, advance: Callable[[int], object] = lambda _: None) -> None:
    """Check every table's file against the manifest; ``advance`` is called with the bytes of each.

    Raises
    ------
    IntegrityError
        If a file is missing, altered, or not of the backup; the message names it.
    """
    expected = {saved.file_name for saved in manifest.tables}
    present = {str(file.relative_to(folder)) for file in (folder / TABLES_FOLDER).glob("*")}
    if strange := sorted(present - expected):
        raise IntegrityError(f"{strange[0]} is not part of the backup", where=str(folder))
    for saved in manifest.tables:
        path = folder / saved.file_name
        if not path.is_file():
            raise IntegrityError(f"the file of table {saved.table.full_name} is missing", where=str(path))
        actual = sha256_file(path)
        if actual != saved.sha256:
            raise altered(saved, actual, path)
        advance(saved.bytes)


def altered(saved: SavedTable, actual: str, path: Path) -> IntegrityError:
    """The error of a file that is not what was written."""
    return IntegrityError(
        f"the file of table {saved.table.full_name} has SHA-256 {actual} where {saved.sha256} is expected",
        where=str(path),
        remedy="Take another copy of the backup, or an older backup",
    )
