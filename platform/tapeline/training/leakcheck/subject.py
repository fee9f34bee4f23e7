"""One view under test: its stored values, its raw rows with all versions, and a sample of entities and moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql
from psycopg.rows import tuple_row

from tapeline.compute.history import Versions
from tapeline.compute.reading import BEGINNING_US, END_US, Change, declared_lag_us, read_actions, read_versions
from tapeline.compute.rows import RowRunner
from tapeline.core.timestamps import format_us, from_us
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.point_in_time import Method, as_of_join, time_columns
from tapeline.features.versions import ActionVersions, Flags, Floats, Integers
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.feature_tables import SCHEMA, RegisteredView
from tapeline.storage.snapshots import read_progress
from tapeline.training.leakcheck.report import Fault

_UTC = pa.timestamp("us", tz="UTC")
_LABELLED_MIN = 60
_BEFORE_ALL = (BEGINNING_US, -(2**63))


@dataclass(frozen=True)
class SampleSizes:
    """How much a leak check looks at; the same seed looks at the same.

    Attributes
    ----------
    entities
        Entities of each view.
    moments
        Moments of each entity.
    futures
        Of these, how many are computed again with other raw rows after them.
    units
        Rows of the planted series.
    seed
        Of every choice.
    """

    entities: int = 3
    moments: int = 24
    futures: int = 4
    units: int = 600
    seed: int = 0


@dataclass(frozen=True)
class EntityHistory:
    """An entity's raw rows that the back-fill has seen, and until when everything known has been computed."""

    versions: Versions
    actions: ActionVersions
    until_us: int


@dataclass(frozen=True)
class Sampled:
    """Entity rows and what the point-in-time join gives for them.

    Attributes
    ----------
    entities
        One name for each row.
    moments_us
        int64 (N,).
    values
        float64 (N, features), NaN where missing.
    missing
        bool (N, features): null.
    event_us
        int64 (N,): event of the row taken, `NO_ROW_US` where there is none.
    """

    entities: list[str]
    moments_us: Integers
    values: Floats
    missing: Flags
    event_us: Integers

    def __len__(self) -> int:
        return len(self.entities)


NO_ROW_US = -(2**62)
StoredTimes = tuple[Integers, Integers, Integers]


@dataclass
class Subject:
    """A view under test.

    Attributes
    ----------
    connection
        The database.
    selection
        What the service takes of the view.
    spec
        Its definition, if it is one of Tapeline's; else nothing can be computed again.
    entities
        The sampled ones; keys of a view with several are joined for names only.
    keys
        Values of the join keys of each.
    vintage_us
        Everything is read as recorded by this moment.
    histories
        Raw rows of each entity, for views of Tapeline's.
    """

    connection: psycopg.Connection[Any]
    selection: ViewSelection
    spec: FeatureViewSpec | None
    entities: list[str]
    keys: dict[str, tuple[Any, ...]]
    vintage_us: int
    histories: dict[str, EntityHistory]
    _stored: dict[str, StoredTimes] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self.selection.view}@{self.selection.version}"

    @property
    def table(self) -> sql.SQL:
        """What stands after FROM."""
        return sql.SQL(self.selection.table)

    @property
    def everything(self) -> sql.Composed:
        """All columns of it."""
        return sql.SQL("SELECT s.* FROM {} AS s").format(self.table)

    @cached_property
    def runner(self) -> RowRunner:
        """Runs rows through the view's kernels."""
        assert self.spec is not None
        with self.connection.transaction():
            return RowRunner(self.spec, declared_lag_us(self.connection, self.spec))

    @cached_property
    def places(self) -> Integers:
        """Columns of the plan's outputs that the service takes, in its order."""
        assert self.spec is not None
        return np.array([self.spec.columns.index(name) for name in self.selection.features], dtype=np.intp)

    def join(
        self,
        entities: Sequence[str],
        moments_us: Integers,
        *,
        selection: ViewSelection | None = None,
        method: Method = "auto",
    ) -> Sampled:
        """What the point-in-time join gives for entity rows, in their order."""
        chosen = selection or self.selection
        columns: dict[str, pa.Array] = {
            column: pa.array([self.keys[entity][place] for entity in entities])
            for place, column in enumerate(chosen.entity_columns)
        }
        rows = pa.table(columns | {"event_timestamp": pa.array(moments_us).cast(_UTC)})
        vintage_us = self.vintage_us if chosen.created_column else None
        found = as_of_join(self.connection, [chosen], rows, vintage_us=vintage_us, with_times=True, method=method)
        values = np.empty((len(entities), len(chosen.output_names)))
        missing = np.empty(values.shape, dtype=np.bool_)
        for place, name in enumerate(chosen.output_names):
            values[:, place], missing[:, place] = numbers(found.column(name))
        event = found.column(time_columns(chosen)[0]).cast(pa.int64()).fill_null(NO_ROW_US)
        return Sampled(list(entities), np.asarray(moments_us), values, missing, event.to_numpy())

    def fault(
        self,
        check: str,
        sample: Sampled,
        row: int,
        place: int,
        stored: float | None,
        expected: float | None,
        detail: str,
    ) -> Fault:
        """What is wrong with one value of a sample."""
        return Fault(
            check,
            self.name,
            self.selection.output_names[place],
            sample.entities[row],
            format_us(int(sample.moments_us[row])),
            stored,
            expected,
            detail,
        )

    def stored_rows(self, entity: str) -> StoredTimes:
        """Event time, sequence (0 if there is none) and available time of an entity's stored rows; read once."""
        if entity not in self._stored:
            self._stored[entity] = _read_times(self, entity)
        return self._stored[entity]

    def with_features(self, names: Sequence[str]) -> Subject:
        """The same subject with some of its features only."""
        places = [self.selection.features.index(name) for name in names]
        outputs = tuple(self.selection.output_names[place] for place in places)
        return replace(self, selection=replace(self.selection, features=tuple(names), output_names=outputs))


def numbers(column: pa.ChunkedArray) -> tuple[Floats, Flags]:
    """A column as float64 with NaN for null, and which are null; what is no number counts as its hash."""
    missing = column.is_null().to_numpy()
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        values = column.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64(), safe=False).to_numpy()
    else:
        values = np.array([np.nan if v is None else float(hash(str(v)) % 2**52) for v in column.to_pylist()])
    return np.asarray(values, dtype=np.float64), np.asarray(missing, dtype=np.bool_)


def same_bits(a: Floats, b: Floats) -> Flags:
    """Bit for bit, one NaN like another."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return np.asarray((a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b)))


def specification(selection: ViewSelection, views: Sequence[RegisteredView]) -> FeatureViewSpec | None:
    """The registered definition of a selection's table; none if the table is not one of Tapeline's."""
    table = selection.table.replace('"', "").removeprefix(f"{SCHEMA}.")
    for view in views:
        if view.table_name.removeprefix(f"{SCHEMA}.") == table:
            return FeatureViewSpec.from_definition(view.definition)
    return None


def open_subject(
    connection: psycopg.Connection[Any],
    selection: ViewSelection,
    spec: FeatureViewSpec | None,
    vintage_us: int,
    sizes: SampleSizes,
) -> Subject:
    """Choose entities and read their raw rows."""
    keys = _entities(connection, selection, sizes)
    subject = Subject(connection, selection, spec, list(keys), keys, vintage_us, {})
    if spec is None or not keys:
        return subject
    symbols = [str(key[0]) for key in keys.values()]
    with connection.transaction():
        progress = read_progress(connection, spec, symbols)
    changes = [Change(symbol, BEGINNING_US, END_US, BEGINNING_US, 0) for symbol in symbols]
    versions = read_versions(connection, spec, changes, [_BEFORE_ALL] * len(symbols))
    actions = read_actions(connection, spec, changes)
    for name, symbol, raw, action in zip(keys, symbols, versions, actions, strict=True):
        done = progress.get(symbol)
        recorded_us = vintage_us if done is None else min(done.recorded_us, vintage_us)
        until_us = END_US if done is None else done.available_us
        subject.histories[name] = EntityHistory(
            chosen_versions(raw, raw.created_us <= recorded_us), action.recorded_by(recorded_us), until_us
        )
    return subject


def chosen_versions(versions: Versions, kept: NDArray[Any]) -> Versions:
    """Some of them."""
    return Versions(
        versions.event_us[kept],
        versions.sequence[kept],
        versions.available_us[kept],
        versions.created_us[kept],
        versions.live[kept],
        versions.values[kept],
    )


def _entities(
    connection: psycopg.Connection[Any], selection: ViewSelection, sizes: SampleSizes
) -> dict[str, tuple[Any, ...]]:
    """Entities that have values, a seeded choice of them."""
    if not selection.join_keys:
        return {"": ()}
    keys = sql.SQL(", ").join(sql.Identifier(key) for key in selection.join_keys)
    present = sql.SQL(" AND ").join(
        sql.SQL("{} IS NOT NULL").format(sql.Identifier(key)) for key in selection.join_keys
    )
    query = sql.SQL(
        "SELECT {keys} FROM {table} AS s WHERE {present} GROUP BY {keys}"
        " ORDER BY md5(concat_ws('/', {seed}::text, {keys})), {keys} LIMIT {count}"
    ).format(
        table=sql.SQL(selection.table),
        keys=keys,
        present=present,
        seed=sql.Literal(sizes.seed),
        count=sql.Literal(sizes.entities),
    )
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(query).fetchall()
    return {"/".join(map(str, row)): tuple(row) for row in rows}


def _read_times(subject: Subject, entity: str) -> StoredTimes:
    selection = subject.selection
    keys: list[sql.Composable] = [
        sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(value))
        for key, value in zip(selection.join_keys, subject.keys[entity], strict=True)
    ]
    if selection.created_column:
        recorded = sql.SQL("{} <= {}").format(
            sql.Identifier(selection.created_column), sql.Literal(from_us(subject.vintage_us))
        )
        keys.append(recorded)
    query = sql.SQL(
        "SELECT (extract(epoch FROM {}) * 1000000)::bigint, coalesce({}, 0),"
        " (extract(epoch FROM {}) * 1000000)::bigint FROM {} AS s WHERE {}"
    ).format(
        sql.Identifier(selection.event_column),
        sql.Identifier(selection.sequence_column) if selection.sequence_column else sql.SQL("NULL::bigint"),
        sql.Identifier(selection.available_column or selection.event_column),
        subject.table,
        sql.SQL(" AND ").join([*keys, sql.SQL("true")]),
    )
    with subject.connection.transaction(), subject.connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(query).fetchall()
    times = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return times[:, 0], times[:, 1], times[:, 2]


def choose_moments(subject: Subject, sizes: SampleSizes) -> tuple[list[str], Integers]:
    """Entity rows to test: moments at which something becomes known, just before, just after, and in between."""
    names: list[str] = []
    moments: list[int] = []
    for place, entity in enumerate(subject.entities):
        random = np.random.default_rng([sizes.seed, place])
        event, _, available = subject.stored_rows(entity)
        if len(event) == 0:
            continue
        known = [event, available, available - 1]
        history = subject.histories.get(entity)
        until_us = int(available.max())
        if history is not None:
            until_us = min(until_us, history.until_us)
            raw = history.versions
            actions = history.actions.available_us
            known += [raw.available_us, raw.available_us - 1, _corrections(raw), _corrections(raw) - 1]
            known += [actions, actions - 1]
        first_us = int(event.min())
        span = max(until_us - first_us, 1)
        known.append(first_us + random.integers(0, span, size=sizes.moments))
        pools = [pool[(pool >= first_us) & (pool <= until_us)] for pool in map(np.unique, known)]
        taken: set[int] = set()
        while pools and len(taken) < sizes.moments:  # one of each kind in turn, so that rare ones are among them
            for pool in pools:
                if len(pool) and len(taken) < sizes.moments:
                    taken.add(int(random.choice(pool)))
            pools = [pool[~np.isin(pool, list(taken))] for pool in pools]
            pools = [pool for pool in pools if len(pool)]
        names += [entity] * len(taken)
        moments += sorted(taken)
    return names, np.array(moments, dtype=np.int64)


def fresh_moments(subject: Subject, sizes: SampleSizes) -> tuple[list[str], Integers]:
    """Entity rows for labels: moments at which a row of the view had just become available."""
    names: list[str] = []
    moments: list[Integers] = []
    for place, entity in enumerate(subject.entities):
        _, _, available = subject.stored_rows(entity)
        times = np.unique(available)
        count = min(len(times), max(sizes.moments, _LABELLED_MIN))
        chosen = np.random.default_rng([sizes.seed, place, 5]).choice(times, size=count, replace=False)
        names += [entity] * count
        moments.append(np.sort(chosen))
    return names, np.concatenate(moments) if moments else np.empty(0, dtype=np.int64)


def _corrections(raw: Versions) -> Integers:
    """Times at which a key that was known changed."""
    order = np.lexsort((raw.created_us, raw.available_us, raw.sequence, raw.event_us))
    again = (np.diff(raw.event_us[order]) == 0) & (np.diff(raw.sequence[order]) == 0)
    return np.asarray(raw.available_us[order[1:][again]])


def describe_row(versions: Versions, row: int) -> str:
    """A raw row in words."""
    kind = "row" if versions.live[row] else "retraction"
    return (
        f"{kind} at {format_us(int(versions.event_us[row]))} #{int(versions.sequence[row])},"
        f" available from {format_us(int(versions.available_us[row]))}"
    )
