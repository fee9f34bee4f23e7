"""What one server remembers, put together from the settings: stored values, predictions, the model's description, its status."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import psycopg
from tapeline.core.clock import LiveClock
from tapeline.core.errors import TapelineError
from tapeline.core.settings import Settings
from tapeline.storage.caches import (
    CachePolicy,
    MemoryCache,
    PopularityCounter,
    SharedLevel,
    TwoLevelCache,
    Value,
    cache_metrics,
    read_popular,
    share_popular,
)

from tapeline_serving.deployment_status import DeploymentStatus, ask_status
from tapeline_serving.engine.engine import Engine
from tapeline_serving.engine.model import Model
from tapeline_serving.engine.plan import ServingPlan
from tapeline_serving.engine.predictions import PredictionCache
from tapeline_serving.engine.types import EntityRequest, PredictRequest, is_symbol
from tapeline_serving.store.address import RedisAddress
from tapeline_serving.store.connection import RedisConnection
from tapeline_serving.store.remembered import RememberedStore

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

logger = logging.getLogger("tapeline.serving.caches")

SECOND_US = 1_000_000
SHARE_POPULAR_S = 60.0
WARM_AT_ONCE = 50
WARM_PAUSE_S = 0.005
"""Between two such requests, so that real ones find their turn."""
_COUNTED_MIN = 100


class ServerCaches:
    """All caches of one server. Belongs to its event loop.

    Half of ``cache_bytes_max`` is for stored values, half for everything else.

    Parameters
    ----------
    settings
        Of which ``cache`` is not ``none``.
    reference
        What the server was told to serve.
    redis
        The connection to the online store, not started yet.
    online_url
        Where that is.
    """

    def __init__(self, settings: Settings, reference: str, redis: RedisConnection, online_url: str) -> None:
        self._settings = settings
        self._reference = reference
        self._clock = settings.make_clock()
        self._wall = LiveClock()  # of what is not of the market: on a replay clock a deployment can change, too
        self._values = MemoryCache(settings.cache_bytes_max // 2)
        self._others = MemoryCache(settings.cache_bytes_max - self._values.bytes_max)
        self.store = RememberedStore(redis, self._values, self._clock, ttl_us=settings.cache_features_s * SECOND_US)
        self._connection: RedisConnection | None = None
        self._shared: SharedLevel | None = None
        if settings.cache == "shared":
            # A connection of its own: a reading of features does not wait behind what is shared.
            self._connection = RedisConnection(RedisAddress.parse(settings.cache_redis_url or online_url))
            self._shared = SharedLevel(self._connection.execute)
        self._predictions = self._cache("predictions", settings.cache_predictions_s)
        self._model = self._cache("model", settings.cache_model_s)
        self._status = self._cache("status", settings.cache_status_s)
        self._counter = PopularityCounter(max(settings.cache_warm_entities, _COUNTED_MIN))
        self._popular = SharedLevel((self._connection or redis).execute, timeout_s=1.0)
        self._engine: Engine | None = None
        self._told: DeploymentStatus | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._warming: asyncio.Task[None] | None = None

    def _cache(self, name: str, seconds: int) -> TwoLevelCache:
        policy = CachePolicy(name, seconds * SECOND_US, compress_above_bytes=self._settings.cache_compress_above_bytes)
        return TwoLevelCache(policy, self._others, self._shared, project=self._settings.project)

    async def start(self) -> None:
        """Connect to what is shared; without it the server works on its own."""
        if self._connection is not None and not await self._connection.start():
            logger.warning("the shared cache is away: this server remembers for itself until it is back")

    def deploy(self, plan: ServingPlan, model: Model) -> Engine:
        """An engine over these caches, which hold nothing of another version; what is popular is asked for in the background."""
        version = plan.bundle_sha256
        self._model.use_version(version)
        self._status.use_version(version)
        self._engine = Engine(plan, model, self.store, PredictionCache(plan, self._predictions))
        for task in self._tasks:
            task.cancel()
        self.warm()
        self._tasks = [
            asyncio.create_task(self._keep_counts(plan), name="popular entities"),
            asyncio.create_task(self._watch(plan), name="deployment status"),
        ]
        return self._engine

    async def close(self) -> None:
        """Leave what was counted to the next server, and stop."""
        tasks = [*self._tasks, *([] if self._warming is None else [self._warming])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._engine is not None:
            await self._share_counts(self._engine.plan)
        for cache in (self._predictions, self._model, self._status):
            await cache.drain()
        if self._connection is not None:
            await self._connection.close()

    def warm(self) -> None:
        """Ask, in the background, for what is popular: after a deployment, and when Redis is back and nothing is known of it."""
        if self._engine is not None:
            if self._warming is not None:
                self._warming.cancel()
            self._warming = asyncio.create_task(self._warm(self._engine), name="warm the caches")

    def count(self, request: PredictRequest) -> None:
        """Take note of whom a request asks for."""
        for entity in request.entities:
            self._counter.add(entity.symbol)

    async def description(self, describe: Callable[[], bytes]) -> bytes:
        """What `describe` gives for the deployed bundle."""

        async def compute() -> Value:
            return Value(describe())

        return await self._model.get_or_compute(b"description", self._wall.now_us(), compute)

    async def status(self) -> DeploymentStatus | None:
        """What the registry says about the deployed bundle; ``None`` if it cannot be asked."""
        engine = self._engine
        if engine is None:
            return None

        async def compute() -> Value:
            status = await asyncio.to_thread(ask_status, self._settings, self._reference, engine.plan)
            return Value(status.encode())

        try:
            data = await self._status.get_or_compute(self._reference.encode(), self._wall.now_us(), compute)
        except (TapelineError, psycopg.Error) as error:
            logger.debug("the deployment's status is not known: %s", error)
            return None
        return DeploymentStatus.decode(data)

    def metrics(self) -> Iterator[Metric]:
        """Metric families of all caches."""
        caches = [
            self.store.statistics,
            *(cache.statistics for cache in (self._predictions, self._model, self._status)),
        ]
        yield from cache_metrics(caches, {"features": self._values, "others": self._others}, self._shared)

    def gauges(self) -> dict[str, float]:
        """What is known of the deployment: whether its name still means it, and whether it may be used."""
        if self._told is None or self._engine is None:
            return {}
        return {
            "deployment_current": float(self._told.bundle_sha256 == self._engine.plan.bundle_sha256),
            "deployment_usable": float(self._told.fault is None),
        }

    async def _warm(self, engine: Engine) -> None:
        begin = time.monotonic()
        names = await read_popular(self._popular, self._popular_key(engine.plan), self._settings.cache_warm_entities)
        symbols = [name for name in names if is_symbol(name)]
        try:
            for first in range(0, len(symbols), WARM_AT_ONCE):
                entities = [EntityRequest(symbol) for symbol in symbols[first : first + WARM_AT_ONCE]]
                request = PredictRequest(entities, "", self._clock.now_us(), self._wall.now_us())
                with engine.begin(request) as reading:
                    await engine.predict(request, reading)
                await asyncio.sleep(WARM_PAUSE_S)
        except TapelineError as error:
            logger.warning("the caches are not warm: %s", error)
        else:
            if symbols:
                logger.info("%d popular entities are warm after %.1f s", len(symbols), time.monotonic() - begin)

    async def _keep_counts(self, plan: ServingPlan) -> None:
        while True:
            await asyncio.sleep(SHARE_POPULAR_S)
            await self._share_counts(plan)

    async def _share_counts(self, plan: ServingPlan) -> None:
        counts = self._counter.take()
        await share_popular(self._popular, self._popular_key(plan), counts, keep=self._counter.capacity)

    def _popular_key(self, plan: ServingPlan) -> bytes:
        # Of the model, not of its version: a new version is asked for the same entities.
        return f"tl:{self._settings.project}:cache:popular:{plan.manifest.model}".encode()

    async def _watch(self, plan: ServingPlan) -> None:
        while True:
            status = await self.status()
            if status is not None and status != self._told:
                self._told = status
                if status.bundle_sha256 not in (None, plan.bundle_sha256):
                    logger.warning("%s is version %s now: restart to serve it", self._reference, status.version)
                if status.fault is not None:
                    logger.warning("what is served could not be deployed again: %s", status.fault)
            await asyncio.sleep(self._settings.cache_status_s / 4)
