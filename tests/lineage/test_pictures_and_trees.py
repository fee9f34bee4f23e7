"""What people see of lineage: the layout of a picture, its file, the tree, and the command's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from tapeline.cli import lineage as commands
from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.core.settings import get_settings
from tapeline.features.catalogue import view
from tapeline.lineage import Key, record_view
from tapeline.lineage.layout import LAYER_MAX, Layout, lay_out
from tapeline.lineage.views import view_graph
from typer.testing import CliRunner, Result

from tests.datasets.market import SPEC

CLOSE = Key("column", "us-daily.close")


@pytest.fixture
def run(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TAPELINE_POSTGRES_URL", database)
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path))
    get_settings.cache_clear()
    app = typer.Typer()
    commands.register(app)
    with psycopg.connect(database) as connection:
        record_view(connection, SPEC)

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(app, ["lineage", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    yield invoke
    get_settings.cache_clear()


def crossing_layers(layout: Layout) -> set[tuple[int, int]]:
    return {(layout.boxes[a].layer, layout.boxes[b].layer) for a, b in layout.joins}


@pytest.mark.parametrize("name", ["daily_technical", "intraday_technical"])
def test_a_large_graph_is_laid_out_readably_and_loses_nothing(name: str) -> None:
    graph = view_graph(view(name))
    layout = lay_out(CLOSE, graph.nodes, graph.edges)
    boxed = [key for box in layout.boxes for key in box.nodes]
    assert len(graph.nodes) > 300
    assert sorted(boxed) == sorted(graph.nodes)  # each node in one box
    assert all(later == layer + 1 for layer, later in crossing_layers(layout))
    places = [(box.layer, box.row) for box in layout.boxes]
    assert len(set(places)) == len(places)
    drawn = [box for box in layout.boxes if box.nodes]
    assert max(sum(box.layer == layer for box in drawn) for layer, _ in places) <= LAYER_MAX
    assert all(len({key.kind for key in box.nodes}) == 1 for box in drawn)


def test_what_is_put_together_lies_between_the_same_others() -> None:
    graph = view_graph(view("daily_technical"))
    layout = lay_out(Key("view", "daily_technical@2"), graph.nodes, graph.edges)
    reads = {
        key: {e.upstream for e in graph.edges if e.downstream == key} for key in graph.nodes if key.kind == "kernel"
    }
    for box in layout.boxes:
        if box.nodes and box.nodes[0].kind == "kernel":
            assert len({frozenset(reads[key]) for key in box.nodes}) == 1


def test_a_small_graph_has_a_box_for_each_node() -> None:
    graph = view_graph(SPEC)
    boxes = [box.nodes for box in lay_out(CLOSE, graph.nodes, graph.edges).boxes if box.nodes]
    assert sorted(boxes) == [(key,) for key in sorted(graph.nodes)]


def test_a_tree_shows_each_step(run: Any) -> None:
    lines = run("show", "tiny@1:rsi_4").stdout.splitlines()
    text = "\n".join(line.rstrip() for line in lines)
    assert "feature tiny@1:rsi_4" in lines[0]
    steps = [
        "kernel tiny@1/RSI(timeperiod=4)  source ",
        "column us-daily.close",
        "table tapeline.bars[us-daily]",
        "source us-daily",
    ]
    depths = [next(line.index(step) for line in lines if step in line) for step in steps]
    assert depths == sorted(set(depths))
    assert "in all from corporate_actions.ratio, us-daily.close" in text
    assert "view tiny@1  2 features, lineage " in text
    up = run("show", "tiny@1:rsi_4", "--up").stdout
    assert "led to" not in up
    assert "came from" not in run("show", "tiny@1:rsi_4", "--down").stdout


def test_a_long_list_is_shortened_unless_all_is_asked_for(run: Any, database: str) -> None:
    with psycopg.connect(database) as connection:
        record_view(connection, view("daily_candles"))
    short, whole = (run("show", "daily_candles@1", "--up", *more).stdout for more in ([], ["--all"]))
    assert "… and 55 more of kind feature (--all)" in short
    assert "more of kind" not in whole
    assert whole.count("feature daily_candles@1:") == 61


def test_json_for_scripts(run: Any) -> None:
    found = json.loads(run("show", "us-daily.close", "--down", "--json").stdout)
    assert found["start"] == "column:us-daily.close"
    assert found["leads_to"] == ["view:tiny@1"]
    assert {"from": "column:us-daily.close", "to": "kernel:tiny@1/RSI(timeperiod=4)", "role": "value"} in found[
        "downstream"
    ]
    hashes = {node["attributes"].get("source_hash") for node in found["nodes"] if node["kind"] == "kernel"}
    assert len(hashes) == 2
    assert None not in hashes
    assert not found["cut"]
    assert json.loads(run("show", "us-daily.close", "--depth", "1", "--json").stdout)["cut"]


def test_a_picture_is_one_file_and_whole(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "lineage.html"
    run("show", "tiny@1", "--html", str(file))
    text = file.read_text()
    assert "RSI(timeperiod=4)" in text
    assert 'src="http' not in text
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html" or "lineage" in path.name] == [
        "lineage.html"
    ]
    with pytest.raises(ParameterError, match="cannot be written"):
        run("show", "tiny@1", "--html", str(tmp_path / "none" / "x.html"))


def test_wrong_input_is_refused_in_words(run: Any, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"us-daily\.close"):
        run("show", "us-daily.clos")
    with pytest.raises(ParameterError, match="depth is 0"):
        run("show", "tiny@1", "--depth", "0")
    with pytest.raises(ParameterError, match="Leave one of them out"):
        run("show", "tiny@1", "--json", "--html", str(tmp_path / "x.html"))


def test_recording_by_command_says_what_it_did(run: Any) -> None:
    report = json.loads(run("record", "--json").stdout)
    assert (report["views"], report["nodes_added"], report["left_out"]) == (0, 0, [])
