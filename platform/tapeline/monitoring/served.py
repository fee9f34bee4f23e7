"""The log of served vectors, read back: what each request saw, and from where."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import set_json_loads

from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import from_us, to_us
from tapeline.features.versions import Actions

BATCH_ROWS = 5_000
BATCH_BYTES = 32 << 20
"""Vectors and live rows, as PostgreSQL stores them, that are in memory at once."""

# Numbers of FeatureStatus in serving.proto.
_STALE, _NOT_YET_AVAILABLE = 3, 6
_COLUMNS = (
    "request_id::text, entity, bundle_sha256, served_timestamp, request_timestamp, vector, statuses, views, live_rows"
)
_SIZE = "pg_column_size(vector) + coalesce(pg_column_size(live_rows), 0)"


@dataclass(frozen=True)
class ServedView:
    """What a served vector used of one view.

    Attributes
    ----------
    origin
        ``none``, ``store`` or ``live``.
    event_us, available_us, sequence
        Of the row used, or of the last live row.
    state_event_us, state_sequence
        Position of the stored state that live rows continued.
    partial
        Whether an unfinished bar took part.
    actions
        The splits and dividends that live rows were adjusted for.
    """

    view: str
    version: int
    plan_hash: str
    origin: str
    event_us: int | None
    available_us: int | None
    sequence: int | None
    state_event_us: int | None
    state_sequence: int | None
    partial: bool
    actions: Actions


@dataclass(frozen=True)
class ServedRow:
    """One row of ``tapeline.served_vectors``.

    Attributes
    ----------
    vector
        Shape (features,), float64, in the order of the bundle's features.
    statuses
        Shape (features,), uint8.
    views
        By view and version.
    live_json
        The request's own rows as JSON; empty where it had none.
    """

    request_id: str
    entity: str
    bundle_sha256: str
    served_us: int
    request_us: int
    vector: NDArray[np.float64]
    statuses: NDArray[np.uint8]
    views: Mapping[tuple[str, int], ServedView]
    live_json: bytes

    @cached_property
    def live_rows(self) -> Mapping[str, Mapping[str, Any]]:
        """By kind (``bars``, ``trades``): columns as the request sent them."""
        return json.loads(self.live_json) if self.live_json else {}

    def ahead(self, positions: NDArray[np.intp]) -> bool:
        """Whether the server said that the store's values were of after the request's clock."""
        return bool(np.any(self.statuses[positions] == _NOT_YET_AVAILABLE))


@dataclass(frozen=True)
class Sampling:
    """Which answers are looked at: the same ones whoever asks, how often, and in whatever order.

    Parameters
    ----------
    rate
        Share of the answers, above 0 and at most 1. What a lower rate takes, a higher one takes too.
    seed
        Another seed takes other answers.

    Raises
    ------
    ParameterError
        If the rate is out of range.
    """

    rate: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise ParameterError(f"a sampling rate of {self.rate} is not above 0 and at most 1")
        if not -(2**63) <= self.seed < 2**63:
            raise ParameterError(f"seed {self.seed} is not a whole number of 64 bits")

    @property
    def condition(self) -> sql.Composable:
        """The same as SQL: the first 8 bytes of a SHA-256 over seed, request and entity lie below the rate's share of 2^64."""
        if self.rate == 1.0:
            return sql.SQL("true")
        threshold = min(round(self.rate * 2**64), 2**64 - 1).to_bytes(8, "big")
        return sql.SQL(
            "substring(sha256(int8send({}::bigint) || uuid_send(request_id) || convert_to(entity, 'UTF8')) from 1 for 8)"
            " < {}::bytea"
        ).format(sql.Literal(self.seed), sql.Literal(threshold))


EVERYTHING = Sampling()


class LogPosition(NamedTuple):
    """A place in the log, in the order of recording: everything up to it has been read.

    Attributes
    ----------
    created
        When its row was recorded.
    served, request_id, entity
        Which of the rows recorded at that moment; ``None``: all of them.
    """

    created: datetime
    served: datetime | None = None
    request_id: str | None = None
    entity: str | None = None


def read_served(
    connection: psycopg.Connection[Any],
    *,
    since_us: int | None = None,
    until_us: int | None = None,
    sampling: Sampling = EVERYTHING,
) -> Iterator[list[ServedRow]]:
    """Served vectors in batches, in the order in which they were served.

    Parameters
    ----------
    connection
        Inside a transaction: the rows come through a cursor of the server's.
    since_us, until_us
        Range of wall-clock times of serving, the end excluded.
    sampling
        Which of them.
    """
    with connection.cursor(name="served_vectors", scrollable=False) as cursor:
        set_json_loads(_unread, cursor)
        statement = sql.SQL(
            "SELECT {} FROM tapeline.served_vectors"
            " WHERE (%(since)s::timestamptz IS NULL OR served_timestamp >= %(since)s)"
            " AND (%(until)s::timestamptz IS NULL OR served_timestamp < %(until)s)"
            " AND {} ORDER BY served_timestamp, request_id, entity"
        ).format(sql.SQL(_COLUMNS), sampling.condition)
        moments = {
            "since": None if since_us is None else from_us(since_us),
            "until": None if until_us is None else from_us(until_us),
        }
        cursor.execute(statement, moments, binary=True)
        taking = BATCH_ROWS
        while rows := cursor.fetchmany(taking):
            batch = [_served(*row) for row in rows]
            yield batch
            size = sum(row.vector.nbytes + len(row.live_json) for row in batch)
            taking = max(1, min(BATCH_ROWS, len(batch) * BATCH_BYTES // max(size, 1)))


def read_recorded(
    connection: psycopg.Connection[Any],
    after: LogPosition,
    until: datetime,
    *,
    sampling: Sampling = EVERYTHING,
    rows_max: int = BATCH_ROWS,
    bytes_max: int = BATCH_BYTES,
) -> tuple[list[ServedRow], LogPosition]:
    """The next served vectors in the order in which they were recorded, and the place up to which that is all.

    Parameters
    ----------
    connection
        In a transaction that began after `until` was settled (see ``safe_horizon``).
    after
        Where the last call ended.
    until
        The last moment of recording that is read.
    sampling
        Which of them.
    rows_max, bytes_max
        Limits of one call; one row is given however large it is.

    Returns
    -------
    list of ServedRow
        Fewer than `rows_max`, and within `bytes_max`: there are no more.
    LogPosition
        After them.
    """
    if until < after.created:
        return [], after
    place = ("served_timestamp", "request_id", "entity")
    here = sql.SQL("created_timestamp > %(created)s")
    if after.served is not None:
        here = sql.SQL(
            "(created_timestamp, served_timestamp, request_id, entity)"
            " > (%(created)s, %(served)s, %(request)s::uuid, %(entity)s)"
        )
    order = sql.SQL("created_timestamp, {}").format(sql.SQL(", ").join(map(sql.Identifier, place)))
    statement = sql.SQL(
        "SELECT {columns}, created_timestamp, running FROM (SELECT *, sum({size}) OVER (ORDER BY {order}) AS running"
        " FROM (SELECT * FROM tapeline.served_vectors WHERE {here} AND created_timestamp <= %(until)s AND {sampled}"
        " ORDER BY {order} LIMIT %(rows)s) AS first) AS sized"
        " WHERE running - ({size}) < %(bytes)s ORDER BY {order}"
    ).format(
        columns=sql.SQL(_COLUMNS), size=sql.SQL(_SIZE), order=order, here=here, sampled=sampling.condition
    )  # fmt: skip
    with connection.cursor() as cursor:
        set_json_loads(_unread, cursor)
        found = cursor.execute(
            statement,
            {
                "created": after.created,
                "served": after.served,
                "request": after.request_id,
                "entity": after.entity,
                "until": until,
                "rows": rows_max,
                "bytes": bytes_max,
            },
            binary=True,
        ).fetchall()
    rows = [_served(*row[:-2]) for row in found]
    if len(rows) < rows_max and (not found or found[-1][-1] < bytes_max):
        return rows, LogPosition(until)
    request_id, entity, _, served, *_ = found[-1]
    return rows, LogPosition(found[-1][-2], served, request_id, entity)


def _unread(content: str | bytes) -> bytes:
    """JSON as it stands: most of it repeats, and live rows are large."""
    return content if isinstance(content, bytes) else content.encode()


def _served(
    request_id: str,
    entity: str,
    bundle_sha256: str,
    served: datetime,
    request: datetime,
    vector: bytes,
    statuses: bytes,
    views: bytes,
    live_rows: bytes | None,
) -> ServedRow:
    return ServedRow(
        request_id=request_id,
        entity=entity,
        bundle_sha256=bundle_sha256,
        served_us=to_us(served),
        request_us=to_us(request),
        vector=np.frombuffer(vector, dtype="<f8").astype(np.float64),
        statuses=np.frombuffer(statuses, dtype=np.uint8),
        views=_views(views),
        live_json=live_rows or b"",
    )


@lru_cache(maxsize=4_096)
def _views(content: bytes) -> Mapping[tuple[str, int], ServedView]:
    """What a vector used of each view. Answers from the same stored rows say the same."""
    used = [
        ServedView(
            view=view["view"],
            version=view["version"],
            plan_hash=view["plan_hash"],
            origin=view["origin"],
            event_us=view["event_us"],
            available_us=view["available_us"],
            sequence=view["sequence"],
            state_event_us=view["state_event_us"],
            state_sequence=view["state_sequence"],
            partial=view["partial"],
            actions=Actions.of(_pairs(view.get("splits", ())), _pairs(view.get("dividends", ()))),
        )
        for view in json.loads(content)
    ]
    return {(view.view, view.version): view for view in used}


def _pairs(listed: Iterable[Sequence[float]]) -> list[tuple[int, float]]:
    return [(int(at), float(number)) for at, number in listed]
