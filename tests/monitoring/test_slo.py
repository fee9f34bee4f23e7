"""The error budget, the metrics that Prometheus sees, and the rules over them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tapeline.core.errors import ConfigurationError, ParameterError
from tapeline.core.settings import Settings
from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US
from tapeline.monitoring.findings import BUDGET, Cause
from tapeline.monitoring.follow import Follower, FollowStatus
from tapeline.monitoring.journal import Totals
from tapeline.monitoring.metrics import metrics_of, serve_metrics
from tapeline.monitoring.served import Sampling
from tapeline.monitoring.slo import WINDOWS_US, Objective

from tests.monitoring.log_world import VIEW, LogWorld
from tests.serving import world

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "docs" / "verify.rules.yml"
END_US = 20_000 * DAY_US
DURATION = re.compile(r"^(\d+(ms|[smhdwy]))+$")


@pytest.mark.parametrize(
    ("minutes", "window_us", "expected"),
    [
        ({}, HOUR_US, 0.0),
        ({(END_US, None): 1_000}, HOUR_US, 0.0),
        ({(END_US, None): 1_000, (END_US, Cause.LAG): 1}, HOUR_US, 0.1),
        ({(END_US, None): 1_000, (END_US, Cause.LAG): 10, (END_US, Cause.UNKNOWN): 10}, HOUR_US, 2.0),
        ({(END_US, None): 1_000, (END_US, Cause.LATE_ROW): 10, (END_US, Cause.CORRECTION): 10}, HOUR_US, 0.0),
        ({(END_US - HOUR_US, Cause.UNKNOWN): 9, (END_US, None): 1_000}, HOUR_US, 0.0),
        ({(END_US - HOUR_US + 1, Cause.UNKNOWN): 10, (END_US, None): 1_000}, HOUR_US, 1.0),
        ({(END_US + MINUTE_US, Cause.UNKNOWN): 10, (END_US, None): 1_000}, HOUR_US, 0.0),
    ],
)
def test_burn_rate(minutes: dict[tuple[int, Cause | None], int], window_us: int, expected: float) -> None:
    assert Objective(0.99).burn_rate(minutes, window_us, END_US) == pytest.approx(expected)


def test_an_objective_leaves_a_budget() -> None:
    for wrong in (1.0, -0.1, 2.0, float("nan")):
        with pytest.raises(ParameterError, match="objective"):
            Objective(wrong)


def follower_with(totals: Totals) -> Follower:
    follower = Follower(lambda: pytest.fail("nothing is to be read"), "rules")
    rates = dict.fromkeys(WINDOWS_US, 0.5)
    follower.status = FollowStatus(totals, rates, backlog=3, through_us=END_US, connected=True)
    return follower


def samples(follower: Follower) -> dict[str, list[dict[str, str]]]:
    """Labels of each sample by its name."""
    found: dict[str, list[dict[str, str]]] = {}
    for metric in metrics_of(follower):
        for sample in metric.samples:
            found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


@pytest.fixture
def exported() -> dict[str, list[dict[str, str]]]:
    counts = Counter({("daily@2", None): 100, ("daily@2", Cause.LAG): 2})
    return samples(follower_with(Totals(7, counts, END_US, END_US, Sampling())))


def test_rules_are_well_formed_and_over_metrics_that_exist(exported: dict[str, list[dict[str, str]]]) -> None:
    """What promtool checks, without it: structure, names, durations, templates; and that each selector can match."""
    content = yaml.safe_load(RULES.read_text())
    assert set(content) == {"groups"}
    names = [group["name"] for group in content["groups"]]
    assert len(names) == len(set(names)) > 0
    recorded = {rule["record"] for group in content["groups"] for rule in group["rules"] if "record" in rule}
    alerts = [rule for group in content["groups"] for rule in group["rules"] if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 0
    for group in content["groups"]:
        assert set(group) <= {"name", "interval", "rules"}
        assert DURATION.match(group.get("interval", "1m"))
        for rule in group["rules"]:
            known = (
                {"record", "expr", "labels"} if "record" in rule else {"alert", "expr", "for", "labels", "annotations"}
            )
            assert set(rule) <= known, rule
            check_expression(rule["expr"], exported, recorded)
            if "record" in rule:
                assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", rule["record"])
            else:
                assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["alert"])
                assert DURATION.match(rule.get("for", "1m"))
                assert rule["labels"]["severity"] in {"page", "ticket"}
                assert set(rule["annotations"]) == {"summary", "description"}
                for label in re.findall(r"\{\{ \$labels\.(\w+) \}\}", rule["annotations"]["summary"]):
                    assert re.search(rf"by \([^)]*\b{label}\b", rule["expr"]), "the alert has this label"


def check_expression(text: str, exported: dict[str, list[dict[str, str]]], recorded: set[str]) -> None:
    assert text.strip()
    for opening, closing in ("()", "{}", "[]"):
        assert text.count(opening) == text.count(closing)
    selectors = re.findall(r"\b(tapeline[a-z0-9_:]+)(?:\{([^}]*)\})?", text)
    assert selectors
    for name, matchers in selectors:
        assert name in exported or name in recorded, f"{name} does not exist"
        for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
            values = {labels[label] for labels in exported[name]}
            wanted = set(value.split("|")) if operator == "=~" else {value}
            assert wanted <= values, f"{name} has no {label} {wanted - values}"
    for range_ in re.findall(r"\[([^\]]*)\]", text):
        assert DURATION.match(range_)


def test_rules_count_what_the_budget_counts() -> None:
    for causes in re.findall(r'cause=~"([^"]*)"', RULES.read_text()):
        assert {Cause(cause) for cause in causes.split("|")} == BUDGET


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus' promtool is not on the path")
def test_promtool_accepts_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, capture_output=True)


def test_metrics_are_answered_over_http(exported: dict[str, list[dict[str, str]]]) -> None:
    totals = Totals(7, Counter({("daily@2", None): 100, ("daily@2", Cause.LAG): 2}), END_US, None, Sampling())
    port, stop = serve_metrics(follower_with(totals), 0)
    try:
        with pytest.raises(ConfigurationError, match="cannot be bound"):
            serve_metrics(follower_with(totals), port)
        assert scrape(port)["tapeline_verify_mismatches_total", "lag"] == 2.0
    finally:
        stop()
    assert "tapeline_verify_age_seconds" in exported


def scrape(port: int) -> dict[tuple[str, str], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, sample.labels.get("cause", sample.labels.get("window", ""))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def log(settings: Settings, connection: psycopg.Connection, tmp_path: Path) -> Iterator[LogWorld]:
    with redis.Redis.from_url(settings.redis_url) as store:
        yield LogWorld.make(settings, store, connection, tmp_path, ("AAA",))


def test_the_command_follows_shows_itself_and_ends_on_sigterm(log: LogWorld, tmp_path: Path) -> None:
    vector, view = log.online("AAA")
    log.answers_of_history(20)
    log.answer("AAA", vector=vector + 1, view=view)
    page = tmp_path / "page" / "verify.html"
    command = [sys.executable, "-m", "tapeline", "verify", "--follow", "--json", "--delay", "0", "--metrics-port", "0"]
    process = subprocess.Popen(
        [*command, "--report", str(page)],
        env=world.environment(log.settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        port = int(re.search(r":(\d+)/metrics", process.stderr.readline())[1])
        deadline = time.monotonic() + 30
        while (seen := scrape(port)).get(("tapeline_verify_vectors_total", ""), 0) < 21:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 1, errors  # the unexplained ones
    assert seen["tapeline_verify_mismatches_total", "unknown"] == 3
    assert seen["tapeline_verify_burn_rate", "5m"] == pytest.approx(3 / (21 * len(VIEW.columns)) / 1e-4)
    told = json.loads(output)
    assert (told["vectors"], told["values"], told["unexplained"]) == (21, 21 * len(VIEW.columns), 3)
    assert told["examples"][0]["recorded"]["event_us"] == view["event_us"]
    assert "Served = stored?" in page.read_text()
