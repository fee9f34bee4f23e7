"""How long does a prediction take on our server, and on mlserver with the same model and nothing else?

Ours reads the entity's kernel state from Redis, continues it with the newest bar of the request (all indicators of
``daily_technical``), runs the trees on those that the daily model takes, and logs the vector. The peer is given a finished vector and runs the trees. Both are
asked by the same kind of native gRPC client, in turn.
"""

from __future__ import annotations

import ast
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import lightgbm
import numpy as np
import psycopg
import redis
from tapeline.core.settings import Settings
from tapeline.export import Knots, build_graph, compiled_forest, tree_arrays
from tapeline.features.catalogue import view
from tapeline.registry import Registry, write_bundle
from tapeline.registry.forest import FOREST_NAME
from tapeline.storage.migrations import migrate
from tapeline_client._generated import serving_pb2 as pb

from benchmarks.harness import Result, absolute, compare
from benchmarks.peers.mlserver.environment import messages, mlserver
from tests.registry.bundles import make_sample
from tests.serving import world
from tests.support.session import SessionServers

GROUP = "walk"
PEER = "mlserver, bare ONNX model"
SYMBOLS, ROWS = 64, 300
TREES, LEAVES = 200, 31
ROUNDS, CALLS = 20, 150
STARTS = 6
THROUGHPUT_ROUNDS, REQUESTS = 6, 2_000
SPEC = view("daily_technical")
SERVICES = Path(__file__).parents[1] / "feature_repo" / "feature_services.py"


def model_columns() -> list[str]:
    """The columns that the feature repository's daily model takes; read, not imported: Feast takes seconds."""
    for node in ast.parse(SERVICES.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "DAILY":
            return list(ast.literal_eval(node.value))
    raise LookupError(f"{SERVICES} defines no DAILY")


def train(folder: Path, features: np.ndarray) -> tuple[bytes, bytes]:
    """ONNX and compiled form of trees over the view's features, with calibration in the graph, as training exports them."""
    random = np.random.default_rng(5)
    labels = (random.random(len(features)) < 0.5).astype(np.int32)
    parameters = {"objective": "binary", "num_leaves": LEAVES, "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(features, labels), TREES)
    knots = np.linspace(0.05, 0.95, 12)
    trees, calibration = tree_arrays(booster), Knots(knots, knots)
    model = build_graph(feature_count=features.shape[1], core=trees, calibration=calibration)
    (folder / "model.onnx").write_bytes(model)
    return model, compiled_forest(trees, calibration, features.shape[1]).to_bytes()


def prepare(settings: Settings, folder: Path) -> tuple[list[bytes], np.ndarray]:
    """Fill the store, register the model; returns requests for our server and the vectors that they lead to."""
    with psycopg.connect(settings.postgres_url) as connection:
        migrate(connection)
    requests, vectors = [], []
    training = []
    names = model_columns()
    chosen = [SPEC.columns.index(name) for name in names]
    with redis.Redis.from_url(settings.redis_url) as store:
        for number in range(SYMBOLS):
            history = world.bar_history(number, ROWS)
            world.put_bars(store, settings.project, f"S{number}", history, ROWS - 1, SPEC)
            features, _ = history.batch(SPEC, ROWS)
            training.append(features[-100:, chosen])
            vectors.append(features[-1, chosen])
            columns = {name: [float(history.columns[name][-1])] for name in world.BARS}
            bars = pb.BarColumns(event_us=[int(history.event_us[-1])], **columns)
            entity = pb.EntityInput(symbol=f"S{number}", bars=bars)
            requests.append(pb.PredictRequest(entities=[entity]))
    model, forest = train(folder, np.concatenate(training))
    manifest = world.make_manifest([SPEC], "bench")
    wanted = {reference.name: reference for reference in manifest.features}
    manifest = manifest.model_copy(update={"features": tuple(wanted[name] for name in names)})
    bundle = folder / "bundle"
    sample = make_sample(model, len(names))
    write_bundle(bundle, manifest, {"model.onnx": model, "sample.npz": sample.to_bytes(), FOREST_NAME: forest})
    with psycopg.connect(settings.postgres_url) as connection:
        world.register_views(connection, [SPEC])
        Registry(connection, settings.artifacts_path).register(bundle)
    return requests, np.array(vectors)


def latencies(call: Callable[[Any], Any], requests: list[Any]) -> np.ndarray:
    """Microseconds of each call of a round, one after the other."""
    taken = np.empty(CALLS)
    for i in range(CALLS):
        begin = time.perf_counter()
        call(requests[i % len(requests)])
        taken[i] = time.perf_counter() - begin
    return taken * 1e6


async def rate(target: str, method: str, request_type: Any, requests: list[Any], concurrency: int) -> float:
    """Requests per second of a closed loop."""
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary(method, request_type.SerializeToString, lambda data: data)
        await asyncio.gather(*(call(requests[i % len(requests)]) for i in range(concurrency)))
        left = iter(range(REQUESTS))

        async def worker() -> None:
            for i in left:
                await call(requests[i % len(requests)])

        begin = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(concurrency)))
        return REQUESTS / (time.perf_counter() - begin)


def run() -> Iterator[Result]:
    """Latency at concurrency 1, throughput at 16 and 64."""
    v2 = messages()
    ours_method, theirs_method = (
        "/tapeline.serving.v1.InferenceService/Predict",
        "/inference.GRPCInferenceService/ModelInfer",
    )
    servers = SessionServers()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
                admin.execute("CREATE DATABASE bench")
            settings = Settings(home=folder, postgres_url=servers.postgres_url("bench"), redis_url=servers.redis_url(0))
            ours_requests, vectors = prepare(settings, folder)
            tensor = v2.ModelInferRequest.InferInputTensor
            theirs_requests = [
                v2.ModelInferRequest(
                    model_name="bare",
                    inputs=[
                        tensor(
                            name="features",
                            datatype="FP32",
                            shape=[1, len(vector)],
                            contents=v2.InferTensorContents(fp32_contents=vector.astype(np.float32).tolist()),
                        )
                    ],
                )
                for vector in vectors
            ]
            starts = []
            for _ in range(STARTS):  # the first one compiles what is not in the cache yet, and does not count
                with world.running_server(settings, folder, "bench") as server:
                    starts.append(server.ready_s)
            yield absolute(
                "the server is ready after its start, kernels cached",
                ours=starts[1:],
                unit="s",
                at_most=3.0,
                sizes={"starts": STARTS - 1},
            )
            peer_folder = folder / "mlserver"
            peer_folder.mkdir()
            with (
                world.running_server(settings, folder, "bench") as server,
                mlserver(folder / "model.onnx", peer_folder) as peer,
                grpc.insecure_channel(server.target) as ours_channel,
                grpc.insecure_channel(peer) as theirs_channel,
            ):
                ours = ours_channel.unary_unary(
                    ours_method, pb.PredictRequest.SerializeToString, pb.PredictResponse.FromString
                )
                theirs = theirs_channel.unary_unary(
                    theirs_method, v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
                )
                check_equal(ours, theirs, ours_requests, theirs_requests)
                sizes: dict[str, int | float | str] = {
                    "features": vectors.shape[1], "trees": TREES, "leaves": LEAVES, "live_bars": 1, "entities": 1
                }  # fmt: skip
                yield from _latency(ours, theirs, ours_requests, theirs_requests, sizes)
                for concurrency in (16, 64):
                    pairs = [
                        (
                            asyncio.run(
                                rate(server.target, ours_method, pb.PredictRequest, ours_requests, concurrency)
                            ),
                            asyncio.run(rate(peer, theirs_method, v2.ModelInferRequest, theirs_requests, concurrency)),
                        )
                        for _ in range(THROUGHPUT_ROUNDS)
                    ]
                    yield compare(
                        f"Predict with a live bar, {concurrency} requests at once",
                        ours=[pair[0] for pair in pairs],
                        theirs=[pair[1] for pair in pairs],
                        peer=PEER,
                        unit="requests/s",
                        better="higher",
                        goal_ratio=1.0,
                        sizes=sizes,
                        notes="one client process with grpc.aio for both",
                    )
    finally:
        servers.close()


def check_equal(ours: Any, theirs: Any, ours_requests: list[Any], theirs_requests: list[Any]) -> None:
    """Both must give the same probability, or one of them does not do the work."""
    for a, b in zip(ours_requests[:8], theirs_requests[:8], strict=True):
        response = theirs(b)
        if response.raw_output_contents:
            expected = float(np.frombuffer(response.raw_output_contents[0], np.float32)[0])
        else:
            expected = response.outputs[0].contents.fp32_contents[0]
        found = ours(a).predictions[0].outputs["probability"]
        if abs(found - expected) > 1e-6:
            raise AssertionError(f"ours {found}, theirs {expected}")


def _latency(
    ours: Any, theirs: Any, ours_requests: list[Any], theirs_requests: list[Any], sizes: dict[str, int | float | str]
) -> Iterator[Result]:
    rounds: list[tuple[np.ndarray, np.ndarray]] = []
    for number in range(-2, ROUNDS):
        pair = latencies(ours, ours_requests), latencies(theirs, theirs_requests)
        if number >= 0:
            rounds.append(pair)
    for percentile, goal in ((50, 1.0), (99, 1.0)):
        yield compare(
            f"Predict with Redis, on-the-fly features and trees, p{percentile}",
            ours=[float(np.percentile(a, percentile)) for a, _ in rounds],
            theirs=[float(np.percentile(b, percentile)) for _, b in rounds],
            peer=PEER,
            unit="µs",
            better="lower",
            goal_ratio=goal,
            sizes=sizes,
            notes=f"median over {ROUNDS} rounds of {CALLS} calls; all calls: "
            f"ours p50 {statistics.median(np.concatenate([a for a, _ in rounds])):.0f} µs, "
            f"theirs {statistics.median(np.concatenate([b for _, b in rounds])):.0f} µs",
        )
