"""Answered requests as rows of ``tapeline.served_vectors``, in PostgreSQL's binary COPY form.

The event loop does this after every answer, so it is written for speed: what does not change is encoded once for each model,
and numbers become JSON by way of ``repr``, which is shortest and exact.
"""

from __future__ import annotations

import json
import math
import struct

from tapeline.features.versions import Actions

from tapeline_serving.engine.plan import ServingPlan
from tapeline_serving.engine.types import (
    EntityRequest,
    EntityStatus,
    LiveBars,
    LiveTrades,
    Origin,
    Outputs,
    PredictRequest,
    Vectors,
    ViewUse,
)

COLUMNS = (
    "request_id, entity, model, model_version, bundle_sha256, served_timestamp, request_timestamp, vector, statuses,"
    " prediction, views, live_rows"
)
COPY_HEAD, COPY_END = b"PGCOPY\n\xff\r\n\x00" + bytes(8), struct.pack(">h", -1)

_FIELDS, _ID_BYTES = struct.pack(">h", 12), struct.pack(">i", 16)
_LENGTH, _TIMES, _FLOAT8 = struct.Struct(">i"), struct.Struct(">iqiq"), struct.Struct(">id")
_ARRAY = struct.Struct(">iiiiii")
_NULL, _NO_ARRAY = _LENGTH.pack(-1), struct.pack(">iiii", 12, 0, 0, 701)
_FLOAT8_OID = 701
_JSONB = b"\x01"
_POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01
_ORIGINS = {origin: origin.name.lower() for origin in Origin}


class RowEncoder:
    """Encodes what one model served.

    Parameters
    ----------
    plan
        Names the model, its version, its bundle and its views.
    """

    def __init__(self, plan: ServingPlan) -> None:
        manifest = plan.manifest
        self._model = b"".join(_field(text.encode()) for text in (manifest.model, manifest.version, plan.bundle_sha256))
        self._views = [
            json.dumps({"view": view.name, "version": view.version, "plan_hash": view.plan_hash})[:-1]
            for view in plan.views
        ]

    def encode(self, request: PredictRequest, vectors: Vectors, outputs: Outputs) -> list[bytes]:
        """One row for each entity: all that is needed to compute its features again."""
        head = b"".join((_FIELDS, _ID_BYTES, bytes.fromhex(request.request_id.replace("-", ""))))
        times = _TIMES.pack(8, request.received_us - _POSTGRES_EPOCH_US, 8, request.now_us - _POSTGRES_EPOCH_US)
        columns = [output.tolist() for output in outputs]
        rows = []
        for number, entity in enumerate(request.entities):
            has_prediction = vectors.overall[number] is not EntityStatus.NO_FEATURES
            used = ",".join([_use(view, use) for view, use in zip(self._views, vectors.uses[number], strict=True)])
            rows.append(
                b"".join(
                    (
                        head,
                        _field(entity.symbol.encode()),
                        self._model,
                        times,
                        _field(vectors.values[number].tobytes()),
                        _field(vectors.statuses[number].tobytes()),
                        _array([column[number] for column in columns]) if has_prediction else _NO_ARRAY,
                        _jsonb(f"[{used}]"),
                        _live_rows(entity),
                    )
                )
            )
        return rows


def _field(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _jsonb(text: str) -> bytes:
    value = text.encode()
    return _LENGTH.pack(len(value) + 1) + _JSONB + value


def _array(values: list[float]) -> bytes:
    count = len(values)
    head = _ARRAY.pack(20 + 12 * count, 1, 0, _FLOAT8_OID, count, 1)
    return head + b"".join([_FLOAT8.pack(8, value) for value in values])


def _whole(number: int | None) -> int | str:
    return "null" if number is None else number


def _use(view: str, use: ViewUse) -> str:
    adjusted = "" if use.actions is None else _adjusted(use.actions)
    return (
        f'{view},"origin":"{_ORIGINS[use.origin]}","event_us":{_whole(use.event_us)},'
        f'"available_us":{_whole(use.available_us)},"sequence":{_whole(use.sequence)},'
        f'"partial":{"true" if use.partial else "false"},"state_event_us":{_whole(use.state_event_us)},'
        f'"state_sequence":{_whole(use.state_sequence)},"rows_seen":{_whole(use.rows_seen)}{adjusted}}}'
    )


def _adjusted(actions: Actions) -> str:
    """What live rows were adjusted for, where there was anything."""
    named = (("splits", actions.splits), ("dividends", actions.dividends))
    return "".join([f',"{name}":{json.dumps(rows)}' for name, rows in named if rows])


def _live_rows(entity: EntityRequest) -> bytes:
    parts = []
    if entity.bars is not None:
        parts.append(f'"bars":{_bars(entity.bars)}')
    if entity.trades is not None:
        parts.append(f'"trades":{_trades(entity.trades)}')
    return _jsonb(f"{{{','.join(parts)}}}") if parts else _NULL


def _bars(bars: LiveBars) -> str:
    columns = "".join([f'"{name}":{_exact(column)},' for name, column in bars.columns.items()])
    start = "null" if bars.start_us is None else bars.start_us
    ratio = "null" if bars.split_ratio is None else _exact(bars.split_ratio)
    dividend = "null" if bars.dividend is None else _exact(bars.dividend)
    return (
        f'{{{columns}"start_us":{start},"event_us":{bars.event_us},"available_us":{bars.available_us},'
        f'"split_ratio":{ratio},"dividend":{dividend}}}'
    )


def _trades(trades: LiveTrades) -> str:
    return (
        f'{{"event_us":{trades.event_us.tolist()},"available_us":{trades.available_us.tolist()},'
        f'"sequence":{trades.sequence.tolist()},"price":{_exact(trades.price.tolist())},'
        f'"size":{_exact(trades.size.tolist())}}}'
    )


def _exact(column: list[float]) -> str:
    """Numbers that come back from jsonb bit for bit; NaN, infinity and negative zero, which it has not, become words."""
    text = repr(column)
    if "n" not in text and "-0.0" not in text:
        return text
    return json.dumps([v if math.isfinite(v) and (v != 0.0 or math.copysign(1.0, v) > 0) else str(v) for v in column])
