"""Runs the universal tests in their environment, and holds what they say against what is explained."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import psycopg
from tapeline.storage.migrations import migrate

from benchmarks.peers.python import interpreter
from tests.support.session import SessionServers
from tests.universal.explained import EXPLAINED, LEFT_OUT
from tests.universal.source import FEAST_VERSION, NoSourceError, copy_tests

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLUGIN = HERE / "plugin"
OFFLINE = ("tests/integration/offline_store",)
ONLINE = tuple(
    f"tests/integration/online_store/{name}.py"
    for name in (
        "test_universal_online",
        "test_universal_online_types",
        "test_universal_e2e",
        "test_push_features_to_online_store",
    )
)
"""The others of that folder are each about one of Feast's own stores."""
ONLINE_STORE = "tapeline_online"
RUN_S = 1_800
_FILE_STORE = "LOCAL:File:"
"""In the name of a test that Feast runs with its file store whatever the configuration."""


@dataclass(frozen=True)
class Outcome:
    """What became of one test: ``passed``, ``failed`` or ``skipped``, and what it said."""

    test: str
    result: str
    message: str


def main(stores: Sequence[str] = ()) -> int:
    """Run them for some stores, by default those that are explained; 0 if nothing unexplained happened, or they cannot be had."""
    with tempfile.TemporaryDirectory(prefix="universal-") as name:
        folder = Path(name)
        try:
            taken = copy_tests(folder)
            python = _environment()
        except (NoSourceError, subprocess.CalledProcessError) as error:
            print(f"universal tests: NOT RUN: {error}", flush=True)
            return 0
        print(f"universal tests: Feast {FEAST_VERSION}, tests of {taken}", flush=True)
        for file, reason in LEFT_OUT.items():
            print(f"universal tests: left out: {file}: {reason}")
        servers = SessionServers()
        try:
            url = _database(servers)
            online = servers.redis_url(0)
            return max(_judge(store, _run(python, folder, store, url, online)) for store in stores or EXPLAINED)
        finally:
            servers.close()


def _environment() -> Path:
    """An environment with what the tests import beside this project's packages, which it finds in ours."""
    python = interpreter(HERE)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    Path(site, "tapeline-run.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def _database(servers: SessionServers) -> str:
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE universal")
    url = servers.postgres_url("universal")
    with psycopg.connect(url) as connection:
        migrate(connection)
    return url


def _run(python: Path, folder: Path, store: str, url: str, online: str) -> list[Outcome]:
    report = folder / f"{store}.xml"
    of_online_store = store == ONLINE_STORE
    packed = {"type": "tapeline.feast_ext.PackedRedisOnlineStore", "connection_string": online, "clock": "live"}
    environment = os.environ | {
        "UNIVERSAL_URL": url,
        "UNIVERSAL_STORE": "tapeline" if of_online_store else store,
        **({"UNIVERSAL_ONLINE": json.dumps(packed)} if of_online_store else {}),
        "FULL_REPO_CONFIGS_MODULE": "tapeline_universal",
        "FEAST_IS_LOCAL_TEST": "True",
        "IS_TEST": "True",
        "TAPELINE_HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join(map(str, (PLUGIN, ROOT / "platform", ROOT / "serving"))),
    }
    files = ONLINE if of_online_store else OFFLINE
    ignored = [f"--ignore={OFFLINE[0]}/{file}" for file in LEFT_OUT]
    ended = subprocess.run(
        [python, "-m", "pytest", "-c", PLUGIN / "pytest.ini", f"--rootdir={folder}", "--integration", "-q", "-n", "2",
         "--tb=short", "-W", "ignore", f"--junitxml={report}", *ignored, *files],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=RUN_S,
    )  # fmt: skip
    if not report.exists():
        raise RuntimeError(f"the tests did not run:\n{ended.stdout[-8_000:]}\n{ended.stderr[-2_000:]}")
    return list(_outcomes(report))


def _outcomes(report: Path) -> Iterator[Outcome]:
    for case in ET.parse(report).iter("testcase"):
        test = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        if bad is not None:
            yield Outcome(test, "failed", (bad.get("message") or "") + (bad.text or ""))
        elif skipped is not None:
            yield Outcome(test, "skipped", skipped.get("message") or "")
        else:
            yield Outcome(test, "passed", "")


def _judge(store: str, outcomes: Iterable[Outcome]) -> int:
    """Print what happened, each skip and failure with its reason; 1 if one has none, or one that is explained passed."""
    explained = EXPLAINED.get(store, ())
    counts: Counter[str] = Counter()
    used, unexplained = set(), 0
    for outcome in outcomes:
        if _FILE_STORE in outcome.test and store != ONLINE_STORE:
            counts["of Feast's file store only, not counted"] += 1
            continue
        counts[outcome.result] += 1
        if outcome.result == "passed":
            continue
        name = outcome.test.partition("[")[0]
        found = [e for e in explained if e.test == name and e.outcome == outcome.result and e.says in outcome.message]
        if found:
            used.add(found[0])
            print(f"universal tests: {store}: {outcome.result}: {name}: {found[0].reason}")
        else:
            unexplained += 1
            print(
                f"universal tests: {store}: {outcome.result.upper()}, not explained: {outcome.test}\n{outcome.message[:2_000]}"
            )
    gone = [e for e in explained if e not in used]
    for explanation in gone:
        print(f"universal tests: {store}: explained, but not {explanation.outcome} any more: {explanation.test}")
    print(f"universal tests: {store}: {', '.join(f'{n} {result}' for result, n in sorted(counts.items()))}", flush=True)
    return int(bool(unexplained or gone or not counts["passed"]))
