"""A retrieval that was asked for and runs when its result is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from tapeline.core.errors import ConfigurationError
from tapeline.feast_ext.saved_dataset import SavedDatasetTimescaleStorage
from tapeline.feast_ext.writing import append, create, with_zones

Connect = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


class TimescaleRetrievalJob(RetrievalJob):
    """A lazy retrieval: nothing is read before its result is asked for.

    Parameters
    ----------
    fetch
        Reads the result over an open connection.
    connect
        Opens a connection.
    statement
        The SQL that says the same, where one statement does.
    full_feature_names, on_demand_feature_views
        As in every Feast retrieval.
    describe
        Tells features, keys and the range of moments over an open connection; asked at most once.
    """

    def __init__(
        self,
        fetch: Callable[[psycopg.Connection[Any]], pa.Table],
        connect: Connect,
        *,
        statement: str | None = None,
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
        describe: Callable[[psycopg.Connection[Any]], RetrievalMetadata] | None = None,
    ) -> None:
        self._fetch = fetch
        self._connect = connect
        self._statement = statement
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)
        self._describe = describe
        self._metadata: RetrievalMetadata | None = None

    @property
    def full_feature_names(self) -> bool:
        """Whether a feature is called ``view__feature``."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """On-demand views that Feast applies to the result."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """Features, keys and range of moments; for an entity query, this asks the database."""
        if self._metadata is None and self._describe is not None:
            with self._connect() as connection:
                self._metadata = self._describe(connection)
        return self._metadata

    def to_sql(self) -> str:
        """The statement that gives the same rows.

        Raises
        ------
        NotImplementedError
            For a point-in-time join, which sends its entity rows apart and may use several statements.
        """
        if self._statement is None:
            raise NotImplementedError("a point-in-time join of this store is more than one SQL statement")
        return self._statement

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Save the result, on-demand features included, as a new table; all of it or nothing.

        Raises
        ------
        ConfigurationError
            If the storage is one of another store.
        SavedDatasetLocationAlreadyExists
            If the table exists and may not be overwritten.
        """
        if not isinstance(storage, SavedDatasetTimescaleStorage):
            raise ConfigurationError(
                f"TimescaleOfflineStore cannot save to a {type(storage).__name__}",
                remedy="Use tapeline.feast_ext.SavedDatasetTimescaleStorage",
            )
        rows = with_zones(self.to_arrow(timeout=timeout))
        with self._connect() as connection, connection.transaction():
            create(connection, storage.table, rows.schema, exists_ok=False, replace=allow_overwrite)
            append(connection, storage.table, rows)

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with self._connect() as connection:
            if timeout is not None:
                connection.execute(f"SET statement_timeout = {int(timeout) * 1_000}")
                connection.commit()
            return self._fetch(connection)
