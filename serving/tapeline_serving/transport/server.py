"""The server's life: bind, load, serve, drain."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tapeline.core.errors import ConfigurationError, UnavailableError
from tapeline.core.settings import Settings
from tapeline.storage.postgres import connect
from tapeline.storage.redis import redis_url

from tapeline_serving.engine.engine import Engine
from tapeline_serving.engine.served_log import ServedLog
from tapeline_serving.loading import Deployment, load
from tapeline_serving.metrics import Metrics, serve_metrics
from tapeline_serving.store.address import RedisAddress
from tapeline_serving.store.connection import RedisConnection
from tapeline_serving.transport.servicer import SERVICE, InferenceServicer

if TYPE_CHECKING:
    from tapeline_serving.caching import ServerCaches

logger = logging.getLogger("tapeline.serving")

DRAIN_S = 10.0
"""How long requests in flight may take to finish after SIGTERM."""
FLUSH_S = 10.0
"""How long the log of served vectors may take after that."""
CONCURRENT_REQUESTS_MAX = 4_096
_RETRY_S_MAX = 5.0
_COLLECT_EVERY = 20_000
"""Allocations between two collections: requests leave no cycles behind."""
_SWITCH_S = 0.0005
"""How long the log's thread may keep the interpreter when the event loop wants it; Python's default is ten times that."""


class InferenceServer:
    """One model, one event loop, one port.

    Parameters
    ----------
    settings
        Addresses, limits, the clock.
    reference
        The model: ``name``, ``name@version`` or ``name@alias``.
    metrics_port
        Loopback port for Prometheus; none: no endpoint.
    """

    def __init__(self, settings: Settings, reference: str, *, metrics_port: int | None = None) -> None:
        check_address(settings.serve_host)
        self.port = 0
        self._settings = settings
        self._reference = reference
        self._metrics_port = metrics_port
        self._metrics = Metrics()
        self._log = ServedLog(lambda: connect(settings), waiting_max=settings.served_log_queue_max)
        self._servicer = InferenceServicer(settings, self._metrics, self._log)
        self._health = health.aio.HealthServicer()
        self._redis = RedisConnection(RedisAddress.parse(redis_url(settings)), on_change=self._redis_changed)
        self._caches: ServerCaches | None = None
        if settings.cache != "none":
            from tapeline_serving.caching import ServerCaches

            self._caches = ServerCaches(settings, reference, self._redis, redis_url(settings))
            self._servicer.caches = self._caches
        self._stopping = asyncio.Event()
        self._changes: set[asyncio.Task[None]] = set()

    async def run(self, on_ready: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT, then drain.

        Parameters
        ----------
        on_ready
            Called once, with a line that says what is served where, when the first request can be answered.

        Raises
        ------
        ConfigurationError
            If the port is taken.
        UnavailableError
            If a store is away and `serve_when_store_is_away` says to refuse.
        TapelineError
            If the model cannot be served; see `tapeline_serving.loading.load`.
        """
        begin = time.monotonic()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        server = self._make_server()
        await self._set_health()
        await server.start()
        self._log.start()
        stop_metrics = self._start_metrics()
        try:
            await self._become_ready()
            if not self._stopping.is_set():
                manifest = self._engine.plan.manifest
                on_ready(
                    f"ready: {manifest.model}@{manifest.version} on {self._settings.serve_host}:{self.port}"
                    f" after {time.monotonic() - begin:.1f} s"
                )
                await self._stopping.wait()
        finally:
            await self._drain(server)
            stop_metrics()

    @property
    def _engine(self) -> Engine:
        assert self._servicer.engine is not None
        return self._servicer.engine

    def _make_server(self) -> grpc.aio.Server:
        settings = self._settings
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", settings.request_bytes_max),
                # A second server on a busy port must fail instead of taking half of its connections.
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=CONCURRENT_REQUESTS_MAX,
        )
        server.add_generic_rpc_handlers((self._servicer.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        address = f"{_bracketed(settings.serve_host)}:{settings.serve_port}"
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError:
            raise ConfigurationError(
                f"{address} cannot be bound: another server may listen there",
                where="settings serve_host, serve_port",
                remedy="Choose another port, or 0 for a free one",
            ) from None
        return server

    async def _become_ready(self) -> None:
        refuse = self._settings.serve_when_store_is_away == "refuse"
        connected = await self._redis.start()
        if self._caches is not None:
            await self._caches.start()
        if refuse and not connected:
            raise UnavailableError(
                "Redis is away, and the server is set to refuse to start without it",
                where=str(self._redis.address),
                remedy="Start it (`tapeline up`), or set serve_when_store_is_away to degrade",
            )
        deployment = await self._load(refuse=refuse)
        if deployment is None:
            return
        plan, model = deployment.plan, deployment.model
        caches = self._caches
        self._servicer.engine = Engine(plan, model, self._redis) if caches is None else caches.deploy(plan, model)
        # What is loaded by now stays for good: keep the collector from walking it during requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_EVERY, 20, 50)
        sys.setswitchinterval(_SWITCH_S)
        await self._set_health()
        if not self._redis.is_connected:
            logger.warning("Redis is away: predictions are UNAVAILABLE until it is back")

    async def _load(self, *, refuse: bool) -> Deployment | None:
        """The deployment, waited for if PostgreSQL is away; ``None`` if the server is to stop meanwhile."""
        wait_s = 0.1
        told = ""
        while not self._stopping.is_set():
            try:
                return await asyncio.to_thread(load, self._settings, self._reference)
            except UnavailableError as error:
                if refuse:
                    raise
                if str(error) != told:  # once for each cause, not at every try
                    told = str(error)
                    logger.warning("the model cannot be loaded yet, waiting: %s", told)
            try:
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            except TimeoutError:
                wait_s = min(2 * wait_s, _RETRY_S_MAX)
        return None

    async def _drain(self, server: grpc.aio.Server) -> None:
        await self._health.enter_graceful_shutdown()
        await server.stop(DRAIN_S)
        if self._caches is not None:
            await self._caches.close()
        await self._redis.close()
        await asyncio.to_thread(self._log.close, timeout_s=FLUSH_S)
        logger.info("stopped; %d served vectors logged, %d dropped", self._log.written, self._log.dropped)

    def _redis_changed(self, connected: bool) -> None:
        if self._servicer.engine is not None:
            logger.warning("Redis is %s", "back" if connected else "lost; predictions are UNAVAILABLE")
        if connected and self._caches is not None:
            self._caches.warm()
        task = asyncio.ensure_future(self._set_health())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def _set_health(self) -> None:
        ready = self._servicer.engine is not None and self._redis.is_connected
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self._health.set(service, status)

    def _start_metrics(self) -> Callable[[], None]:
        if self._metrics_port is None:
            return lambda: None
        return serve_metrics(
            self._metrics_port,
            self._metrics,
            lambda: {
                "served_log_written_total": self._log.written,
                "served_log_dropped_total": self._log.dropped,
                "served_log_waiting": self._log.waiting,
                "redis_errors_total": self._redis.errors,
                "redis_connected": float(self._redis.is_connected),
                **(self._caches.gauges() if self._caches is not None else {}),
            },
            self._caches.metrics if self._caches is not None else None,
        )


def check_address(host: str) -> None:
    """Refuse an address that other machines can reach.

    Raises
    ------
    ConfigurationError
        If it is not a loopback address: this server has no authentication and no encryption yet.
    """
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigurationError(
            f"{host} is not a loopback address, and no security is configured",
            where="setting serve_host",
            remedy="Serve on 127.0.0.1 behind a proxy that authenticates and encrypts",
        )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def serve(settings: Settings, reference: str, *, metrics_port: int | None = None) -> None:
    """Run a server in this process until it is told to stop; the line of `on_ready` goes to standard output."""

    def on_ready(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    async def main() -> None:
        await InferenceServer(settings, reference, metrics_port=metrics_port).run(on_ready)

    try:
        import uvloop
    except ModuleNotFoundError:  # Windows
        asyncio.run(main())
    else:
        uvloop.run(main())
