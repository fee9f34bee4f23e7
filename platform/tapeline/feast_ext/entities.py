"""The entity rows of a retrieval: a DataFrame, a query, or every moment of a range at which something became known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from feast.errors import EntityTimestampInferenceException
from feast.feature_view import FeatureView
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.utils import compute_non_entity_date_range
from psycopg import sql

from tapeline.core.errors import InvalidDataError
from tapeline.core.timestamps import from_us, to_us
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.requests import UTC_US
from tapeline.datasets.visible_moments import visible_moments
from tapeline.feast_ext.writing import with_zones
from tapeline.storage.copy_reader import read_query

EVENT_TIMESTAMP = "event_timestamp"


@dataclass(frozen=True, slots=True)
class EntityInput:
    """Where entity rows come from: exactly one of a table, a query and a range.

    Attributes
    ----------
    table, time_column
        Rows, and the column of their moments.
    query
        A SELECT of entity rows. A timestamp without a zone counts as UTC there, as it does in sources.
    span_us
        First and last moment of a range, microseconds UTC.
    """

    table: pa.Table | None = None
    time_column: str = EVENT_TIMESTAMP
    query: str | None = None
    span_us: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        entity_df: pd.DataFrame | str | None,
        feature_views: Sequence[FeatureView],
        start: datetime | None,
        end: datetime | None,
    ) -> Self:
        """What a call to ``get_historical_features`` means. A DataFrame is copied at once.

        Raises
        ------
        InvalidDataError
            If a column mixes types.
        EntityTimestampInferenceException
            If no column is called ``event_timestamp`` and not exactly one holds times; Feast's own error.
        """
        if entity_df is None:
            first, last = compute_non_entity_date_range(list(feature_views), start_date=start, end_date=end)
            return cls(span_us=(to_us(first), to_us(last)))
        if isinstance(entity_df, str):
            return cls(query=entity_df)
        if not isinstance(entity_df, pd.DataFrame):
            raise InvalidDataError(f"entity rows are a {type(entity_df).__name__}, not a DataFrame or a SQL query")
        dtypes = dict(zip(entity_df.columns, entity_df.dtypes, strict=True))
        try:
            table = pa.Table.from_pandas(entity_df, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InvalidDataError(f"an entity column mixes types: {error}", where="entity rows") from error
        return cls(table=table, time_column=infer_event_timestamp_from_entity_df(dtypes))

    def read(
        self, connection: psycopg.Connection[Any], selections: Sequence[ViewSelection], vintage_us: int | None
    ) -> tuple[pa.Table, str]:
        """The entity rows, and the name of the column of their moments."""
        if self.table is not None:
            return self.table, self.time_column
        if self.query is not None:
            rows = with_zones(read_query(connection, sql.SQL(self.query)))
            return rows, _time_column(rows)
        return self._moments(connection, selections, vintage_us), EVENT_TIMESTAMP

    def describe(
        self, connection: psycopg.Connection[Any], selections: Sequence[ViewSelection], feature_refs: Sequence[str]
    ) -> RetrievalMetadata:
        """Feast's description of the retrieval: features, keys, first and last moment."""
        if self.span_us is not None:
            first, last = (from_us(moment) for moment in self.span_us)
            keys = list(dict.fromkeys(column for view in selections for column in view.entity_columns))
            return RetrievalMetadata(list(feature_refs), keys, first, last)
        rows, time_column = self.read(connection, selections, None)
        keys = [name for name in rows.column_names if name != time_column]
        bounds = pc.min_max(rows.column(time_column).cast(UTC_US, safe=False)).as_py()
        return RetrievalMetadata(list(feature_refs), keys, bounds["min"], bounds["max"])

    def _moments(
        self, connection: psycopg.Connection[Any], selections: Sequence[ViewSelection], vintage_us: int | None
    ) -> pa.Table:
        """Each entity at each moment of the range at which a row of it became visible in one of the views.

        A view without one of the keys gives rows in which that key is null.
        """
        if self.span_us is None:
            raise AssertionError("only a range has moments of its own")
        query = visible_moments(selections, *self.span_us, vintage_us, time_column=EVENT_TIMESTAMP)
        rows = read_query(connection, query)
        return rows.sort_by([(name, "ascending") for name in (EVENT_TIMESTAMP, *rows.column_names[:-1])])


def _time_column(rows: pa.Table) -> str:
    if EVENT_TIMESTAMP in rows.column_names:
        return EVENT_TIMESTAMP
    times = [field.name for field in rows.schema if pa.types.is_timestamp(field.type)]
    if len(times) != 1:
        raise EntityTimestampInferenceException(EVENT_TIMESTAMP)
    return str(times[0])
