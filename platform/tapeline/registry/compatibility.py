"""Whether this database has the features that a model asks for, in the definition it was trained on."""

from __future__ import annotations

from typing import Any

import psycopg

from tapeline.core.errors import LineageError, UnknownNameError
from tapeline.registry.manifest import BundleManifest

_VERSIONS = "SELECT view, version, plan_hash, lineage_hash, table_name FROM tapeline.feature_view_versions"
_COLUMNS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = coalesce(to_regclass(%(table)s), to_regclass(format('features.%%I', %(table)s::text)))
        AND attnum > 0 AND NOT attisdropped
"""


def check_features(connection: psycopg.Connection[Any], manifest: BundleManifest) -> None:
    """Refuse a model whose features are not here.

    Raises
    ------
    UnknownNameError
        If a view version is not registered, or has no such feature; the message names the nearest.
    LineageError
        If a view version has another definition than the model was trained on.
    """
    rows = connection.execute(_VERSIONS).fetchall()
    registered = {f"{view}@v{version}": (plan, lineage, table) for view, version, plan, lineage, table in rows}
    for view in manifest.views:
        name = f"{view.view}@v{view.version}"
        if name not in registered:
            raise UnknownNameError("feature view version", name, registered, where=f"model {manifest.model}")
        plan_hash, lineage_hash, table = registered[name]
        if (plan_hash, lineage_hash) != (view.plan_hash, view.lineage_hash):
            raise LineageError(
                f"the model was trained on {name} of lineage {view.lineage_hash[:12]}, this database has"
                f" {lineage_hash[:12]}",
                where=f"model {manifest.model}",
                remedy="Train again on this database's features",
            )
        columns = {column for (column,) in connection.execute(_COLUMNS, {"table": table}).fetchall()}
        for feature in manifest.features:
            if (feature.view, feature.version) == (view.view, view.version) and feature.name not in columns:
                raise UnknownNameError("feature", feature.name, columns, where=f"model {manifest.model}, view {name}")
