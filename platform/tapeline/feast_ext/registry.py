"""Feast's SQL registry in Tapeline's own database, wherever the settings say that is.

``feature_store.yaml`` names it without an address or a password::

    registry:
      registry_type: sql
      path: tapeline://

``tapeline`` is a dialect of SQLAlchemy: PostgreSQL through psycopg, which asks Tapeline's settings where to connect when
it connects. Its tables live in a schema of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.dialects import registry as dialects
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL

from tapeline.storage.postgres import connect

SCHEMA = "feast"


class TapelineDialect(PGDialect_psycopg):
    """PostgreSQL at the address of Tapeline's settings."""

    supports_statement_cache = True

    def create_connect_args(self, url: URL) -> tuple[list[str], dict[str, Any]]:  # noqa: ARG002
        """None: the URL carries nothing, `connect` asks the settings."""
        return [], {}

    def connect(self, *_: Any, **__: Any) -> Any:
        """A connection as all of Tapeline makes them; a server that is away is an ``UnavailableError`` with a remedy."""
        return connect()

    def on_connect(self) -> Callable[[Any], None]:
        """What to do with each new connection: use the registry's schema."""
        inherited = super().on_connect()  # type: ignore[no-untyped-call]

        def prepare(connection: Any) -> None:
            if inherited is not None:
                inherited(connection)
            with connection.cursor() as cursor:
                if cursor.execute("SELECT to_regnamespace(%s)", (SCHEMA,)).fetchone() == (None,):
                    # Taken so that two first connections do not create it at once.
                    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('tapeline:feast registry'))")
                    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                cursor.execute("SELECT set_config('search_path', %s, false)", (SCHEMA,))
            connection.commit()

        return prepare


def register() -> None:
    """Make ``tapeline://`` known to SQLAlchemy."""
    dialects.register("tapeline", __name__, TapelineDialect.__name__)
