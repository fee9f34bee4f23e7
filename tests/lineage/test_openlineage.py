"""OpenLineage events: what a real receiver gets of real commands, and that telling never harms the job."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attr
import psycopg
import pytest
from tapeline import datasets
from tapeline.core.errors import ConfigurationError, MissingExtraError, UnknownNameError
from tapeline.core.settings import Settings
from tapeline.lineage import record_source
from tapeline.lineage.openlineage import (
    backfill_datasets,
    deploy_datasets,
    export_datasets,
    ingest_datasets,
    job_run,
    materialize_datasets,
    train_datasets,
)
from tapeline.lineage.openlineage import run as run_module

from tests.datasets.market import PLAN, open_market
from tests.registry.bundles import make_manifest

openlineage = pytest.importorskip("openlineage.client.event_v2")


class Receiver(ThreadingHTTPServer):
    """Takes events as a catalogue does; answers late, badly or not at all when asked to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events: list[tuple[str, dict[str, Any], str | None]] = []
        self.status, self.wait_s = 201, 0.0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.events.append((self.path, json.loads(body), self.headers.get("Authorization")))
        time.sleep(self.server.wait_s)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def told(settings: Settings, receiver: Receiver, **more: Any) -> Settings:
    return settings.replaced(openlineage="http", openlineage_target=receiver.address, **more)


def check_event(event: dict[str, Any]) -> None:
    """By the client's own generated classes, which check types of identities, times and addresses, and refuse strangers."""
    kinds = {
        name: kind
        for module in vars(__import__("openlineage.client.facet_v2", fromlist=["x"])).values()
        if hasattr(module, "__file__")
        for name, kind in vars(module).items()
        if isinstance(kind, type) and attr.has(kind)
    }

    def facets(given: dict[str, Any]) -> dict[str, Any]:
        made = {}
        for name, content in given.items():
            title = content["_schemaURL"].rpartition("/")[2]
            fields = {k: v for k, v in content.items() if k != "_schemaURL"}
            made[name] = kinds[title](**{k.removeprefix("_"): v for k, v in fields.items()})
            assert content["_producer"].startswith("urn:tapeline:")
        return made

    openlineage.RunEvent(
        eventTime=event["eventTime"],
        producer=event["producer"],
        eventType=openlineage.RunState[event["eventType"]],
        run=openlineage.Run(event["run"]["runId"], facets=facets(event["run"]["facets"])),
        job=openlineage.Job(event["job"]["namespace"], event["job"]["name"], facets=facets(event["job"]["facets"])),
        inputs=[
            openlineage.InputDataset(d["namespace"], d["name"], facets=facets(d["facets"])) for d in event["inputs"]
        ],
        outputs=[
            openlineage.OutputDataset(
                d["namespace"], d["name"], facets=facets(d["facets"]), outputFacets=facets(d.get("outputFacets", {}))
            )
            for d in event["outputs"]
        ],
    )
    assert event["schemaURL"].startswith("https://openlineage.io/spec/")


def test_an_export_told_to_a_receiver(
    connection: psycopg.Connection, settings: Settings, receiver: Receiver, tmp_path: Path
) -> None:
    open_market(connection)
    with job_run("export.tiny_model", told(settings, receiver, openlineage_api_key="secret")) as run:
        manifest = datasets.export(connection, PLAN, datasets.Generated(), tmp_path / "set", labels="direction:5d")
        run.describe(lambda: export_datasets(connection, manifest.model_dump(mode="json"), tmp_path / "set"))
    paths, events, keys = zip(*receiver.events, strict=True)
    assert set(paths) == {"/api/v1/lineage"}
    assert set(keys) == {"Bearer secret"}
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
    assert len({event["run"]["runId"] for event in events}) == 1
    for event in events:
        check_event(event)
    last = events[-1]
    (output,) = last["outputs"]
    assert output["name"] == str(tmp_path / "set")
    assert output["facets"]["version"]["datasetVersion"] == manifest.content_sha256
    assert {field["name"] for field in output["facets"]["schema"]["fields"]} == {c.name for c in manifest.columns}
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == manifest.row_count
    columns = output["facets"]["columnLineage"]["fields"]
    assert columns.keys() == {"sma_3", "rsi_4", "label", "label_return", "label_end_timestamp"}
    (source,) = columns["rsi_4"]["inputFields"]
    assert (source["name"].rpartition(".")[2], source["field"]) == ("tiny__v1", "rsi_4")
    assert {part["field"] for part in columns["label"]["inputFields"]} == {"close", "ratio"}
    known = {(d["namespace"], d["name"]) for d in last["inputs"]}
    used = {(part["namespace"], part["name"]) for field in columns.values() for part in field["inputFields"]}
    assert used <= known
    assert all(d["facets"]["dataSource"]["name"].startswith("postgres://") for d in last["inputs"])


def test_a_backfill_is_told_column_by_column(
    connection: psycopg.Connection, settings: Settings, receiver: Receiver, tmp_path: Path
) -> None:
    open_market(connection)
    record_source(connection, "us-daily", "bars", "XNYS")
    datasets.export(connection, PLAN, datasets.Generated(), tmp_path / "set")  # records the view
    with job_run("backfill.tiny@1", told(settings, receiver)) as run:
        run.describe(lambda: backfill_datasets(connection, "tiny", 1, rows=7))
    event = receiver.events[-1][1]
    check_event(event)
    (output,) = event["outputs"]
    fields = output["facets"]["columnLineage"]["fields"]
    assert {name: {part["field"] for part in field["inputFields"]} for name, field in fields.items()} == {
        "sma_3": {"close", "ratio"},
        "rsi_4": {"close", "ratio"},
    }
    how = {step["description"] for part in fields["rsi_4"]["inputFields"] for step in part["transformations"]}
    assert how == {"RSI(timeperiod=4)"}
    assert {d["name"].partition(".")[2] for d in event["inputs"]} == {"tapeline.bars", "tapeline.corporate_actions"}


def test_every_other_job_has_its_events(
    connection: psycopg.Connection, settings: Settings, receiver: Receiver, tmp_path: Path
) -> None:
    open_market(connection)
    settings = told(settings, receiver)
    manifest = make_manifest().model_dump(mode="json")
    described = {
        "ingest.us-daily": lambda: ingest_datasets(connection, "us-daily", "bars", "us-daily", rows=3),
        "ingest.file": lambda: ingest_datasets(connection, tmp_path / "x.csv", "actions", "mine"),
        "train.daily": lambda: train_datasets(tmp_path, manifest, "a" * 64, settings),
        "deploy.daily@champion": lambda: deploy_datasets(settings, "daily", "1.0.0", "champion", "a" * 64),
        "materialize.tiny@1": lambda: materialize_datasets(connection, settings, "tiny", 1, "features.tiny__v1"),
    }
    for job, datasets_of in described.items():
        with job_run(job, settings) as run:
            run.describe(datasets_of)
        event = receiver.events[-1][1]
        check_event(event)
        assert (event["job"]["name"], event["eventType"]) == (job, "COMPLETE")
        assert event["inputs"]
        assert event["outputs"]
    online = receiver.events[-1][1]["outputs"][0]
    assert online["facets"]["columnLineage"]["fields"].keys() == {"symbol", "sma_3", "rsi_4"}
    assert online["namespace"].startswith("redis://")


def test_a_failure_is_told_with_its_message(settings: Settings, receiver: Receiver) -> None:
    with pytest.raises(UnknownNameError), job_run("export.nothing", told(settings, receiver)):
        raise UnknownNameError("feature service", "nothing", ["something"])
    events = [event for _, event, _ in receiver.events]
    assert [event["eventType"] for event in events] == ["START", "FAIL"]
    check_event(events[-1])
    assert "unknown feature service 'nothing'" in events[-1]["run"]["facets"]["errorMessage"]["message"]


def test_events_go_to_a_file_one_a_line(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    settings = settings.replaced(openlineage="file", openlineage_target=str(file))
    for job in ("ingest.a", "ingest.b"):
        with job_run(job, settings):
            pass
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(e["job"]["name"], e["eventType"]) for e in events] == [
        ("ingest.a", "START"), ("ingest.a", "COMPLETE"), ("ingest.b", "START"), ("ingest.b", "COMPLETE"),
    ]  # fmt: skip


@pytest.mark.parametrize("trouble", ["refused", "error", "slow", "undescribed", "no folder"])
def test_telling_never_fails_the_job_nor_holds_it_up(
    settings: Settings, receiver: Receiver, trouble: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    settings = told(settings, receiver, openlineage_timeout_ms=200)
    if trouble == "refused":
        settings = settings.replaced(openlineage_target="http://127.0.0.1:9")
    elif trouble == "error":
        receiver.status = 500
    elif trouble == "slow":
        receiver.wait_s = 3.0
    elif trouble == "no folder":
        settings = settings.replaced(openlineage="file", openlineage_target=str(tmp_path / "none" / "events"))
    begun, done = time.perf_counter(), False
    with caplog.at_level(logging.WARNING, logger="tapeline.lineage"), job_run("export.x", settings) as run:
        if trouble == "undescribed":
            run.describe(lambda: 1 / 0)
        done = True
    assert done
    assert time.perf_counter() - begun < 2.5
    assert "export.x" in caplog.text


def test_wrong_settings_are_refused_before_anything_is_done(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ({"openlineage": "http"}, {"openlineage": "http", "openlineage_target": "not an address"}):
        with pytest.raises(ConfigurationError, match="openlineage_target"), job_run("x.y", settings.replaced(**wrong)):
            pytest.fail("it began")
    monkeypatch.setattr(run_module.importlib.util, "find_spec", lambda _: None)
    with (
        pytest.raises(MissingExtraError, match=r"tapeline\[lineage\]"),
        job_run("x.y", settings.replaced(openlineage="http", openlineage_target="http://127.0.0.1:1")),
    ):
        pytest.fail("it began")
    with job_run("x.y", settings):  # nothing is told by default, and nothing needed
        pass
