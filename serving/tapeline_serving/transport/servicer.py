"""The servicer: translates, awaits the engine, translates back."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from tapeline.core.clock import ReplayClock
from tapeline.core.errors import ModelNotReadyError, TapelineError
from tapeline.core.settings import Settings
from tapeline_client._generated import serving_pb2 as pb

from tapeline_serving.engine.engine import Engine
from tapeline_serving.engine.plan import ServingPlan
from tapeline_serving.engine.served_log import ServedLog
from tapeline_serving.engine.served_rows import RowEncoder
from tapeline_serving.engine.types import Outputs, PredictRequest, Vectors
from tapeline_serving.metrics import Metrics
from tapeline_serving.transport.answer import write_response
from tapeline_serving.transport.errors import ERROR_CLASS_KEY, status_code
from tapeline_serving.transport.translate import read_entities, read_rows

if TYPE_CHECKING:
    from tapeline_serving.caching import ServerCaches

logger = logging.getLogger("tapeline.serving")

SERVICE = "tapeline.serving.v1.InferenceService"


class InferenceServicer:
    """Answers ``Predict`` and ``ModelInfo``.

    Until `engine` is set, every call is UNAVAILABLE. With `caches`, they are told who is asked for.
    """

    def __init__(self, settings: Settings, metrics: Metrics, served_log: ServedLog) -> None:
        self.engine: Engine | None = None
        self.caches: ServerCaches | None = None
        self._encoder: RowEncoder | None = None
        self._settings = settings
        self._metrics = metrics
        self._log = served_log
        self._clock = settings.make_clock()

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server routes the service's two methods by."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Predict": grpc.unary_unary_rpc_method_handler(
                    self.predict,
                    request_deserializer=pb.PredictRequest.FromString,
                    response_serializer=pb.PredictResponse.SerializeToString,
                ),
                "ModelInfo": grpc.unary_unary_rpc_method_handler(
                    self.model_info,
                    request_deserializer=pb.ModelInfoRequest.FromString,
                    response_serializer=pb.ModelInfoResponse.SerializeToString,
                ),
            },
        )

    async def predict(self, message: pb.PredictRequest, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """Answer one request; a `TapelineError` becomes the status code of its class."""
        begin = time.perf_counter()
        code = "OK"
        try:
            return await self._predict(message)
        except TapelineError as error:
            code = status_code(error).name
            await _abort(context, error)
        except asyncio.CancelledError:  # the caller went away, or its deadline passed
            code = "CANCELLED"
            raise
        except Exception:
            code = "INTERNAL"
            logger.exception("Predict failed")
            await context.abort(grpc.StatusCode.INTERNAL, "an internal error; the server's log says more")
        finally:
            self._metrics.observe(code, len(message.entities), time.perf_counter() - begin)

    async def _predict(self, message: pb.PredictRequest) -> pb.PredictResponse:
        engine = self._ready()
        manifest = engine.plan.manifest
        request = read_entities(message, self._settings, manifest.model, manifest.version, self._clock.now_us())
        if self.caches is not None:
            self.caches.count(request)
        with engine.begin(request) as reading:
            read_rows(message, request)  # while Redis looks the keys up
            vectors, outputs = await engine.predict(request, reading)
        response = write_response(engine.plan, request, vectors, outputs, include_features=message.include_features)
        # The log can wait until the answer is on its way: this runs after gRPC has sent what is returned here.
        asyncio.get_running_loop().call_soon(self._keep, request, vectors, outputs)
        return response

    def _keep(self, request: PredictRequest, vectors: Vectors, outputs: Outputs) -> None:
        count = len(request.entities)
        if not self._log.has_room(count):
            return
        try:
            self._encoder = self._encoder or RowEncoder(self._ready().plan)
            rows = self._encoder.encode(request, vectors, outputs)
        except Exception:
            logger.exception("what was served cannot be logged")
            self._log.drop(count)
        else:
            self._log.put(rows, may_be_retry=request.may_be_retry)

    async def model_info(self, _: pb.ModelInfoRequest, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """Describe what is served."""
        try:
            plan = self._ready().plan
        except TapelineError as error:
            await _abort(context, error)
            return None
        if self.caches is None:
            response = _description(plan)
        else:
            described = await self.caches.description(lambda: _description(plan).SerializeToString())
            try:
                response = pb.ModelInfoResponse.FromString(described)
            except DecodeError:  # a shared value that somebody else made
                response = _description(plan)
        settings = self._settings
        response.limits.CopyFrom(
            pb.Limits(
                request_bytes_max=settings.request_bytes_max,
                entities_max=settings.entities_per_request_max,
                live_rows_max=settings.live_rows_per_request_max,
            )
        )
        response.served_log.CopyFrom(
            pb.ServedLog(written=self._log.written, waiting=self._log.waiting, dropped=self._log.dropped)
        )
        response.clock_us = self._clock.now_us()
        response.replay = isinstance(self._clock, ReplayClock)
        return response

    def _ready(self) -> Engine:
        if self.engine is None:
            raise ModelNotReadyError("the model is not loaded yet", remedy="Wait until the health check says SERVING")
        return self.engine


def _description(plan: ServingPlan) -> pb.ModelInfoResponse:
    """What there is to say about a bundle, whichever server says it, and whenever."""
    manifest = plan.manifest
    return pb.ModelInfoResponse(
        model=manifest.model,
        version=manifest.version,
        bundle_sha256=plan.bundle_sha256,
        features=[pb.ModelFeature(view=f.view, version=f.version, name=f.name) for f in manifest.features],
        views=[
            pb.ModelView(
                view=view.name,
                version=view.version,
                plan_hash=view.plan_hash,
                lineage_hash=view.lineage_hash,
                ttl_us=view.ttl_us,
                live_rows=pb.LIVE_ROWS_TRADES if view.takes_trades else pb.LIVE_ROWS_BARS,
            )
            for view in plan.views
        ],
        outputs=manifest.outputs,
        label_json=json.dumps(manifest.label),
        metrics_json=json.dumps(manifest.metrics),
        dataset_sha256=manifest.dataset_sha256,
    )


_Abort = Callable[..., Awaitable[None]]


async def _abort(context: Any, error: TapelineError) -> None:
    abort: _Abort = context.abort
    await abort(status_code(error), str(error), ((ERROR_CLASS_KEY, type(error).__name__),))
