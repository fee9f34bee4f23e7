"""References to nodes as people write them: ``us-daily.close``, ``daily_technical@2:rsi_14``, ``dataset:1f3a``."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import psycopg

from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.core.timestamps import from_us
from tapeline.lineage.graph import KINDS, Key

_SUGGESTED_FROM_MAX = 20_000
_BY_NAME = "SELECT kind, name FROM tapeline.lineage_nodes WHERE name = %(name)s AND created_timestamp <= %(as_of)s"
_NEWEST_SERVICE = """
    SELECT name FROM tapeline.lineage_nodes
    WHERE kind = 'service' AND (name = %(name)s OR name LIKE %(like)s) AND created_timestamp <= %(as_of)s
    ORDER BY created_timestamp DESC, name LIMIT 1
"""
_DATASETS = """
    SELECT name FROM tapeline.lineage_nodes
    WHERE kind = 'dataset' AND name LIKE %(like)s AND created_timestamp <= %(as_of)s ORDER BY name LIMIT 3
"""
_ALIASED = """
    SELECT version FROM tapeline.model_aliases
    WHERE model = %(model)s AND alias = %(alias)s AND created_timestamp <= %(as_of)s ORDER BY id DESC LIMIT 1
"""
_VERSION = re.compile(r"v(?=\d)")


def find_node(connection: psycopg.Connection[Any], reference: str, *, as_of_us: int | None = None) -> Key:
    """The node that a reference names.

    Parameters
    ----------
    connection
        The database.
    reference
        A source column (``us-daily.close``), source, feature (``view@2:rsi_14``), view version (``view@2`` or ``view@v2``),
        ``service:name`` (as it was last registered), ``dataset:`` and the beginning of its SHA-256, a model version
        (``model@1.0.0``) or alias (``model@champion``), ``prediction:`` and a request's id; or any node as ``kind:name``.
    as_of_us
        Only nodes that had been recorded by this moment, microseconds UTC; none: all.

    Raises
    ------
    UnknownNameError
        If there is no such node; the message names the nearest.
    ParameterError
        If a prediction's id is none, or a data set's beginning fits several.
    """
    text = reference.strip()
    as_of: Any = "infinity" if as_of_us is None else from_us(as_of_us)
    with connection.transaction():
        prefix, colon, name = text.partition(":")
        if colon and prefix in KINDS:
            found = _of_kind(connection, prefix, name, as_of)
        else:
            found = _of_any_kind(connection, text, as_of)
        if found is None:
            raise UnknownNameError("lineage reference", reference, _known(connection, text, as_of))
    return found


def _of_kind(connection: psycopg.Connection[Any], kind: str, name: str, as_of: Any) -> Key | None:
    if kind == "prediction":
        return _prediction(connection, name, as_of)
    if kind == "service":
        given = {"name": name, "like": f"{_escaped(name)}#%", "as_of": as_of}
        row = connection.execute(_NEWEST_SERVICE, given).fetchone()
        return None if row is None else Key("service", row[0])
    if kind == "dataset":
        rows = connection.execute(_DATASETS, {"like": f"{_escaped(name)}%", "as_of": as_of}).fetchall()
        if len(rows) > 1 and name:
            fitting = ", ".join(row[0][:16] for row in rows)
            raise ParameterError(
                f"several data sets begin with {name!r}: {fitting}", remedy="Write more of its SHA-256"
            )
        return Key("dataset", rows[0][0]) if len(rows) == 1 else None
    if kind == "deployment":
        version = _aliased(connection, name, as_of)
        return None if version is None else Key("deployment", name)
    rows = connection.execute(
        f"{_BY_NAME} AND kind = %(kind)s", {"kind": kind, "name": name, "as_of": as_of}
    ).fetchall()
    return Key(rows[0][0], rows[0][1]) if rows else None


def _of_any_kind(connection: psycopg.Connection[Any], text: str, as_of: Any) -> Key | None:
    """Names of different kinds are written differently, but for a source and a calendar of one name: sources go first."""
    spelled = _VERSION.sub("", text) if "@v" in text else text
    rows = connection.execute(_BY_NAME, {"name": spelled, "as_of": as_of}).fetchall()
    if rows:
        return min((Key(kind, name) for kind, name in rows), key=lambda key: KINDS.index(key.kind))
    model, at, _ = text.partition("@")
    version = _aliased(connection, text, as_of) if at else None
    return None if version is None else Key("model", f"{model}@{version}")


def _prediction(connection: psycopg.Connection[Any], name: str, as_of: Any) -> Key | None:
    try:
        request = str(UUID(name))
    except ValueError:
        raise ParameterError(
            f"{name!r} is no request id", remedy="Take it from tapeline predict --json or tapeline.served_vectors"
        ) from None
    query = "SELECT 1 FROM tapeline.served_vectors WHERE request_id = %s AND created_timestamp <= %s LIMIT 1"
    return Key("prediction", request) if connection.execute(query, (request, as_of)).fetchone() else None


def _aliased(connection: psycopg.Connection[Any], text: str, as_of: Any) -> str | None:
    model, _, alias = text.partition("@")
    row = connection.execute(_ALIASED, {"model": model, "alias": alias, "as_of": as_of}).fetchone()
    return None if row is None else str(row[0])


def _known(connection: psycopg.Connection[Any], text: str, as_of: Any) -> list[str]:
    """References like a text that do exist: those that begin alike go first, so that a large graph gives near ones."""
    begins = _escaped(re.split(r"[.:@]", text.partition(":")[2] if text.partition(":")[0] in KINDS else text)[0])
    rows = connection.execute(
        "SELECT kind, name FROM tapeline.lineage_nodes WHERE created_timestamp <= %s AND kind <> 'kernel'"
        " ORDER BY (name LIKE %s) DESC, kind, name LIMIT %s",
        (as_of, f"{begins}%", _SUGGESTED_FROM_MAX),
    ).fetchall()
    return [written(Key(kind, name)) for kind, name in rows]


def written(key: Key) -> str:
    """A node as a reference that finds it again, as short as may be."""
    if key.kind == "dataset":
        return f"dataset:{key.name[:12]}"
    if key.kind in {"source", "column", "feature", "view", "model"}:
        return key.name
    if key.kind == "service":
        return f"service:{key.name.partition('#')[0]}"
    return str(key)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
