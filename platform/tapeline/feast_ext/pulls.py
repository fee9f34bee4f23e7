"""The reads behind ``feast materialize`` and saved data sets: rows of a time range, all or the newest of each entity.

A row belongs to the range in which it became visible: at its event time, or, in a source with an available column, when
it was available if that was later. So windows that follow one another, as in ``materialize-incremental``, bring every
row exactly once, however late it became available, and none before its time. That holds for what is recorded when its
window is pulled; what arrives later is found by its created time (``since_us``), which the online store's compare-and-set
makes harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from psycopg import sql

from tapeline.core.timestamps import from_us
from tapeline.feast_ext.source import TimescaleSource


def pull_all(
    source: TimescaleSource,
    join_keys: Sequence[str],
    features: Sequence[str],
    timestamp_field: str,
    created_column: str | None,
    start: datetime | None,
    end: datetime | None,
    vintage_us: int | None,
) -> sql.Composed:
    """Every row of a range; where a sequence column is, only the one of each entity and moment that counts.

    Feast orders what it gets by event and created time alone, so rows that only a sequence or an available time would
    order are decided here.
    """
    distinct: list[sql.Composable] = []
    order: list[sql.Composable] = []
    if source.sequence_column:
        distinct = [*(_column(key) for key in join_keys), _column(timestamp_field)]
        order = [*distinct, *_newest_first(source, None, created_column)]
    return _select(
        source, join_keys, features, timestamp_field, created_column,
        _range(source, timestamp_field, created_column, start, end, vintage_us), distinct, order,
    )  # fmt: skip


def pull_latest(
    source: TimescaleSource,
    join_keys: Sequence[str],
    features: Sequence[str],
    timestamp_field: str,
    created_column: str | None,
    start: datetime | None,
    end: datetime,
    vintage_us: int | None,
    *,
    since_us: int | None = None,
    after: Sequence[str | int] | None = None,
    available_after_event: bool = False,
) -> sql.Composed:
    """The newest row of each entity at the end of a range, if it became visible within the range or arrived late.

    The order is the point-in-time rule's. An old moment that became visible late does not displace a newer one that an
    earlier range brought. With an available column, that takes a lookup for each entity of which anything became
    visible, for which the table should have an index by entity and event time, as Tapeline's own have.

    Parameters
    ----------
    start
        None: from the beginning.
    since_us
        What was recorded after this counts as well, whenever it became visible: it was not there when its own range was
        pulled. Needs a created column.
    after
        Only entities after these join keys, and all in the order of their keys; none: all, in any order.
    available_after_event
        The table guarantees that nothing is available before its event, as Tapeline's own do: their index over available
        and created times then finds what is new.
    """
    keys = [_column(key) for key in join_keys]
    order = [*keys, *_newest_first(source, timestamp_field, created_column)]
    known = _range(source, timestamp_field, created_column, None, end, vintage_us)
    if after:
        values = sql.SQL(", ").join([sql.Literal(value) for value in after])
        known.append(sql.SQL("({}) > ({})").format(sql.SQL(", ").join(keys), values))
    new = _new(source, timestamp_field, created_column, start, since_us, available_after_event=available_after_event)
    if not keys or source.available_timestamp_column is None:
        rows = _select(source, join_keys, features, timestamp_field, created_column, [*known, *new], keys, order)
        return rows if keys else sql.SQL("{} LIMIT 1").format(rows)
    comma, both = sql.SQL(", "), sql.SQL(" AND ")
    same = [sql.SQL("s.{0} = q.{0}").format(sql.Identifier(key)) for key in join_keys]
    return sql.SQL(
        "SELECT {columns} FROM (SELECT DISTINCT {keys} FROM {table} AS s WHERE {changed}{sorted}) AS q CROSS JOIN LATERAL "
        "(SELECT s.* FROM {table} AS s WHERE {newest} ORDER BY {order} LIMIT 1) AS s{new}"
    ).format(
        columns=_columns(join_keys, features, timestamp_field, created_column),
        keys=comma.join(keys),
        table=sql.SQL(source.get_table_query_string()),
        changed=both.join([*known, *new]),
        sorted=sql.SQL("") if after is None else sql.SQL(" ORDER BY {}").format(comma.join(keys)),
        newest=both.join([*same, *_range(source, timestamp_field, created_column, None, end, vintage_us)]),
        order=comma.join(order[len(keys) :]),
        new=sql.SQL(" WHERE {}").format(both.join(new)) if new else sql.SQL(""),
    )


def _new(
    source: TimescaleSource,
    timestamp_field: str,
    created_column: str | None,
    start: datetime | None,
    since_us: int | None,
    *,
    available_after_event: bool,
) -> list[sql.Composable]:
    """That a row became visible from a moment on, or was recorded after another."""
    if start is None:
        return []
    if available_after_event and source.available_timestamp_column is not None:
        visible: sql.Composable = sql.SQL("{} >= {}").format(_column(source.available_timestamp_column), _moment(start))
    else:
        visible = sql.SQL(" AND ").join(_range(source, timestamp_field, None, start, None, None))
    if since_us is None or not created_column:
        return [visible]
    return [sql.SQL("({} OR {} > {})").format(visible, _column(created_column), _moment(from_us(since_us)))]


def _select(
    source: TimescaleSource,
    join_keys: Sequence[str],
    features: Sequence[str],
    timestamp_field: str,
    created_column: str | None,
    conditions: Sequence[sql.Composable],
    distinct: Sequence[sql.Composable],
    order: Sequence[sql.Composable],
) -> sql.Composed:
    comma = sql.SQL(", ")
    return sql.SQL("SELECT {distinct}{columns} FROM {table} AS s{where}{order}").format(
        distinct=sql.SQL("DISTINCT ON ({}) ").format(comma.join(distinct)) if distinct else sql.SQL(""),
        columns=_columns(join_keys, features, timestamp_field, created_column),
        table=sql.SQL(source.get_table_query_string()),
        where=sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions)) if conditions else sql.SQL(""),
        order=sql.SQL(" ORDER BY {}").format(comma.join(order)) if order else sql.SQL(""),
    )


def _columns(
    join_keys: Sequence[str], features: Sequence[str], timestamp_field: str, created_column: str | None
) -> sql.Composable:
    columns: list[sql.Composable] = [sql.SQL("s.*")]
    if features:  # none: a transformation that wants all of the source
        names = dict.fromkeys((*join_keys, *features, timestamp_field, *((created_column,) if created_column else ())))
        columns = [_column(name) for name in names]
    if not join_keys:
        columns.append(sql.SQL("{}::text AS {}").format(sql.Literal(DUMMY_ENTITY_VAL), sql.Identifier(DUMMY_ENTITY_ID)))
    return sql.SQL(", ").join(columns)


def _range(
    source: TimescaleSource,
    timestamp_field: str,
    created_column: str | None,
    start: datetime | None,
    end: datetime | None,
    vintage_us: int | None,
) -> list[sql.Composable]:
    event = _column(timestamp_field)
    available = _column(source.available_timestamp_column) if source.available_timestamp_column else None
    terms: list[sql.Composable] = []
    if end is not None:
        terms.append(sql.SQL("{} <= {}").format(event, _moment(end)))
        if available is not None:
            terms.append(sql.SQL("{} <= {}").format(available, _moment(end)))
    if start is not None:
        visible = event if available is None else sql.SQL("greatest({}, {})").format(event, available)
        terms.append(sql.SQL("{} >= {}").format(visible, _moment(start)))
    if created_column and vintage_us is not None:
        terms.append(sql.SQL("{} <= {}").format(_column(created_column), _moment(from_us(vintage_us))))
    return terms


def _newest_first(
    source: TimescaleSource, timestamp_field: str | None, created_column: str | None
) -> list[sql.Composable]:
    columns = (timestamp_field, source.sequence_column, source.available_timestamp_column, created_column)
    return [sql.SQL("{} DESC NULLS LAST").format(_column(column)) for column in columns if column]


def _moment(moment: datetime) -> sql.Composable:
    # Feast hands over naive moments in UTC; so is the session's time zone.
    return sql.SQL("timestamptz {}").format(sql.Literal(moment.isoformat()))


def _column(name: str) -> sql.Composable:
    return sql.SQL("s.{}").format(sql.Identifier(name))
