"""Compares the online store with the offline one directly: what Redis holds now, and what the point-in-time rule gives now.

Entities are sampled from both stores, by a hash of their names, so that one that is missing online is found too. What
differs at first sight is looked at again a little later: while streams and materializations write, either store may
hold a row that the other is just about to get.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from redis import Redis

from tapeline.core.errors import IntegrityError
from tapeline.datasets.plan import ViewSelection
from tapeline.features.view import FeatureViewSpec
from tapeline.monitoring.findings import NO_ROW, Cause, ConsistencyReport, Mismatch, RowPlace, equal
from tapeline.monitoring.store_replay import OfflineRow, StoreReplay
from tapeline.storage.feature_tables import RegisteredView, registered_views
from tapeline.storage.keys import entity_key_sorted, entity_values, glob, view_prefix
from tapeline.storage.materialized import Materialized, read_materialized
from tapeline.storage.multi_get import MultiGet
from tapeline.storage.online import FAILURES, SCAN_COUNT, known_us, unavailable
from tapeline.storage.packed import Layout, decode_many, layout_id
from tapeline.storage.view_versions import promoted_versions

ENTITIES = 1_000
"""Entities of a view that are compared unless another number is asked for."""
_AT_ONCE = 500
_STORED_AT_ONCE = 10_000


@dataclass
class OnlineReport:
    """What a comparison found.

    Attributes
    ----------
    found
        Counts and differences; its vectors are entities of views.
    expired
        Entities whose newest row, the same in both stores, has outlived the view's time to live: readers see nothing of it.
    looks
        How often a difference was looked at before it was believed, at most.
    not_online
        Views of which Redis holds nothing, and no word that anything was ever brought; they are not compared.
    """

    found: ConsistencyReport = field(default_factory=ConsistencyReport)
    expired: int = 0
    looks: int = 1
    not_online: list[str] = field(default_factory=list)


def compare_online(
    connection: psycopg.Connection[Any],
    redis: Redis,
    project: str,
    *,
    now_us: int,
    views: Sequence[str] | None = None,
    entities: int = ENTITIES,
    seed: int = 0,
    looks: int = 3,
    settle_s: float = 1.0,
) -> OnlineReport:
    """Compare the online values of some entities with what the rule gives offline.

    Parameters
    ----------
    connection
        The database, idle.
    redis
        The online store.
    project
        Whose keys.
    now_us
        The clock's moment, at which the rule is asked.
    views
        Names; none: all that are registered and of which anything is online. Of each, the promoted version.
    entities
        How many of each view are sampled from either store. The same seed takes the same ones.
    seed
        Of the sample.
    looks, settle_s
        A difference is believed once it has been seen so often, so many seconds apart.

    Raises
    ------
    UnavailableError
        If Redis is away.
    """
    report = OnlineReport()
    with connection.transaction():
        registered = registered_views(connection)
    promoted = promoted_versions(connection)
    for view in registered:
        if (views is None or view.view in views) and promoted.get(view.view) == view.version:
            others = [each for each in registered if each.view == view.view and each.version != view.version]
            comparison = _ViewComparison(connection, redis, project, view, others, now_us)
            online = comparison.sample_online(entities, seed)
            if views is None and not online and comparison.materialized() is None:
                report.not_online.append(f"{view.view}@{view.version}")
                continue
            sampled = sorted({*online, *comparison.sample_offline(entities, seed)})
            for begin in range(0, len(sampled), _AT_ONCE):
                comparison.compare(sampled[begin : begin + _AT_ONCE], report, looks, settle_s)
    return report


@dataclass(frozen=True)
class _Online:
    """What Redis holds of an entity; no values: nothing, or nothing that can be read."""

    values: NDArray[np.float64] | None = None
    place: RowPlace = NO_ROW
    fault: Cause | None = None


class _ViewComparison:
    """Compares the online values of one view version."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        redis: Redis,
        project: str,
        view: RegisteredView,
        others: Sequence[RegisteredView],
        now_us: int,
    ) -> None:
        self._connection = connection
        self._redis = redis
        self._project = project
        self._spec = FeatureViewSpec.from_definition(view.definition)
        self._prefix = view_prefix(project, view.view, view.version)
        self._layout = Layout.of_floats(view.view, view.version, self._spec.columns)
        self._store = StoreReplay(connection, _selection(self._spec))
        self._others = [FeatureViewSpec.from_definition(other.definition) for other in others]
        self._now_us = now_us
        self._mget = MultiGet(redis)

    def materialized(self) -> Materialized | None:
        """How far the view was brought, if anybody said."""
        return read_materialized(self._redis, self._project, self._spec.name, self._spec.version)

    def sample_online(self, count: int, seed: int) -> list[str]:
        """Some of the entities that have a value in Redis."""

        def symbols() -> Iterator[str]:
            try:
                for key in self._redis.scan_iter(match=glob(self._prefix), count=SCAN_COUNT):
                    values = entity_values(key[len(self._prefix) :])
                    if len(values) == 1 and isinstance(values[0], str):
                        yield values[0]
            except FAILURES as error:
                raise unavailable(error) from error

        return _least(symbols(), count, seed)

    def sample_offline(self, count: int, seed: int) -> list[str]:
        """Some of the entities that have rows in PostgreSQL; its index leads from each symbol to the next."""
        statement = sql.SQL(
            "WITH RECURSIVE symbols AS ((SELECT symbol FROM {table} ORDER BY symbol LIMIT 1) UNION ALL"
            " SELECT (SELECT s.symbol FROM {table} s WHERE s.symbol > symbols.symbol ORDER BY s.symbol LIMIT 1)"
            " FROM symbols WHERE symbols.symbol IS NOT NULL) SELECT symbol FROM symbols WHERE symbol IS NOT NULL"
        ).format(table=sql.Identifier("features", self._spec.table))

        def symbols() -> Iterator[str]:
            with self._connection.transaction(), self._connection.cursor(name="symbols") as cursor:
                cursor.itersize = _STORED_AT_ONCE
                for (symbol,) in cursor.execute(statement):
                    yield symbol

        return _least(symbols(), count, seed)

    def compare(self, entities: Sequence[str], report: OnlineReport, looks: int, settle_s: float) -> None:
        """Compare some entities, those that differ several times."""
        wall_us = time.time_ns() // 1_000
        width = len(self._spec.columns)
        left = list(entities)
        differing: list[Mismatch] = []
        for look in range(1, looks + 1):
            expired, differing = self._look(left, wall_us)
            report.expired += expired
            left = sorted({each.entity for each in differing})
            report.looks = max(report.looks, look)
            if not left:
                break
            if look < looks:
                time.sleep(settle_s)
        report.found.vectors += len(entities)
        report.found.by_origin["online"] += len(entities) * width
        report.found.compared(self._layout.label.replace("@v", "@"), np.full(len(entities), wall_us), width)
        for each in differing:
            report.found.differs(each)

    def _look(self, entities: Sequence[str], wall_us: int) -> tuple[int, list[Mismatch]]:
        """How many of some entities' rows agree and have expired, and what differs now. Redis is read first."""
        packed = self._mget([self._prefix + entity_key_sorted([entity]) for entity in entities]).values()
        known = self.materialized()
        with self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            offline = self._store.find(entities, [self._now_us] * len(entities))
            online = [self._decode(value) for value in packed]
            own = self._store.rows_at(entities, [each.place for each in online])
            expired, differing = 0, []
            for number, entity in enumerate(entities):
                now = offline[number]
                cause = self._cause(entity, online[number], now, own[number], known)
                if cause is not None:
                    differing += self._differences(entity, online[number], now, cause, wall_us)
                elif self._is_stale(now.place):
                    expired += 1
        return expired, differing

    def _decode(self, value: bytes | None) -> _Online:
        if value is None:
            return _Online()
        try:
            rows = decode_many(self._layout, [value])
        except IntegrityError:
            try:
                other = layout_id(value) != self._layout.id
            except IntegrityError:
                other = False
            return _Online(fault=Cause.VERSION if other else Cause.UNKNOWN)
        event_us, sequence, available_us, created_us = (known_us(time_us) for time_us in rows.times[0].tolist())
        return _Online(rows.numbers()[0], RowPlace(event_us, sequence, available_us, created_us))

    def _cause(
        self, entity: str, online: _Online, now: OfflineRow, own: Sequence[OfflineRow], known: Materialized | None
    ) -> Cause | None:
        """Why Redis does not hold the row that the rule takes now; none where it does."""
        if online.fault is not None:
            return online.fault
        if online.values is None:
            if now.place.event_us is None:
                return None
            return Cause.EXPIRED if self._is_stale(now.place) else _behind(now.place, known)
        place = online.place
        same = [equal(online.values, each.values).all() for each in own]
        if place.order == now.place.order and equal(online.values, now.values).all():
            return None
        if not any(same):
            return Cause.VERSION if self._is_of_another_version(entity, online) else Cause.UNKNOWN
        if max(place.event_us or 0, place.available_us or 0) > self._now_us:
            return Cause.AHEAD
        if (place.event_us, place.sequence) == (now.place.event_us, now.place.sequence):
            return Cause.CORRECTION
        return _behind(now.place, known) if place.order < now.place.order else Cause.UNKNOWN

    def _is_stale(self, place: RowPlace) -> bool:
        ttl_us = self._spec.ttl_us
        return ttl_us > 0 and place.event_us is not None and place.event_us < self._now_us - ttl_us

    def _is_of_another_version(self, entity: str, online: _Online) -> bool:
        """Whether another version of the view computed these values for this event."""
        assert online.values is not None
        for other in self._others:
            shared = [name for name in self._spec.columns if name in other.columns]
            if not shared:
                continue
            mine = online.values[[self._spec.columns.index(name) for name in shared]]
            for each in StoreReplay(self._connection, _selection(other, shared)).rows_at([entity], [online.place])[0]:
                if equal(mine, each.values).all():
                    return True
        return False

    def _differences(self, entity: str, online: _Online, now: OfflineRow, cause: Cause, wall_us: int) -> list[Mismatch]:
        """One for each feature that differs; where only the rows do, as with a value that both compute alike, one for the first."""
        values = online.values if online.values is not None else np.full(len(self._spec.columns), np.nan)
        places = np.flatnonzero(~equal(values, now.values)).tolist() or [0]
        return [
            Mismatch(
                request_id=None,
                entity=entity,
                view=self._spec.name,
                version=self._spec.version,
                feature=self._spec.columns[place],
                served_us=wall_us,
                request_us=self._now_us,
                origin="online",
                served=float(values[place]),
                expected=float(now.values[place]),
                cause=cause,
                used=online.place,
                recorded=now.place,
            )
            for place in places
        ]


def _behind(row: RowPlace, known: Materialized | None) -> Cause:
    """Why a row that the rule takes has not been brought: it came after its time had been read, or its time is still to be."""
    visible_us = max(row.event_us or 0, row.available_us or 0)
    if known is None or known.end_us is None or known.recorded_us is None or row.created_us is None:
        return Cause.LAG
    return Cause.LATE_ROW if visible_us <= known.end_us and row.created_us > known.recorded_us else Cause.LAG


def _selection(spec: FeatureViewSpec, features: Sequence[str] | None = None) -> ViewSelection:
    """All of a view's features, however old."""
    names = tuple(features or spec.columns)
    return ViewSelection(
        view=spec.name, version=spec.version, table=f'features."{spec.table}"', entity_columns=("symbol",),
        join_keys=("symbol",), features=names, output_names=names,
    )  # fmt: skip


def _least(symbols: Iterable[str], count: int, seed: int) -> list[str]:
    """Those of some symbols to which a hash gives the least numbers: the same ones in whatever order they come, and however
    often, in bounded memory.
    """
    salt = seed.to_bytes(8, "little", signed=True)

    def number(symbol: str) -> bytes:
        return hashlib.blake2b(symbol.encode(), digest_size=8, key=salt).digest()

    chosen: list[tuple[bytes, str]] = []
    for symbol in symbols:
        item = number(symbol), symbol
        if len(chosen) == count and item >= chosen[-1]:
            continue
        place = bisect_left(chosen, item)
        if place == len(chosen) or chosen[place] != item:
            chosen.insert(place, item)
            del chosen[count:]
    return [symbol for _, symbol in chosen]
