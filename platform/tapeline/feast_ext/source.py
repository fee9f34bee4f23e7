"""``TimescaleSource``: a PostgreSQL or TimescaleDB table, or a query, with Tapeline's four time columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from feast.credentials import ConnectionRef
from feast.data_source import DataSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.repo_config import RepoConfig
from feast.value_type import ValueType

from tapeline.core.errors import InvalidDataError, ParameterError, UnknownNameError
from tapeline.feast_ext.introspection import source_columns, summaries_read
from tapeline.feast_ext.types import value_type

_TIMES = frozenset({"timestamp with time zone", "timestamp without time zone", "date"})
_INTEGERS = frozenset({"smallint", "integer", "bigint"})


class TimescaleSource(DataSource):
    """A table or query that `TimescaleOfflineStore` reads.

    Parameters
    ----------
    name
        Name of the source in the project; the table's name if not given.
    table
        A table, with its schema.
    query
        A SELECT to read instead of a table.
    timestamp_field
        The column that says which moment a row describes.
    available_timestamp_column
        The column that says when a row could first be used. Without one, rows count as available at
        `timestamp_field`.
    created_timestamp_column
        The column that says when a row was written; vintages go by it. Rows are only ever added, a correction as a
        newer row.
    sequence_column
        The integer column that orders rows of one moment.
    field_mapping, description, tags, owner, connection_ref
        As in every Feast data source.

    Raises
    ------
    ParameterError
        If not exactly one of table and query is given, or a query has no name.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        table: str | None = None,
        query: str | None = None,
        timestamp_field: str = "event_timestamp",
        available_timestamp_column: str | None = None,
        created_timestamp_column: str | None = None,
        sequence_column: str | None = None,
        field_mapping: dict[str, str] | None = None,
        description: str = "",
        tags: dict[str, str] | None = None,
        owner: str = "",
        connection_ref: ConnectionRef | None = None,
    ) -> None:
        if bool(table) == bool(query):
            raise ParameterError("a TimescaleSource reads either a table or a query", where=f"data source {name}")
        if not (name or table):
            raise ParameterError("a TimescaleSource with a query needs a name")
        self.table = table or None
        self.query = query or None
        self.available_timestamp_column = available_timestamp_column or None
        self.sequence_column = sequence_column or None
        super().__init__(
            name=name or table or "",
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
            connection_ref=connection_ref,
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TimescaleSource)
            and bool(super().__eq__(other))  # type: ignore[no-untyped-call]
            and (self.table, self.query, self.available_timestamp_column, self.sequence_column)
            == (other.table, other.query, other.available_timestamp_column, other.sequence_column)
        )

    def __hash__(self) -> int:
        return int(super().__hash__())  # type: ignore[no-untyped-call]

    def source_type(self) -> DataSourceProto.SourceType.ValueType:
        """Feast's number for sources of other packages."""
        return DataSourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: DataSourceProto) -> TimescaleSource:
        """The source that `to_proto` described."""
        options: dict[str, str | None] = json.loads(data_source.custom_options.configuration)
        tags = dict(data_source.tags)
        return TimescaleSource(
            name=data_source.name,
            table=options["table"],
            query=options["query"],
            timestamp_field=data_source.timestamp_field,
            available_timestamp_column=options["available_timestamp_column"],
            created_timestamp_column=data_source.created_timestamp_column or None,
            sequence_column=options["sequence_column"],
            field_mapping=dict(data_source.field_mapping),
            description=data_source.description,
            tags=tags,
            owner=data_source.owner,
            connection_ref=ConnectionRef.from_tags(tags),
        )

    def _to_proto_impl(self) -> DataSourceProto:
        options = {
            "table": self.table,
            "query": self.query,
            "available_timestamp_column": self.available_timestamp_column,
            "sequence_column": self.sequence_column,
        }
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{TimescaleSource.__module__}.{TimescaleSource.__qualname__}",
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            field_mapping=self.field_mapping,
            custom_options=DataSourceProto.CustomSourceOptions(configuration=json.dumps(options).encode()),
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def validate(self, config: RepoConfig) -> None:
        """Check that the table or query, and its time and order columns, exist and have fitting types.

        Raises
        ------
        SchemaError
            If the table does not exist.
        UnknownNameError
            If a column does not exist.
        InvalidDataError
            If a time column holds no times, or the sequence no integers; or if the source reads a daily summary.
        """
        columns = dict(source_columns(config, self))
        where = f"data source {self.name}"
        if summaries := summaries_read(config, self):
            raise InvalidDataError(
                f"it reads {', '.join(summaries)}, a daily summary: it counts rows that were not known yet, and would be"
                " a second definition of a feature",
                where=where,
                remedy="Read the rows themselves, and let a feature view sum them up",
            )
        times = (self.timestamp_field, self.available_timestamp_column, self.created_timestamp_column)
        for name, allowed in (*((name, _TIMES) for name in times), (self.sequence_column, _INTEGERS)):
            if not name:
                continue
            if name not in columns:
                raise UnknownNameError("column", name, columns, where=where)
            if columns[name] not in allowed:
                raise InvalidDataError(
                    f"column {name} is {columns[name]}",
                    where=where,
                    remedy=f"It should be {' or '.join(sorted(allowed))}",
                )

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """From the SQL type names that `get_table_column_names_and_types` gives to Feast's types."""
        return value_type

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:
        """Names and SQL types of the source's columns.

        Feast wants exactly these in a frame that is pushed, the created time included; where the database sets that
        itself, what is pushed for it does not reach the table.
        """
        return source_columns(config, self)

    @property
    def column_of(self) -> dict[str, str]:
        """The column of what views call otherwise, where the field mapping renames it."""
        return {mapped: column for column, mapped in self.field_mapping.items()}

    def get_table_query_string(self) -> str:
        """What stands after FROM: the table, or the query in parentheses."""
        return self.table or f"({self.query})"

    def __repr__(self) -> str:
        options: dict[str, Any] = {"table": self.table} if self.table else {"query": self.query}
        return f"TimescaleSource({self.name!r}, {options})"
