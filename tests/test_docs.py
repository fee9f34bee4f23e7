"""What the documentation says exists: links, commands with their options, imports, settings, statuses and causes."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import textwrap
from collections.abc import Iterable
from pathlib import Path

import pytest
import typer
from tapeline.cli import build_app
from tapeline.core.settings import Settings
from tapeline.monitoring.consistency import Cause
from tapeline_client import EntityStatus, FeatureStatus

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
INLINE = re.compile(r"`(tapeline [^`]+)`")
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


def prose(text: str) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, made as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in HEADING.findall(prose(text))
    }


def command_lines(text: str) -> list[str]:
    """``tapeline`` commands that a page shows: after a prompt in console blocks, and between backticks."""
    found = [" ".join(line.split()) for line in INLINE.findall(prose(text))]
    for _, language, block in FENCE.findall(text):
        if language == "console":
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith("$ "):
                    words = line.strip().removeprefix("$ ")
                    while ASSIGNMENT.match(words):
                        words = words.partition(" ")[2]
                    found.append(words)
    return [line for line in found if line.startswith("tapeline ") and "…" not in line]


def fault_of(line: str) -> str | None:
    """What is wrong with a command line; none: its command and all its options exist, and none that it needs is missing."""
    command = typer.main.get_command(build_app())
    name, *words = shlex.split(line, comments=True)
    words = [word for word in words if word != "&"]
    while True:
        context = typer.Context(command, info_name=name)
        try:
            given, rest, _ = command.make_parser(context).parse_args(list(words))
        except Exception as error:  # noqa: BLE001  click's and typer's own errors have no common base
            return f"{line}: {error}"
        subcommands = getattr(command, "commands", None)
        if subcommands is None:
            missing = [
                p.name for p in command.params if p.required and p.name not in given and p.param_type_name == "option"
            ]
            return f"{line}: needs {missing}" if missing else None
        if not rest:
            return None
        if rest[0] not in subcommands:
            return f"{line}: there is no command {rest[0]}"
        name, *words = rest
        command = subcommands[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(prose(text)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(page: Path) -> None:
    lines = command_lines(page.read_text(encoding="utf-8"))
    assert lines or page.parent.name != "how-to", "a how-to shows commands"
    assert [fault for line in lines if (fault := fault_of(line))] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tapeline upp", "no command upp"),
        ("tapeline models promote x", "no command promote"),
        ("tapeline verify --when 2013", "No such option"),
        ("tapeline export --service s", "needs"),
    ],
)
def test_a_wrong_command_line_is_found(line: str, words: str) -> None:
    fault = fault_of(line)
    assert fault is not None
    assert words in fault


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_is_valid_and_imports_what_exists(page: Path) -> None:
    for _, language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            for node in ast.walk(ast.parse(textwrap.dedent(block))):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tapeline"):
                    module = importlib.import_module(node.module)
                    assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], node.module


def listed(page: str) -> set[str]:
    """First cells of a page's table rows."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        ("how-to/settings.md", [f"TAPELINE_{name.upper()}" for name in Settings.model_fields]),
        ("how-to/application.md", [status.name for status in EntityStatus]),
        ("how-to/application.md", [status.name for status in FeatureStatus]),
        ("how-to/application.md", [cause.value for cause in Cause]),
    ],
    ids=["settings", "entity statuses", "feature statuses", "causes"],
)
def test_tables_are_complete(page: str, wanted: Iterable[str]) -> None:
    assert set(wanted) - {"OK"} <= listed(page)


def test_settings_that_are_shown_exist() -> None:
    known = {f"TAPELINE_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in listed("how-to/settings.md") if name.startswith("TAPELINE_")} == known
