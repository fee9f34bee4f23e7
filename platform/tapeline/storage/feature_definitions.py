"""``tapeline.feature_definitions``: what each column of each registered view version is."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from tapeline.core.errors import TapelineError
from tapeline.features.definitions import FeatureDefinition, definitions_of
from tapeline.features.view import FeatureViewSpec

_COLUMNS = "feature, position, dtype, unit, lowest, highest, warm_up, indicator, parameters, description, kernel_hash"


def write_definitions(connection: psycopg.Connection[Any], spec: FeatureViewSpec, *, current: bool = True) -> None:
    """Describe a registered view version, in the caller's transaction; nothing happens if it is described.

    Parameters
    ----------
    connection
        The database.
    spec
        The view.
    current
        Whether its values are computed by the kernels as they are now; else their hashes are left out.
    """
    rows = [
        (
            spec.name, spec.version, d.feature, d.position, d.dtype, d.unit, d.lowest, d.highest, d.warm_up,
            d.indicator, Jsonb(dict(d.parameters)), d.description, d.kernel_hash if current else None,
        )
        for d in definitions_of(spec)
    ]  # fmt: skip
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO tapeline.feature_definitions (view, version, {_COLUMNS})"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            rows,
        )


def read_definitions(connection: psycopg.Connection[Any], view: str, version: int) -> list[FeatureDefinition]:
    """The definitions of a view version's columns in their order; empty if it is not registered."""
    with connection.cursor(row_factory=class_row(FeatureDefinition)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM tapeline.feature_definitions WHERE view = %s AND version = %s ORDER BY position",
            (view, version),
        ).fetchall()


def describe_registered(connection: psycopg.Connection[Any]) -> list[str]:
    """Describe the view versions that were registered before definitions were kept; returns them as ``view@version``.

    A version that cannot be read back here, such as one of custom features that are not installed, waits until it is
    registered again by a process that has them.
    """
    with connection.transaction():
        waiting = connection.execute(
            "SELECT v.definition, v.lineage_hash FROM tapeline.feature_view_versions v WHERE NOT EXISTS ("
            " SELECT FROM tapeline.feature_definitions d WHERE d.view = v.view AND d.version = v.version)"
            " ORDER BY v.view, v.version"
        ).fetchall()
    described = []
    for definition, lineage in waiting:
        try:
            spec = FeatureViewSpec.from_definition(definition)
            current = spec.lineage_hash == lineage
        except TapelineError:
            continue
        with connection.transaction():
            write_definitions(connection, spec, current=current)
        described.append(f"{spec.name}@{spec.version}")
    return described
