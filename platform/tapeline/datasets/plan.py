"""Which columns of which tables a retrieval reads: a Feast feature service, resolved into plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from tapeline.core.errors import ParameterError


@dataclass(frozen=True, slots=True)
class ViewSelection:
    """The features wanted from one version of one feature view, and where they are stored.

    Parameters
    ----------
    view, version
        The feature view.
    table
        What stands after ``FROM``: a qualified table name, or a query in parentheses. It is SQL and comes from the
        repository's own definitions, never from a request.
    entity_columns
        Columns of the entity rows that hold this view's keys.
    join_keys
        The columns of `table` they are compared with, in the same order. Empty: a view without entities.
    features
        Columns of `table` to read.
    output_names
        What these columns are called in the result, in the same order.
    ttl_us
        How old a row may be, in microseconds of event time; 0: no limit.
    event_column, available_column, created_column, sequence_column
        The time and order columns of `table`. Without an available column a row counts as available at its event
        time; without a created or sequence column that part of the order is left out.

    Raises
    ------
    ParameterError
        If paired columns differ in number, a name occurs twice, or the TTL is negative.
    """

    view: str
    version: int
    table: str
    entity_columns: tuple[str, ...]
    join_keys: tuple[str, ...]
    features: tuple[str, ...]
    output_names: tuple[str, ...]
    ttl_us: int = 0
    event_column: str = "event_timestamp"
    available_column: str | None = "available_timestamp"
    created_column: str | None = "created_timestamp"
    sequence_column: str | None = "sequence"

    def __post_init__(self) -> None:
        where = f"feature view {self.view}@{self.version}"
        if len(self.entity_columns) != len(self.join_keys):
            raise ParameterError("entity columns and join keys differ in number", where=where)
        if len(self.features) != len(self.output_names):
            raise ParameterError("features and output names differ in number", where=where)
        if self.ttl_us < 0:
            raise ParameterError("the TTL is negative", where=where, remedy="Use 0 for no limit")
        _refuse_repeats(self.output_names, where)

    @property
    def is_query(self) -> bool:
        """Whether `table` is a query; PostgreSQL knows no constraints and no chunks of one."""
        return self.table.lstrip().startswith("(")


@dataclass(frozen=True, slots=True)
class RetrievalPlan:
    """A feature service as plain data: what the datasets room needs to know of it.

    Parameters
    ----------
    service
        Name of the feature service.
    views
        One selection for each feature view it uses, in the service's order.

    Raises
    ------
    ParameterError
        If two views give the same output name.
    """

    service: str
    views: tuple[ViewSelection, ...]

    def __post_init__(self) -> None:
        _refuse_repeats(self.output_names, f"feature service {self.service}")

    @property
    def entity_columns(self) -> tuple[str, ...]:
        """Columns that entity rows must have beside ``event_timestamp``, each once, in order of first use."""
        return tuple(dict.fromkeys(column for view in self.views for column in view.entity_columns))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Feature columns of the result, in order."""
        return tuple(name for view in self.views for name in view.output_names)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-ready data, for a manifest."""
        views = [
            {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(view).items()}
            for view in self.views
        ]
        return {"service": self.service, "views": views}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The plan that `to_dict` described.

        Raises
        ------
        ParameterError
            If the data describes no plan.
        """
        try:
            return cls(service=data["service"], views=tuple(_selection(view) for view in data["views"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ParameterError(f"this is no retrieval plan: {error}") from None


def _selection(data: Mapping[str, Any]) -> ViewSelection:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return ViewSelection(**fields)


def _refuse_repeats(names: Sequence[str], where: str) -> None:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ParameterError(
            f"output names occur twice: {', '.join(repeated)}",
            where=where,
            remedy="Ask for full feature names, or rename one in a projection",
        )
