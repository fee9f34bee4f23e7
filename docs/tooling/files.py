"""All generated files, and which of those in the repository are not what they should be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tapeline.indicators import Indicator, all_indicators

from docs.tooling import market, pages, stub
from docs.tooling.picture import picture

ROOT = Path(__file__).resolve().parents[2]
FEATURES = ROOT / "docs" / "features"
STUB = ROOT / "platform" / "tapeline" / "polars" / "__init__.pyi"

PIXELS = 0.35
"""How far a point of a picture may be from the one drawn anew: logarithms differ in the last digit between machines."""

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def documented() -> tuple[Indicator, ...]:
    """Built-in features, in order of registration."""
    return tuple(indicator for indicator in all_indicators() if indicator.group != "custom")


def generated() -> dict[Path, str]:
    """Path → text of every generated file."""
    features = documented()
    series = market.series(features)
    files = {FEATURES / "README.md": pages.index(features), STUB: stub.text(features)}
    for indicator in features:
        drawn = picture(indicator, series[indicator.name])
        files[FEATURES / pages.path_of(indicator)] = pages.page(indicator, drawn=drawn is not None)
        if drawn is not None:
            files[FEATURES / pages.path_of(indicator, "svg")] = drawn
    return files


def write(files: Mapping[Path, str]) -> tuple[int, int]:
    """Write what changed and remove what no feature has any more; returns how many of each."""
    changed = 0
    for path, text in files.items():
        if path.is_file() and not _differs(path, text):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        changed += 1
    orphans = _present() - set(files)
    for path in orphans:
        path.unlink()
    return changed, len(orphans)


def outdated() -> dict[Path, str]:
    """Path, from the repository's root, → what is wrong with it."""
    files = generated()
    wrong = dict.fromkeys(_present() - set(files), "no feature has it any more")
    for path, text in files.items():
        if not path.is_file():
            wrong[path] = "is missing"
        elif _differs(path, text):
            wrong[path] = "is out of date"
    return {path.relative_to(ROOT): why for path, why in sorted(wrong.items())}


def _present() -> set[Path]:
    return {path for path in FEATURES.rglob("*") if path.suffix in {".md", ".svg"}}


def _differs(path: Path, text: str) -> bool:
    """Pictures are compared point by point, everything else letter by letter."""
    found = path.read_text(encoding="utf-8")
    if path.suffix != ".svg":
        return found != text
    if _NUMBER.sub("#", found) != _NUMBER.sub("#", text):
        return True
    pairs = zip(_NUMBER.findall(found), _NUMBER.findall(text), strict=True)
    return any(abs(float(one) - float(other)) > PIXELS for one, other in pairs)
