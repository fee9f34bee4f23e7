"""Lineage in the database: recorded with what is registered, once, whole, by several at once; walked both ways."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import psycopg
import pytest
from tapeline import datasets
from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.core.timestamps import DAY_US, to_us
from tapeline.datasets.plan import RetrievalPlan, ViewSelection
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.lineage import (
    Edge,
    Key,
    OnDemandView,
    find_node,
    read_lineage,
    record_all,
    record_dataset,
    record_service,
    record_source,
    record_view,
)
from tapeline.lineage.consumers import service_graph, service_name
from tapeline.lineage.graph import Graph
from tapeline.lineage.recording import record
from tapeline.lineage.views import view_graph
from tapeline.registry import FeatureReference, Registry, ViewReference
from tapeline.storage.feature_tables import register_view
from tapeline.storage.migrations import migrate

from tests.datasets.market import PLAN, SPEC, open_market
from tests.registry.bundles import make_bundle

PLACE = "tiny@1"


def everything(connection: psycopg.Connection) -> tuple[set, set]:
    nodes = connection.execute("SELECT kind, name FROM tapeline.lineage_nodes").fetchall()
    edges = connection.execute(
        "SELECT upstream_kind, upstream_name, downstream_kind, downstream_name, role FROM tapeline.lineage_edges"
    ).fetchall()
    connection.rollback()
    return set(nodes), set(edges)


def exported(connection: psycopg.Connection, folder: Path) -> datasets.DatasetManifest:
    return datasets.export(connection, PLAN, datasets.Generated(), folder / "set", labels="direction:5d")


def registered(
    connection: psycopg.Connection, folder: Path, dataset: str, name: str = "bundle", **changes: object
) -> str:
    row = connection.execute(
        "SELECT plan_hash, lineage_hash, definition FROM tapeline.feature_view_versions"
    ).fetchone()
    connection.rollback()
    view = ViewReference(
        view="tiny", version=1, plan_hash=row[0], lineage_hash=row[1], ttl_us=DAY_US, definition=row[2]
    )
    features = [FeatureReference(view="tiny", version=1, name=column) for column in SPEC.columns]
    make_bundle(folder / name, features=features, views=[view], dataset_sha256=dataset, service="tiny_model", **changes)
    record = Registry(connection, folder / "artifacts").register(folder / name, aliases=["champion"])
    return f"{record.model}@{record.version}"


def served(connection: psycopg.Connection, model: str, request: str) -> None:
    name, _, version = model.partition("@")
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.served_vectors (request_id, entity, model, model_version, bundle_sha256,"
            " served_timestamp, request_timestamp, vector, statuses, prediction, views)"
            " VALUES (%s, 'AAA', %s, %s, 'b', now(), now(), '', '', '{0.5}', '[]')",
            (request, name, version),
        )


REQUEST = "8a3f8b1e-4b42-4e6b-9a59-51b6d1f7a0c1"


@pytest.fixture
def world(connection: psycopg.Connection, tmp_path: Path) -> tuple[str, str]:
    """Market, data set, model, prediction: the data set's SHA-256 and the model."""
    open_market(connection)
    record_source(connection, "us-daily", "bars", "XNYS")
    manifest = exported(connection, tmp_path)
    model = registered(connection, tmp_path, manifest.content_sha256)
    served(connection, model, REQUEST)
    return manifest.content_sha256, model


def test_from_a_prediction_to_source_columns_nothing_is_missing_and_nothing_invented(
    connection: psycopg.Connection, world: tuple[str, str]
) -> None:
    sha256, model = world
    service = Key("service", service_name(json.loads(json.dumps(PLAN.to_dict()))))
    dataset, prediction = Key("dataset", sha256), Key("prediction", REQUEST)
    close, ratio = Key("column", "us-daily.close"), Key("column", "corporate_actions.ratio")
    time, calendar = Key("column", "us-daily.event_timestamp"), Key("calendar", "XNYS")
    bars, actions, source = (
        Key("table", "tapeline.bars[us-daily]"),
        Key("table", "tapeline.corporate_actions"),
        Key("source", "us-daily"),
    )
    expected = {
        Edge(Key("model", model), prediction, "served"),
        Edge(dataset, Key("model", model), "trained"),
        Edge(service, dataset, "exported"),
        Edge(Key("view", PLACE), service, "selected"),
        Edge(Key("view", PLACE), Key("model", model), "read"),
        *(Edge(key, dataset, "label") for key in (close, ratio, time, calendar)),
        *(Edge(bars, column, "holds") for column in (close, time)),
        Edge(actions, ratio, "holds"),
        Edge(source, bars, "delivers"),
        Edge(calendar, bars, "indirect"),
    }
    for kernel, column in (("SMA(timeperiod=3)", "sma_3"), ("RSI(timeperiod=4)", "rsi_4")):
        made, feature = Key("kernel", f"{PLACE}/{kernel}"), Key("feature", f"{PLACE}:{column}")
        expected |= {
            Edge(close, made, "value"),
            Edge(ratio, made, "value"),
            Edge(made, feature, "gives"),
            Edge(feature, service, "selected"),
            Edge(feature, Key("model", model), "read"),
        }
    up = read_lineage(connection, prediction, "up")
    assert set(up.up) == expected
    assert up.down == ()
    assert not up.cut
    down = read_lineage(connection, close, "down", predictions_max=3)
    named = {Edge(Key("model", model), Key("deployment", "daily_direction@champion"), "named")}
    below_close = {
        edge for edge in expected
        if edge.downstream.kind not in {"table", "column"} and edge.upstream not in {ratio, time, calendar, Key("view", PLACE)}
    }  # fmt: skip
    parts = {Edge(Key("feature", f"{PLACE}:{column}"), Key("view", PLACE), "part") for column in SPEC.columns}
    assert set(down.down) == below_close | parts | named
    assert set(down.ends("down")) == {Key("view", PLACE), Key("deployment", "daily_direction@champion"), prediction}


def test_recording_what_was_there_before_gives_the_same_graph(
    connection: psycopg.Connection, world: tuple[str, str]
) -> None:
    by_hooks = everything(connection)
    connection.execute("TRUNCATE tapeline.lineage_nodes CASCADE")
    connection.commit()
    report = record_all(connection)
    assert everything(connection) == by_hooks
    assert (report.sources, report.views, report.datasets, report.models, report.left_out) == (1, 1, 1, 1, [])
    again = record_all(connection)
    assert (again.nodes_added, again.edges_added) == (0, 0)


def test_what_is_not_registered_is_not_recorded(connection: psycopg.Connection) -> None:
    open_market(connection)
    before = everything(connection)
    connection.execute("SELECT 1")
    record_dataset(connection, small_manifest())  # in a transaction of the caller's, which then ends otherwise
    connection.rollback()
    assert everything(connection) == before


def small_manifest() -> dict:
    plan = json.loads(json.dumps(PLAN.to_dict()))
    return {
        "plan": plan, "content_sha256": "e" * 64, "service": "tiny_model", "as_of": "2020", "row_count": 1,
        "first_event": "", "last_event": "", "entities": {"description": "given"}, "labels": None,
    }  # fmt: skip


def test_a_view_of_a_feature_that_is_not_installed_is_left_out_and_said(connection: psycopg.Connection) -> None:
    open_market(connection)
    connection.execute(
        "UPDATE tapeline.feature_view_versions SET definition = jsonb_set(definition, '{features,0,name}', '\"gone.FEATURE\"')"
    )
    connection.commit()
    report = record_all(connection)
    assert len(report.left_out) == 1
    assert "tiny@1" in report.left_out[0]
    assert "gone.FEATURE" in report.left_out[0]


def test_recorded_lineage_is_never_changed(connection: psycopg.Connection, world: tuple[str, str]) -> None:
    for statement in (
        "UPDATE tapeline.lineage_edges SET role = 'value'",
        "DELETE FROM tapeline.lineage_nodes",
        "UPDATE tapeline.lineage_descriptions SET attributes = '{}'",
    ):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="never changed"):
            connection.execute(statement)
        connection.rollback()


def test_several_that_register_at_once_wait_and_do_not_deadlock(database: str) -> None:
    specs = [
        FeatureViewSpec(f"view_{n}", 1, SessionBars("s", "XNYS"), (FeatureRequest.of("SMA", timeperiod=5), FeatureRequest.of("ATR")), 0)
        for n in range(6)
    ]  # fmt: skip
    graphs = [view_graph(spec) for spec in specs]
    failures: list[Exception] = []
    start = threading.Barrier(6)

    def register(seed: int) -> None:
        chosen = random.Random(seed).sample(graphs, 5)
        merged = Graph()
        for graph in chosen:
            merged.merge(graph)
        try:
            with psycopg.connect(database) as connection:
                start.wait()
                for _ in range(5):
                    with connection.transaction():
                        record(connection, merged)
                        connection.execute("SELECT pg_sleep(0.01)")
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=register, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    wanted = Graph()
    for seed in range(6):
        for graph in random.Random(seed).sample(graphs, 5):
            wanted.merge(graph)
    with psycopg.connect(database) as connection:
        nodes, edges = everything(connection)
    assert nodes == {(key.kind, key.name) for key in wanted.nodes}
    assert len(edges) == len(wanted.edges)


def test_limits_cut_and_say_so(connection: psycopg.Connection, world: tuple[str, str]) -> None:
    _, model = world
    start = Key("model", model)
    whole = read_lineage(connection, start, "up")
    assert not whole.cut
    one = read_lineage(connection, start, "up", depth_max=1)
    assert one.cut
    assert {edge.downstream for edge in one.up} == {start}
    few = read_lineage(connection, start, "up", rows_max=3)
    assert (few.cut, len(few.up)) == (True, 3)
    assert set(few.up) <= set(whole.up)
    assert not read_lineage(connection, start, "up", depth_max=6).cut
    for wrong in ({"depth_max": 0}, {"depth_max": 33}, {"rows_max": 0}, {"predictions_max": 0}):
        with pytest.raises(ParameterError, match="Give a number from 1"):
            read_lineage(connection, start, **wrong)


def test_only_the_newest_predictions_are_shown(connection: psycopg.Connection, world: tuple[str, str]) -> None:
    _, model = world
    for number in range(5):
        served(connection, model, f"00000000-0000-4000-8000-00000000000{number}")
    found = read_lineage(connection, Key("model", model), "down", predictions_max=2)
    names = {edge.downstream.name[-1] for edge in found.down if edge.downstream.kind == "prediction"}
    assert names == {"4", "3"}


def test_as_of_a_moment_only_what_had_been_recorded_is_seen(
    connection: psycopg.Connection, world: tuple[str, str], tmp_path: Path
) -> None:
    sha256, first = world
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    connection.rollback()
    moment = to_us(row[0])
    second = registered(connection, tmp_path, sha256, "other", weights=(0.1, 0.2))
    assert first != second
    now = read_lineage(connection, Key("dataset", sha256), "down").nodes
    then = read_lineage(connection, Key("dataset", sha256), "down", as_of_us=moment).nodes
    assert {key.name for key in now if key.kind == "model"} == {first, second}
    assert {key.name for key in then if key.kind == "model"} == {first}
    assert Key("deployment", "daily_direction@champion") in then
    with pytest.raises(UnknownNameError):
        find_node(connection, second, as_of_us=moment)
    assert find_node(connection, "daily_direction@champion").name == second
    assert find_node(connection, "daily_direction@champion", as_of_us=moment).name == first
    # The version that it succeeded is named, and not walked through: it may have come from other data.
    up = read_lineage(connection, Key("model", second), "up")
    assert Edge(Key("model", first), Key("model", second), "succeeded") in up.up
    assert not [edge for edge in up.up if edge.downstream == Key("model", first)]


def test_a_view_that_is_come_upon_is_not_walked_through(connection: psycopg.Connection) -> None:
    """A service that takes one feature of a view does not come from what only the others read."""
    spec = FeatureViewSpec("two", 1, SessionBars("s", "XNYS"), (FeatureRequest.of("SMA", timeperiod=5), FeatureRequest.of("OBV")), 0)  # fmt: skip
    register_view(connection, spec)
    record_view(connection, spec)
    plan = RetrievalPlan(
        "one", (ViewSelection("two", 1, "features.two__v1", ("symbol",), ("symbol",), ("sma_5",), ("sma_5",)),)
    )
    record_service(connection, json.loads(json.dumps(plan.to_dict())))
    service = find_node(connection, "service:one")
    columns = {key.name for key in read_lineage(connection, service, "up").nodes if key.kind == "column"}
    assert columns == {"s.close", "corporate_actions.ratio"}
    of_view = read_lineage(connection, Key("view", "two@1"))
    assert {key.name for key in of_view.nodes if key.kind == "column"} == columns | {"s.volume"}
    assert service in of_view.nodes
    assert service not in read_lineage(connection, Key("column", "s.volume"), "down").nodes


def test_a_service_that_changed_is_another_node(connection: psycopg.Connection) -> None:
    def plan(*names: str) -> dict:
        one = ViewSelection("v", 1, "public.v", ("symbol",), ("symbol",), names, names)
        return json.loads(json.dumps(RetrievalPlan("changing", (one,)).to_dict()))

    record_service(connection, plan("a", "b"))
    before = find_node(connection, "service:changing")
    record_service(connection, plan("b"))
    after = find_node(connection, "service:changing")
    assert before != after
    above = {key.name for key in read_lineage(connection, after, "up").nodes if key.kind == "feature"}
    assert above == {"v@1:b"}
    # A view that is not Tapeline's comes from its table's columns.
    columns = {key.name for key in read_lineage(connection, before, "up").nodes if key.kind == "column"}
    assert columns == {"public.v.a", "public.v.b"}


def test_an_on_demand_view_comes_from_features_and_the_request(connection: psycopg.Connection) -> None:
    computed = OnDemandView("odd", 1, "f" * 64, ("v@1:a",), ("last_price.last_price",), ("gap_to_a",))
    one = ViewSelection("v", 1, "public.v", ("symbol",), ("symbol",), ("a",), ("a",))
    plan = json.loads(json.dumps(RetrievalPlan("live", (one,)).to_dict()))
    record_service(connection, plan, [computed])
    found = read_lineage(connection, find_node(connection, "odd@1:gap_to_a"))
    assert {str(key) for key in found.nodes} >= {
        "kernel:odd@1/odd()", "feature:v@1:a", "column:public.v.a", "column:last_price.last_price", "source:last_price",
        "view:odd@1",
    }  # fmt: skip
    assert service_graph(plan).nodes.keys() != service_graph(plan, [computed]).nodes.keys()
    assert {key.kind for key in found.nodes if key.name.startswith("live#")} == {"service"}


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("us-daily.closs", "us-daily.close"),
        ("tiny@1:rsi_5", "tiny@1:rsi_4"),
        ("tiny@2", "tiny@1"),
        ("service:tiny_modl", "service:tiny_model"),
        ("daily_direction@1.0.1", "daily_direction@1.0.0"),
    ],
)
def test_a_wrong_reference_names_the_nearest(
    connection: psycopg.Connection, world: tuple[str, str], wrong: str, nearest: str
) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean .*{nearest}"):
        find_node(connection, wrong)


def test_references(connection: psycopg.Connection, world: tuple[str, str]) -> None:
    sha256, model = world
    assert find_node(connection, f"dataset:{sha256[:10]}") == Key("dataset", sha256)
    assert find_node(connection, "tiny@v1") == Key("view", "tiny@1")
    assert find_node(connection, "us-daily") == Key("source", "us-daily")
    assert find_node(connection, "calendar:XNYS") == Key("calendar", "XNYS")
    assert find_node(connection, model) == Key("model", model)
    assert find_node(connection, f"prediction:{REQUEST}") == Key("prediction", REQUEST)
    with pytest.raises(ParameterError, match="no request id"):
        find_node(connection, "prediction:12")
    with pytest.raises(UnknownNameError):
        find_node(connection, "prediction:00000000-0000-4000-8000-000000000000")
    record_dataset(connection, small_manifest() | {"content_sha256": sha256[:10] + "0" * 54})
    with pytest.raises(ParameterError, match="several data sets"):
        find_node(connection, f"dataset:{sha256[:10]}")


def test_every_edition_records_and_walks(edition_database: tuple[str, str]) -> None:
    with psycopg.connect(edition_database[1]) as connection:
        migrate(connection)
        record_view(connection, SPEC)
        found = read_lineage(connection, Key("column", "us-daily.close"), "down")
        assert {key.name for key in found.nodes if key.kind == "feature"} == {
            f"{PLACE}:{name}" for name in SPEC.columns
        }
        served(connection, "m@1.0.0", REQUEST)
        assert {str(key) for key in read_lineage(connection, Key("prediction", REQUEST), "up").nodes} == {
            f"prediction:{REQUEST}", "model:m@1.0.0",
        }  # fmt: skip
