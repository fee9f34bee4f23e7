"""Malformed requests, limits, and what a server says about itself."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tapeline.core import errors
from tapeline_client import InvalidRequestError, LimitError, LiveRows, UnknownModelError
from tapeline_client._generated import serving_pb2 as pb
from tapeline_client.client import _predictions
from tapeline_client.errors import from_rpc
from tapeline_serving.transport.errors import STATUS_CODES, status_code

from tests.serving import world
from tests.serving.conftest import Served

NOW = world.NOW_US


def call(served: Served, request: pb.PredictRequest):
    try:
        return _predictions(served.client._predict(request, timeout=5))
    except grpc.RpcError as error:
        raise from_rpc(error, served.client.target) from None


def bars(**columns) -> pb.PredictRequest:
    good = {"event_us": [NOW], "open": [2.0], "high": [3.0], "low": [1.0], "close": [2.0], "volume": [5.0]}
    return pb.PredictRequest(entities=[pb.EntityInput(symbol="AAA", bars=pb.BarColumns(**(good | columns)))])


def two(**columns) -> pb.PredictRequest:
    doubled = {name: [2.0, 2.0] for name in world.BARS}
    return bars(**({"event_us": [NOW - 2, NOW - 1]} | doubled | columns))


def trades(**columns) -> pb.PredictRequest:
    good = {"event_us": [NOW - 1, NOW], "sequence": [1, 2], "price": [2.0, 2.0], "size": [1.0, 1.0]}
    return pb.PredictRequest(entities=[pb.EntityInput(symbol="AAA", trades=pb.TradeColumns(**(good | columns)))])


MALFORMED = {
    "no entities": (pb.PredictRequest(), "names no entities"),
    "no symbol": (pb.PredictRequest(entities=[pb.EntityInput()]), "entity has no symbol"),
    "long symbol": (pb.PredictRequest(entities=[pb.EntityInput(symbol="A" * 129)]), "is no symbol .*entity 0"),
    "unprintable symbol": (pb.PredictRequest(entities=[pb.EntityInput(symbol="A\x00")]), "is no symbol .*entity 0"),
    "twice": (pb.PredictRequest(entities=[pb.EntityInput(symbol="A"), pb.EntityInput(symbol="A")]), "named twice"),
    "request id": (pb.PredictRequest(entities=[pb.EntityInput(symbol="A")], request_id="7"), "not a UUID"),
    "short column": (bars(close=[]), "column close has 0 rows where event_us has 1"),
    "no event": (bars(event_us=[]), "event_us is missing"),
    "high < low": (bars(high=[0.5], low=[1.0]), "high < low .bars of AAA, row 0"),
    "close outside": (bars(close=[3.5]), "close lies outside low..high"),
    "future": (bars(event_us=[NOW + 1]), "after the server's clock"),
    "published in the future": (bars(available_us=[NOW + 1]), "after the server's clock"),
    "published before": (bars(available_us=[NOW - 1]), "available before it happened"),
    "starts late": (bars(start_us=[NOW]), "ends before it starts"),
    "split": (bars(split_ratio=[0.0]), "impossible split_ratio"),
    "bars backwards": (two(event_us=[NOW, NOW - 1]), "time going backwards .bars of AAA, row 1"),
    "trades backwards": (trades(event_us=[NOW, NOW - 1]), "time going backwards"),
    "sequence backwards": (trades(sequence=[2, 1]), "sequence going backwards"),
    "sequence short": (trades(sequence=[2]), "column sequence has 1 rows"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_say_what_and_where(served: Served, name: str) -> None:
    request, message = MALFORMED[name]
    with pytest.raises(InvalidRequestError, match=message):
        call(served, request)


def test_impossible_trade(served: Served) -> None:
    history = world.trade_history(6, 900)
    world.put_trades(served.store, "tapeline", "AAA", history, 800)
    sequence = [int(history.sequence[800]), int(history.sequence[801])]
    with pytest.raises(InvalidRequestError, match="is no trade"):
        call(served, trades(sequence=sequence, price=[2.0, -1.0]))


def test_limits(served: Served) -> None:
    many = pb.PredictRequest(entities=[pb.EntityInput(symbol=f"S{i}") for i in range(51)])
    with pytest.raises(LimitError, match="names 51 entities; at most 50"):
        call(served, many)
    count = 501
    with pytest.raises(LimitError, match="more than 500 live rows"):
        call(served, trades(event_us=[NOW] * count, sequence=range(count), price=[1.0] * count, size=[1.0] * count))
    with pytest.raises(LimitError, match="larger than max"):
        call(served, pb.PredictRequest(entities=[pb.EntityInput(symbol="S" * 70_000)]))


def test_other_models_are_not_found(served: Served) -> None:
    for model in ("other", "small@2.0.0"):
        with pytest.raises(UnknownModelError, match="unknown model"):
            served.client.predict(["AAA"], model=model)
    assert served.client.predict(["AAA"], model="small@1.0.0")


def test_model_info(served: Served) -> None:
    info = served.client.model_info()
    assert (info.model, info.version, info.bundle_sha256) == ("small", "1.0.0", served.bundle_sha256)
    assert info.features[0] == ("daily_small", 1, "sma_5")
    assert [view.live_rows for view in info.views] == [LiveRows.BARS, LiveRows.TRADES]
    assert info.views[0].plan_hash == world.DAILY.plan.hash
    assert info.views[1].ttl_us == world.INTRADAY.ttl_us
    assert info.outputs == ("probability", "score")
    assert info.label == {"spec": "direction:5d"}
    assert (info.request_bytes_max, info.entities_max, info.live_rows_max) == (65536, 50, 500)
    assert (info.clock_us, info.replay) == (NOW, True)


def test_health_and_reflection(served: Served) -> None:
    with grpc.insecure_channel(served.server.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "tapeline.serving.v1.InferenceService"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == 1
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        [answer] = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = {service.name for service in answer.list_services_response.service}
    assert {"tapeline.serving.v1.InferenceService", "grpc.health.v1.Health"} <= names


def test_every_error_has_a_status_code() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.TapelineError)]
    assert set(classes) == set(STATUS_CODES)
    assert status_code(errors.ContinuityError("gap")) is grpc.StatusCode.FAILED_PRECONDITION

    class Special(errors.LimitError):
        pass

    assert status_code(Special("much")) is grpc.StatusCode.RESOURCE_EXHAUSTED
