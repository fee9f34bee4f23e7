"""Features of one's own: the cookbook's page does what it says, and what cannot work is refused in words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tapeline.core.errors import ConfigurationError, FeatureCheckError, ParameterError, TapelineError, UnknownNameError
from tapeline.core.settings import get_settings
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.features.testing import check_indicator
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.indicators import all_indicators, indicator_named, specification
from tapeline.indicators.custom import load_feature_module, load_feature_modules

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "custom-features.md").read_text(encoding="utf-8")
MODULE, TEST, USE = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PROGRAM = f"{sys.executable} -c 'from tapeline.cli import main; main()'"
COMMANDS = re.findall(r"^\$ (.*tapeline .*)$", PAGE, re.MULTILINE)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to import modules from; what they register is forgotten afterwards."""
    before, modules = dict(specification._REGISTRY), set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    specification._REGISTRY.clear()
    specification._REGISTRY.update(before)
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
    get_settings.cache_clear()


def _run(words: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), "COLUMNS": "200"} | variables
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_cookbook_is_short() -> None:
    assert len([line for line in MODULE.splitlines() if line.strip()]) <= 20


def test_the_cookbooks_module_test_and_use_run_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "my_features.py").write_text(MODULE)
    assert len(COMMANDS) == 3
    for command in COMMANDS:
        variables = dict(re.findall(r"(\w+)=(\S+) (?=.*tapeline)", command))
        line = f"{PROGRAM} {command.partition('tapeline ')[2]}"
        done = _run(["bash", "-c", line], tmp_path, **variables)
        assert done.returncode == 0, done.stderr
        assert "mine.DRAWDOWN" in done.stdout or "mine__drawdown_10" in done.stdout
    check = (
        "assert result['mine__drawdown_10'].is_finite().sum() == 21\nassert plan.outputs[0] == 'mine__drawdown_10'\n"
    )
    (tmp_path / "use.py").write_text(f"{TEST}\ntest_drawdown()\n{USE}\n{check}")
    done = _run([sys.executable, "use.py"], tmp_path, TAPELINE_FEATURE_MODULES="my_features")
    assert done.returncode == 0, done.stderr


def test_an_entry_point_is_found(tmp_path: Path) -> None:
    (tmp_path / "my_features.py").write_text(MODULE)
    metadata = tmp_path / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[tapeline.features]\nmine = my_features\n")
    done = _run([sys.executable, "-c", "from tapeline.cli import main; main()", "features", "list", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    listed = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert listed["mine.DRAWDOWN"]["group"] == "custom"
    assert listed["mine.DRAWDOWN"]["outputs"] == [{"name": "mine__drawdown_20", "unit": "price", "warm_up": 20}]


def test_the_plans_hash_follows_the_source_of_a_step(registry: Path) -> None:
    helper = "from numba import njit\n\n@njit\ndef twice(x):\n    return x * {}\n"
    module = (
        "import math\nimport helper_{}\nfrom tapeline.indicators.custom import Expression, apply, feature, primitive\n"
        "WEIGHTS = (1.0, {})\n\n@primitive()\ndef step_{}(x):\n    '''A step.'''\n    return helper_{}.twice(x) * WEIGHTS[1]\n\n"
        "@feature('n{}.F', outputs={{'f': 'price'}}, source='here')\n"
        "def f(close: Expression) -> Expression:\n    '''Words.'''\n    return apply(step_{}, close)\n"
    )
    hashes = {}
    for number, (factor, weight) in enumerate([(2.0, 1.0), (3.0, 1.0), (2.0, 5.0)]):
        (registry / f"helper_{number}.py").write_text(helper.format(factor))
        (registry / f"custom_{number}.py").write_text(module.format(number, weight, *[number] * 4))
        load_feature_module(f"custom_{number}", "test")
        plan = FeaturePlan.of([FeatureRequest(f"n{number}.F")])
        from tapeline.features.kernel_source import kernel_sources

        sources = kernel_sources([p.function for p in plan._program.primitives])
        hashes[number] = {name.rpartition(".")[2].rstrip("_012"): text for name, text in sources.items()}
    assert set(hashes[0]) == {"step", "twice", "WEIGHTS"}
    assert hashes[0]["twice"] != hashes[1]["twice"]
    assert hashes[0]["WEIGHTS"] == hashes[1]["WEIGHTS"] != hashes[2]["WEIGHTS"]


GOOD = """
import math
from tapeline.indicators.custom import Expression, apply, feature, primitive
from tapeline.kernels.rolling import lag
SETTINGS = {"a": 1}
"""


@pytest.mark.parametrize(
    ("code", "error", "told"),
    [
        ("@feature('DRAWDOWN', outputs={'a': 'price'}, source='s')\ndef f(close): 'w'; return close", ParameterError, "namespace.NAME"),
        ("@feature('Mine.A', outputs={'a': 'price'}, source='s')\ndef f(close): 'w'; return close", ParameterError, "namespace.NAME"),
        ("@feature('mine.A', outputs={'a__b': 'price'}, source='s')\ndef f(close): 'w'; return close", ParameterError, "output names"),
        ("@feature('mine.A', outputs={}, source='s')\ndef f(close): 'w'; return close", ParameterError, "output names"),
        ("@feature('mine.A', outputs={'a': 'prize'}, source='s')\ndef f(close): 'w'; return close", UnknownNameError, "price"),
        ("@feature('mine.A', outputs={'a': 'price'}, source='s')\ndef f(close): return close", ParameterError, "docstring"),
        ("@feature('mine.A', outputs={'a': 'price'}, source='s')\ndef f(closs): 'w'; return closs", UnknownNameError, "close"),
        ("@feature('mine.A', outputs={'a': 'price'}, source='s')\ndef f(close, bid): 'w'; return bid", ParameterError, "bars or columns of ticks"),
        ("@feature('mine.A', outputs={'a': 'price'}, source='s')\ndef f(n=3): 'w'; return n", ParameterError, "bars or columns of ticks"),
        ("@feature('mine.A', outputs={'a': 'price'}, source='s')\ndef f(close): 'w'; return close\n@feature('mine.A', outputs={'a': 'price'}, source='s')\ndef g(close): 'w'; return close", ParameterError, "registered already"),
        ("pass", None, "registers no feature"),
        ("1 / 0", None, "ZeroDivisionError"),
    ],
)  # fmt: skip
def test_a_module_that_cannot_work_is_refused(
    registry: Path, monkeypatch: pytest.MonkeyPatch, code: str, error: type[TapelineError] | None, told: str
) -> None:
    (registry / "broken.py").write_text(GOOD + code + "\n")
    monkeypatch.setenv("TAPELINE_FEATURE_MODULES", "broken")
    with pytest.raises(ConfigurationError, match=told) as raised:
        load_feature_modules()
    assert "feature module 'broken'" in str(raised.value)
    assert "TAPELINE_FEATURE_MODULES" in str(raised.value)
    assert error is None or isinstance(raised.value.__cause__, error)


def test_a_module_that_is_not_there_is_named(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPELINE_FEATURE_MODULES", "nowhere.to_be_found")
    with pytest.raises(ConfigurationError, match=r"'nowhere.to_be_found' cannot be imported.*PYTHONPATH"):
        indicator_named("mine.A")


def test_a_name_of_no_module_gets_the_nearest(registry: Path) -> None:
    (registry / "my_features.py").write_text(MODULE)
    load_feature_module("my_features", "test")
    with pytest.raises(UnknownNameError, match=r"TAPELINE_FEATURE_MODULES.*Did you mean mine\.DRAWDOWN"):
        indicator_named("mine.DRAWDAWN")


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("def step(state, at, x):\n    return x", "is no step"),
        ("@primitive(slots=1)\ndef step(state, at, x):\n    return SETTINGS", "global my_broken.SETTINGS"),
        ("def made():\n    @primitive(slots=1)\n    def inner(state, at, x):\n        return x\n    return inner\nstep = made()", "no source"),
    ],
)  # fmt: skip
def test_a_step_whose_meaning_cannot_be_followed_is_refused(registry: Path, step: str, told: str) -> None:
    name = "my_broken"
    use = "\n@feature('mine.A', outputs={'a': 'price'}, source='s')\ndef f(close):\n    'w'\n    return apply(step, close)\n"
    (registry / f"{name}.py").write_text(GOOD + step + use)
    load_feature_module(name, "test")
    with pytest.raises(ParameterError, match=told):
        _ = FeaturePlan.of([FeatureRequest("mine.A")]).hash


def test_a_view_holds_it_and_comes_back_from_its_definition(registry: Path) -> None:
    (registry / "my_features.py").write_text(MODULE)
    load_feature_module("my_features", "test")
    spec = FeatureViewSpec(
        name="mine",
        version=1,
        rows=SessionBars(source="us-daily", calendar="XNYS"),
        features=(FeatureRequest.of("mine.DRAWDOWN", timeperiod=10), FeatureRequest.of("RSI", timeperiod=14)),
        ttl_us=0,
    )
    assert spec.columns == ("mine__drawdown_10", "rsi_14")
    again = FeatureViewSpec.from_definition(json.loads(json.dumps(spec.definition())))
    assert again == spec
    assert again.lineage_hash == spec.lineage_hash


FAULTS = {
    "keeps_bad_rows": ("if x != x:\n        state[at] += 1.0\n        return math.nan\n    return x + state[at]", 0, "a bad row"),
    "wrong_warm_up": ("if x != x:\n        return math.nan\n    state[at] += 1.0\n    return x if state[at] > 3.0 else math.nan", 0, "warm"),
    "too_early": ("return x", 5, "before its declared warm-up"),
    "infinite": ("if x != x:\n        return math.nan\n    last = state[at]\n    state[at] = x\n    return x * x / (x - last)", 0, "constant prices"),
    "wrong_unit": ("return x * x", 0, "scales with prices"),
    "remembers": ("if x != x:\n        return math.nan\n    state[at] += x * 1e-3\n    return state[at]", 0, "old rows"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_check_can_fail(registry: Path, fault: str) -> None:
    body, delay, told = FAULTS[fault]
    (registry / f"{fault}.py").write_text(
        GOOD
        + f"@primitive(slots=1, delay={delay})\ndef {fault}(state, at, x):\n    'Words.'\n    {body}\n"
        + f"@feature('mine.{fault.upper()}', outputs={{'a': 'price'}}, source='s')\ndef f(close):\n    'w'\n"
        + f"    return apply({fault}, close)\n"
    )
    load_feature_module(fault, "test")
    with pytest.raises(FeatureCheckError, match=told):
        check_indicator(f"mine.{fault.upper()}", memory=50)


def test_a_reference_that_differs_fails_and_one_that_agrees_passes() -> None:
    def reference(columns: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate([np.full(10, np.nan), columns["close"][10:] - columns["close"][:-10]])]

    with pytest.raises(FeatureCheckError, match=r"agrees with its reference: mom_10: row 0 is nan, not 0\.0"):
        check_indicator("MOM", reference=lambda columns: [columns["close"] * 0.0])
    with pytest.raises(FeatureCheckError, match="gives 2 outputs, not 1"):
        check_indicator("MOM", reference=lambda columns: [columns["close"]] * 2)
    checks = check_indicator("MOM", memory=11, reference=reference)
    assert all(check.passed for check in checks)
    assert {"old rows are forgotten", "it agrees with its reference"} <= {check.name for check in checks}


def test_no_built_in_name_or_column_can_collide() -> None:
    for indicator in all_indicators():
        if indicator.group != "custom":
            assert "." not in indicator.name
            assert not any("__" in output for output in indicator.outputs)
