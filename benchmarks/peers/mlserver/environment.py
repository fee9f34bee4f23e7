"""mlserver in an environment of its own (it needs protobuf < 7), started on an ONNX file."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import grpc

from benchmarks.peers.python import interpreter

HERE = Path(__file__).parent
START_S_MAX = 60.0


def messages() -> ModuleType:
    """The protocol's messages, compiled for the protobuf of this process."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        if protoc.main(["protoc", f"-I{HERE}", f"--python_out={folder}", "open_inference.proto"]) != 0:
            raise RuntimeError("the open inference protocol cannot be compiled")
        spec = importlib.util.spec_from_file_location("open_inference_pb2", Path(folder) / "open_inference_pb2.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@contextmanager
def mlserver(model: Path, folder: Path) -> Iterator[str]:
    """``host:port`` of an mlserver's gRPC that serves ``model`` under the name ``bare``."""
    ports = [_free_port() for _ in range(3)]
    shutil.copy(HERE / "onnx_runtime.py", folder)
    settings = {"host": "127.0.0.1", "debug": False, "parallel_workers": 0, "use_structured_logging": False}
    settings |= dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
    # Access logs and metrics cost it much; a fair peer is configured for speed.
    settings |= {"metrics_endpoint": None, "logging_settings": None}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(
        json.dumps(
            {"name": "bare", "implementation": "onnx_runtime.OnnxModel", "parameters": {"uri": str(model.resolve())}}
        )
    )
    log = folder / "mlserver.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [interpreter(HERE).parent / "mlserver", "start", folder], stdout=output, stderr=output, cwd=folder
        )
    try:
        target = f"127.0.0.1:{ports[1]}"
        with grpc.insecure_channel(target) as channel:
            try:
                grpc.channel_ready_future(channel).result(START_S_MAX)
            except grpc.FutureTimeoutError:
                raise RuntimeError(f"mlserver did not start:\n{log.read_text()[-3000:]}") from None
        time.sleep(1.0)  # the port is open before the model is loaded
        yield target
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
