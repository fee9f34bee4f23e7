"""Every feature has its page and its function in the type stub, and none of them is out of date."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from tapeline.indicators import Indicator, indicator_named
from tapeline.indicators.formula import formula
from tapeline.polars.functions import function_name

from docs.tooling import files, market, pages
from docs.tooling.picture import picture

each = pytest.mark.parametrize("indicator", files.documented(), ids=lambda indicator: indicator.name)
BYTES_MAX = 3_000_000
PICTURE_BYTES_MAX = 16_000


@pytest.mark.slow
def test_all_pages_pictures_and_the_stub_are_current() -> None:
    """If this fails: make docs."""
    assert files.outdated() == {}


@each
def test_every_feature_has_a_page_that_says_all(indicator: Indicator) -> None:
    text = (files.FEATURES / pages.path_of(indicator)).read_text(encoding="utf-8")
    told = [indicator.summary, indicator.source, *formula(indicator).lines, *indicator.columns({})]
    told += [f"`{p.name}`" for p in indicator.parameters] + [f"`{name}`" for name in indicator.inputs]
    told += list(indicator.outputs.values())
    assert [words for words in told if words.replace("|", r"\|") not in text and words not in text] == []
    index = (files.FEATURES / "README.md").read_text(encoding="utf-8")
    assert f"({pages.path_of(indicator)})" in index


def test_every_picture_is_small_and_well_formed() -> None:
    pictures = list(files.FEATURES.rglob("*.svg"))
    assert len(pictures) >= 0.9 * len(files.documented())
    for path in pictures:
        text = path.read_text(encoding="utf-8")
        assert len(text) < PICTURE_BYTES_MAX, path
        assert "nan" not in text.replace("finan", ""), path
        root = ET.fromstring(text)
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert sum(path.stat().st_size for path in files.FEATURES.rglob("*.*")) < BYTES_MAX


def test_the_stub_has_every_function() -> None:
    tree = ast.parse(files.STUB.read_text(encoding="utf-8"))
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert found == {"__getattr__", *(function_name(i) for i in files.documented())}


def test_out_of_date_and_orphaned_pages_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {tmp_path / "features" / "a.md": "new\n", tmp_path / "features" / "b.svg": '<path d="M1 2.0"/>'}
    monkeypatch.setattr(files, "FEATURES", tmp_path / "features")
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setattr(files, "generated", lambda: made)
    assert set(files.outdated().values()) == {"is missing"}
    assert files.write(made) == (2, 0)
    assert files.outdated() == {}
    (tmp_path / "features" / "b.svg").write_text('<path d="M1 2.2"/>')
    assert files.outdated() == {}, "a digit's difference is another machine's logarithm"
    (tmp_path / "features" / "b.svg").write_text('<path d="M1 2.9"/>')
    (tmp_path / "features" / "a.md").write_text("old\n")
    (tmp_path / "features" / "c.md").write_text("gone\n")
    assert files.outdated() == {
        Path("features/a.md"): "is out of date",
        Path("features/b.svg"): "is out of date",
        Path("features/c.md"): "no feature has it any more",
    }
    assert files.write(made) == (2, 1)


def _series(values: np.ndarray) -> market.Series:
    count = len(values)
    return market.Series("made up", np.linspace(10.0, 20.0, count), {"x": values}, [f"day {i}" for i in range(count)])


def _lines(text: str) -> list[list[tuple[float, float]]]:
    paths = re.findall(r'<path d="([^"]*)" fill="none" stroke="#(?!999|ddd)', text)
    points = [re.findall(r"(\d+) (-?\d+\.\d)", part) for path in paths for part in path.split("M")[1:]]
    return [[(float(x), float(y)) for x, y in part] for part in points]


def test_a_picture_shows_the_values() -> None:
    values = np.arange(300.0)
    values[250] = np.nan
    drawn = picture(indicator_named("RSI"), _series(values))
    assert drawn is not None
    before, after = _lines(drawn)
    assert (len(before), len(after)) == (150, 49)  # the last 200 rows, with a gap
    assert before[0] == (62.0, 254.0)
    assert after[-1] == (62.0 + 199 * 3, 144.0)
    assert "day 100</text>" in drawn
    assert "day 299</text>" in drawn


def test_a_picture_of_rare_values_goes_to_where_they_are() -> None:
    rare = np.zeros(1_000)
    rare[400] = 100.0
    drawn = picture(indicator_named("RSI"), _series(rare))
    assert drawn is not None
    assert "day 250</text>" in drawn or "day 251</text>" in drawn
    assert picture(indicator_named("RSI"), _series(np.full(300, np.nan))) is None
