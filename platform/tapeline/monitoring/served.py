"""The log of served vectors, read back: what each request saw, and from where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from tapeline.core.timestamps import from_us, to_us
from tapeline.features.versions import Actions

BATCH_ROWS = 5_000
# Numbers of FeatureStatus in serving.proto.
_STALE, _NOT_YET_AVAILABLE = 3, 6


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
    live_rows
        By kind (``bars``, ``trades``): columns as the request sent them.
    """

    request_id: str
    entity: str
    bundle_sha256: str
    served_us: int
    request_us: int
    vector: NDArray[np.float64]
    statuses: NDArray[np.uint8]
    views: dict[tuple[str, int], ServedView]
    live_rows: Mapping[str, Mapping[str, Any]]

    def stale(self, positions: NDArray[np.intp]) -> bool:
        """Whether the server said that the values had outlived their time to live."""
        return bool(np.all(self.statuses[positions] == _STALE))

    def ahead(self, positions: NDArray[np.intp]) -> bool:
        """Whether the server said that the store's values were of after the request's clock."""
        return bool(np.any(self.statuses[positions] == _NOT_YET_AVAILABLE))


def read_served(
    connection: psycopg.Connection[Any], *, since_us: int | None = None, until_us: int | None = None
) -> Iterator[list[ServedRow]]:
    """Served vectors in batches, in the order in which they were served.

    Parameters
    ----------
    connection
        Inside a transaction: the rows come through a cursor of the server's.
    since_us, until_us
        Range of wall-clock times of serving, the end excluded.
    """
    with connection.cursor(name="served_vectors") as cursor:
        cursor.itersize = BATCH_ROWS
        cursor.execute(
            "SELECT request_id::text, entity, bundle_sha256, served_timestamp, request_timestamp, vector, statuses,"
            " views, live_rows FROM tapeline.served_vectors"
            " WHERE (%(since)s::timestamptz IS NULL OR served_timestamp >= %(since)s)"
            " AND (%(until)s::timestamptz IS NULL OR served_timestamp < %(until)s)"
            " ORDER BY served_timestamp, request_id, entity",
            {
                "since": None if since_us is None else from_us(since_us),
                "until": None if until_us is None else from_us(until_us),
            },
        )
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield [_served(*row) for row in rows]


def _served(
    request_id: str,
    entity: str,
    bundle_sha256: str,
    served: Any,
    request: Any,
    vector: bytes,
    statuses: bytes,
    views: list[dict[str, Any]],
    live_rows: dict[str, dict[str, Any]] | None,
) -> ServedRow:
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
        for view in views
    ]
    return ServedRow(
        request_id=request_id,
        entity=entity,
        bundle_sha256=bundle_sha256,
        served_us=to_us(served),
        request_us=to_us(request),
        vector=np.frombuffer(vector, dtype="<f8").astype(np.float64),
        statuses=np.frombuffer(statuses, dtype=np.uint8),
        views={(view.view, view.version): view for view in used},
        live_rows=live_rows or {},
    )


def _pairs(listed: Iterable[Sequence[float]]) -> list[tuple[int, float]]:
    return [(int(at), float(number)) for at, number in listed]
