"""Recording rules and alerts, judged by Prometheus's and Alertmanager's own checkers."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import Metric

from deploy.grafana.dashboard import DASHBOARD
from service.metrics import Metrics
from tests.debian import debian_program

ROOT = Path(__file__).parent.parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((PROMETHEUS / "rules" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}


def run(*command: str | Path) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_prometheus_accepts_the_configuration_and_every_rule(promtool: str) -> None:
    run(promtool, "check", "config", PROMETHEUS / "prometheus.yml")
    run(promtool, "check", "rules", *RULES)


@pytest.mark.parametrize("tests", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(promtool: str, tests: Path) -> None:
    run(promtool, "test", "rules", tests)


def test_every_alert_is_made_to_fire_by_a_test() -> None:
    expected = {name for path in TESTS for name in re.findall(r'labels:.*alertname="(\w+)"', path.read_text())}
    assert expected == ALERTS.keys()


def test_alertmanager_accepts_the_example_and_knows_the_alerts_it_names() -> None:
    run(debian_program("amtool", "prometheus-alertmanager"), "check-config", PROMETHEUS / "alertmanager.yml")
    named = set(re.findall(r"Mixer\w+", (PROMETHEUS / "alertmanager.yml").read_text()))
    assert named
    assert named <= ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_how_bad_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert re.fullmatch(rf"https://\S+/docs/runbook\.md#{name.lower()}", alert["annotations"]["runbook_url"])


def test_the_runbook_has_a_section_for_every_alert_and_no_other() -> None:
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == list(ALERTS)


def test_every_metric_that_is_named_anywhere_exists() -> None:
    metrics = Metrics()
    exposed = {name for family in metrics.registry.collect() for name in exposed_names(family)}
    recorded = set(re.findall(r"record: (\S+)", (PROMETHEUS / "rules" / "recording.yml").read_text()))
    naming = [*RULES, *TESTS, DASHBOARD, *(ROOT / "docs" / name for name in ("runbook.md", "operations.md"))]
    for path in naming:
        text = path.read_text()
        assert set(re.findall(r"(?<![\w:/])mixer_\w+", text)) <= exposed, path
        assert set(re.findall(r"(?:instance|job|job_model|job_model_version):\w+:\w+", text)) <= recorded, path


def exposed_names(family: Metric) -> set[str]:
    """Of its samples."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
    return {family.name + ending for ending in endings}
