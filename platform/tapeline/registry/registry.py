"""The model registry: names, semantic versions and aliases in PostgreSQL, bundles in the content-addressed store."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tapeline.core.errors import LimitError, ParameterError, UnknownNameError
from tapeline.core.timestamps import to_us
from tapeline.registry.bundle import verify_bundle, write_bundle
from tapeline.registry.compatibility import check_features
from tapeline.registry.manifest import UNREGISTERED, BundleManifest, read_manifest
from tapeline.registry.replay import replay_bundle
from tapeline.registry.store import open_store
from tapeline.storage.view_versions import require_usable

LATEST = "latest"
DEFAULT_ALIAS = "champion"
LOAD_SECONDS_MAX = 10.0
Bump = Literal["major", "minor", "patch"]

_VERSION = re.compile(r"^\d+\.\d+\.\d+$")
_ALIAS = re.compile(r"^[a-z][a-z0-9_-]*$")
_SELECT = """
    SELECT m.model, m.version, m.model_uuid, m.bundle_sha256, m.dataset_sha256, m.parent_sha256, m.metrics,
           m.created_timestamp,
           ARRAY(SELECT a.alias FROM (
               SELECT DISTINCT ON (alias) alias, version FROM tapeline.model_aliases
               WHERE model = m.model ORDER BY alias, id DESC) a
             WHERE a.version = m.version ORDER BY a.alias) AS aliases
    FROM tapeline.models m
"""
_BY_VERSION = " ORDER BY m.model, string_to_array(m.version, '.')::int[]"


@dataclass(frozen=True)
class ModelRecord:
    """A registered model version."""

    model: str
    version: str
    model_uuid: UUID
    bundle_sha256: str
    dataset_sha256: str | None
    parent_sha256: str | None
    metrics: Mapping[str, Any]
    created_us: int
    aliases: tuple[str, ...]


def parse_reference(text: str) -> tuple[str, str | None]:
    """Split ``name``, ``name@1.2.0``, ``name@champion`` or ``name@latest`` into name and selector.

    Raises
    ------
    ParameterError
        If either part is malformed.
    """
    name, at, selector = text.partition("@")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) or (
        at and not (_VERSION.fullmatch(selector) or _ALIAS.fullmatch(selector))
    ):
        raise ParameterError(
            f"{text!r} names no model",
            remedy="Write it like daily_direction, daily_direction@1.0.0 or daily_direction@champion",
        )
    return name, selector or None


class Registry:
    """Registers, resolves and fetches models.

    Parameters
    ----------
    connection
        To the database with Tapeline's schema. Each method is one transaction of its own.
    artifacts_path
        Folder or fsspec URL of the bundles.
    cache_path
        Where bundles of a remote store are kept locally.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        artifacts_path: str | Path,
        *,
        cache_path: Path | None = None,
    ) -> None:
        self._connection = connection
        self._store = open_store(artifacts_path, cache=cache_path)

    def register(
        self, bundle: Path, *, version: str | None = None, bump: Bump | None = None, aliases: Sequence[str] = ()
    ) -> ModelRecord:
        """Validate a bundle folder, give it a version, keep it, and name it.

        Registering again what the newest version already is (same files, data set and features) changes nothing and
        returns that version.

        Parameters
        ----------
        bundle
            A folder written by :func:`tapeline.registry.bundle.write_bundle`. It is copied, never changed.
        version
            A version that is not taken; none: the next one.
        bump
            Which part of the newest version to raise; none: major if features or label differ from it, else minor.
        aliases
            Set for this version.

        Raises
        ------
        IntegrityError, LimitError, ParityError
            If the bundle is altered, larger than 100 MB, slower to load than 10 s, or fails its own sample.
        UnknownNameError, LineageError
            If it asks for views or features that this database does not have, or of another definition.
        VersionStateError
            If it is built on a view version that is retired.
        ParameterError
            If the version is malformed or taken.
        """
        for alias in aliases:
            _check_alias(alias)
        draft = verify_bundle(bundle)
        started = time.perf_counter()
        replay_bundle(bundle, draft)
        if (taken := time.perf_counter() - started) > LOAD_SECONDS_MAX:
            raise LimitError(
                f"the model took {taken:.1f} s to load and replay; at most {LOAD_SECONDS_MAX:.0f} s are allowed",
                where=str(bundle),
                remedy="Train a smaller model",
            )
        with self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(hashtext('tapeline:models:' || %s))", (draft.model,))
            check_features(self._connection, draft)
            _require_usable_views(self._connection, draft, "new")
            versions = self.records(draft.model)
            newest = versions[-1] if versions else None
            before = read_manifest(self._store.fetch(newest.bundle_sha256)) if newest else None
            if newest and before and version in (None, newest.version) and _same(draft, before):
                record_version = newest.version
            else:
                record_version = _choose_version(draft, before, [v.version for v in versions], version, bump)
                parent = draft.parent or (newest.bundle_sha256 if newest else None)
                self._keep(bundle, draft.model_copy(update={"version": record_version, "parent": parent}))
            for alias in aliases:
                self._insert_alias(draft.model, alias, record_version, draft)
        return self.resolve(draft.model, record_version)

    def resolve(self, model: str, selector: str | None = None) -> ModelRecord:
        """The version that a selector names.

        Parameters
        ----------
        model
            Name.
        selector
            A version, an alias, or ``latest`` (the greatest version); none: the ``champion`` if there is one, else
            the latest.

        Raises
        ------
        UnknownNameError
            If the model, version or alias does not exist; the message names the nearest that do.
        """
        records = self.records(model)
        if not records:
            raise UnknownNameError("model", model, {record.model for record in self.records()})
        if selector is None:
            return next((r for r in records if DEFAULT_ALIAS in r.aliases), records[-1])
        if selector == LATEST:
            return records[-1]
        for record in records:
            if selector == record.version or selector in record.aliases:
                return record
        known = {r.version for r in records} | {alias for r in records for alias in r.aliases} | {LATEST}
        raise UnknownNameError("version or alias", selector, known, where=f"model {model}")

    def fetch(self, record: ModelRecord) -> Path:
        """A local folder with the record's bundle, every byte verified; not to be written to.

        Raises
        ------
        IntegrityError
            If the artifact is away or was altered.
        """
        return self._store.fetch(record.bundle_sha256)

    def manifest(self, record: ModelRecord) -> BundleManifest:
        """The manifest of a record, from its verified bundle."""
        return read_manifest(self.fetch(record))

    def set_alias(self, model: str, alias: str, selector: str) -> ModelRecord:
        """Let an alias name another version from now on; one row, so it moves at once and can be moved back.

        Raises
        ------
        ParameterError
            If the alias is malformed or is ``latest``, which moves by itself.
        UnknownNameError
            If the version does not exist.
        VersionStateError
            If it is built on a view version that is retired.
        """
        _check_alias(alias)
        record = self.resolve(model, selector)
        manifest = self.manifest(record)
        with self._connection.transaction():
            self._insert_alias(model, alias, record.version, manifest)
        return self.resolve(model, record.version)

    def records(self, model: str | None = None) -> list[ModelRecord]:
        """All versions of one model or of every model, each model's versions in ascending order."""
        where = "" if model is None else " WHERE m.model = %s"
        with self._connection.transaction(), self._connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(_SELECT + where + _BY_VERSION, () if model is None else (model,)).fetchall()
        return [
            ModelRecord(
                model=row["model"],
                version=row["version"],
                model_uuid=row["model_uuid"],
                bundle_sha256=row["bundle_sha256"],
                dataset_sha256=row["dataset_sha256"],
                parent_sha256=row["parent_sha256"],
                metrics=row["metrics"],
                created_us=to_us(row["created_timestamp"]),
                aliases=tuple(row["aliases"]),
            )
            for row in rows
        ]

    def _keep(self, bundle: Path, manifest: BundleManifest) -> None:
        """Store a copy with its final manifest, then name it: a crash between the two leaves nothing half-registered."""
        from tapeline.lineage import record_model  # the inference server reads the registry and never writes to it

        with tempfile.TemporaryDirectory(prefix="tapeline-bundle-") as folder:
            final = Path(folder) / "bundle"
            files = {name: (bundle / name).read_bytes() for name in manifest.files}
            write_bundle(final, manifest, files)
            address = self._store.put(final)
            shutil.rmtree(final)
        content = manifest.model_dump(mode="json")
        self._connection.execute(
            "INSERT INTO tapeline.models (model, version, bundle_sha256, dataset_sha256, parent_sha256, manifest, metrics)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                manifest.model,
                manifest.version,
                address,
                manifest.dataset_sha256,
                manifest.parent,
                Jsonb(content),
                Jsonb(manifest.metrics),
            ),
        )
        record_model(self._connection, content, address, manifest.parent)

    def _insert_alias(self, model: str, alias: str, version: str, manifest: BundleManifest) -> None:
        _require_usable_views(self._connection, manifest, version)
        self._connection.execute(
            "INSERT INTO tapeline.model_aliases (model, alias, version) VALUES (%s, %s, %s)", (model, alias, version)
        )


def _require_usable_views(connection: psycopg.Connection[Any], manifest: BundleManifest, version: str) -> None:
    """Refuse retired view versions, and keep the others from being retired until the transaction ends."""
    views = [(view.view, view.version) for view in manifest.views]
    require_usable(connection, views, where=f"model {manifest.model} {version}", lock=True)


def _same(draft: BundleManifest, registered: BundleManifest) -> bool:
    """Whether two manifests differ in nothing but what registering gave one of them."""
    given = {"version", "parent"}
    return draft.model_dump(exclude=given) == registered.model_dump(exclude=given)


def _choose_version(
    draft: BundleManifest, before: BundleManifest | None, taken: Sequence[str], wanted: str | None, bump: Bump | None
) -> str:
    if wanted is not None:
        if not _VERSION.fullmatch(wanted) or wanted == UNREGISTERED:
            raise ParameterError(f"{wanted!r} is not a version", remedy="Write it like 1.2.0")
        if wanted in taken:
            raise ParameterError(
                f"{draft.model} {wanted} is registered already and versions never change",
                remedy="Leave the version out to get the next one",
            )
        return wanted
    if before is None:
        return "1.0.0"
    if bump is None:
        bump = "minor" if (draft.features, draft.label) == (before.features, before.label) else "major"
    major, minor, patch = map(int, taken[-1].split("."))
    following: dict[Bump, str] = {
        "major": f"{major + 1}.0.0",
        "minor": f"{major}.{minor + 1}.0",
        "patch": f"{major}.{minor}.{patch + 1}",
    }
    return following[bump]


def _check_alias(alias: str) -> None:
    if alias == LATEST:
        raise ParameterError("the alias latest moves by itself", remedy="Choose another alias, such as champion")
    if not _ALIAS.fullmatch(alias):
        raise ParameterError(f"{alias!r} is not an alias", remedy="Use small letters, digits, - and _")
