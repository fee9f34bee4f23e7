"""The client: one channel, two calls."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from tapeline_client._generated import serving_pb2 as pb
from tapeline_client.errors import from_rpc
from tapeline_client.types import (
    Bar,
    EntityStatus,
    FeatureStatus,
    LiveRows,
    ModelInfo,
    ModelView,
    Origin,
    Prediction,
    ServedLog,
    Trades,
    ViewUse,
)

_SERVICE = "/tapeline.serving.v1.InferenceService/"
_RESPONSE_BYTES_MAX = 256 << 20


class Client:
    """Talks to one inference server. Thread-safe; a context manager.

    Parameters
    ----------
    target
        ``host:port``.
    timeout_s
        The longest a call may take, unless the call says otherwise.

    Examples
    --------
    >>> with Client("127.0.0.1:50051") as client:  # doctest: +SKIP
    ...     [prediction.probability for prediction in client.predict(["AAPL", "MSFT"])]
    """

    def __init__(self, target: str = "127.0.0.1:50051", *, timeout_s: float = 5.0) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", _RESPONSE_BYTES_MAX),
                ("grpc.max_send_message_length", -1),  # the server says what is too much
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._predict = self._channel.unary_unary(
            _SERVICE + "Predict",
            request_serializer=pb.PredictRequest.SerializeToString,
            response_deserializer=pb.PredictResponse.FromString,
        )
        self._model_info = self._channel.unary_unary(
            _SERVICE + "ModelInfo",
            request_serializer=pb.ModelInfoRequest.SerializeToString,
            response_deserializer=pb.ModelInfoResponse.FromString,
        )

    def predict(
        self,
        symbols: Sequence[str],
        *,
        live_bars: Mapping[str, Iterable[Bar]] | None = None,
        live_trades: Mapping[str, Trades] | None = None,
        model: str = "",
        request_id: str = "",
        include_features: bool = False,
        timeout_s: float | None = None,
        wait_for_ready: bool = False,
    ) -> list[Prediction]:
        """Predict for some symbols.

        Parameters
        ----------
        symbols
            Each at most once.
        live_bars, live_trades
            By symbol: newest rows, oldest first, that directly follow what the store has seen.
        model
            ``name`` or ``name@version``, if the server is to refuse any other.
        request_id
            UUID to log the served vectors under; the server makes one otherwise.
        include_features
            Whether to return what the model saw.
        timeout_s
            Instead of the client's.
        wait_for_ready
            Wait for a server that is not there yet, within the timeout, instead of failing at once.

        Returns
        -------
        list of Prediction
            In the order of `symbols`.

        Raises
        ------
        ValueError
            If live rows are given for a symbol that is not asked for.
        ClientError
            One class for each thing that can be done about it; see `tapeline_client.errors`.
        """
        bars, trades = dict(live_bars or {}), dict(live_trades or {})
        if strangers := sorted((set(bars) | set(trades)) - set(symbols)):
            raise ValueError(f"live rows for {', '.join(strangers)}, which the request does not ask for")
        request = pb.PredictRequest(model=model, request_id=request_id, include_features=include_features)
        for symbol in symbols:
            entity = request.entities.add(symbol=symbol)
            if symbol in bars:
                entity.bars.CopyFrom(_bar_columns(list(bars[symbol])))
            if symbol in trades:
                entity.trades.CopyFrom(_trade_columns(trades[symbol]))
        return _predictions(self._call(self._predict, request, timeout_s, wait_for_ready))

    def model_info(self, *, timeout_s: float | None = None, wait_for_ready: bool = False) -> ModelInfo:
        """What the server serves, and how its log stands."""
        message = self._call(self._model_info, pb.ModelInfoRequest(), timeout_s, wait_for_ready)
        return ModelInfo(
            model=message.model,
            version=message.version,
            bundle_sha256=message.bundle_sha256,
            features=tuple((f.view, f.version, f.name) for f in message.features),
            views=tuple(
                ModelView(v.view, v.version, v.plan_hash, v.lineage_hash, v.ttl_us, LiveRows(v.live_rows))
                for v in message.views
            ),
            outputs=tuple(message.outputs),
            label=json.loads(message.label_json),
            metrics=json.loads(message.metrics_json),
            dataset_sha256=message.dataset_sha256,
            request_bytes_max=message.limits.request_bytes_max,
            entities_max=message.limits.entities_max,
            live_rows_max=message.limits.live_rows_max,
            served_log=ServedLog(message.served_log.written, message.served_log.waiting, message.served_log.dropped),
            clock_us=message.clock_us,
            replay=message.replay,
        )

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any, timeout_s: float | None, wait_for_ready: bool) -> Any:
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        try:
            return method(request, timeout=timeout_s, wait_for_ready=wait_for_ready)
        except grpc.RpcError as error:
            raise from_rpc(error, self.target) from None


def _bar_columns(bars: Sequence[Bar]) -> pb.BarColumns:
    message = pb.BarColumns(
        event_us=[bar.event_us for bar in bars],
        open=[bar.open for bar in bars],
        high=[bar.high for bar in bars],
        low=[bar.low for bar in bars],
        close=[bar.close for bar in bars],
        volume=[bar.volume for bar in bars],
    )
    for name in ("split_ratio", "dividend"):
        numbers = [getattr(bar, name) for bar in bars]
        if any(number is not None for number in numbers):
            getattr(message, name).extend(math.nan if number is None else number for number in numbers)
    for name in ("start_us", "available_us"):
        values = [getattr(bar, name) for bar in bars]
        if any(value is not None for value in values):
            if any(value is None for value in values):
                raise ValueError(f"{name} is given for some bars only; give it for all of a symbol's bars or for none")
            getattr(message, name).extend(values)
    return message


def _trade_columns(trades: Trades) -> pb.TradeColumns:
    return pb.TradeColumns(
        event_us=_integers(trades.event_us),
        available_us=None if trades.available_us is None else _integers(trades.available_us),
        sequence=_integers(trades.sequence),
        price=np.asarray(trades.price, dtype=np.float64).tolist(),
        size=np.asarray(trades.size, dtype=np.float64).tolist(),
    )


def _integers(values: Any) -> list[int]:
    array = np.asarray(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"times and sequences are whole numbers, not {array.dtype}")
    return [int(value) for value in array.tolist()]


def _predictions(response: Any) -> list[Prediction]:
    names = list(response.feature_names)
    return [
        Prediction(
            symbol=message.symbol,
            status=EntityStatus(message.status),
            outputs=dict(message.outputs),
            partial=message.partial,
            views=tuple(_view_use(use) for use in message.views),
            issues={issue.feature: FeatureStatus(issue.status) for issue in message.issues},
            features=dict(zip(names, message.features, strict=True)) if names else None,
            model=response.model,
            version=response.version,
            bundle_sha256=response.bundle_sha256,
            request_id=response.request_id,
            request_us=response.request_us,
        )
        for message in response.predictions
    ]


def _view_use(message: Any) -> ViewUse:
    def known(name: str) -> int | None:
        return getattr(message, name) if message.HasField(name) else None

    return ViewUse(
        view=message.view,
        version=message.version,
        origin=Origin(message.origin),
        event_us=known("event_us"),
        available_us=known("available_us"),
        sequence=known("sequence"),
        staleness_us=known("staleness_us"),
        partial=message.partial,
    )
