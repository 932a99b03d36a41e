"""Every panel shows something: its queries, asked of a Prometheus that watched the real service under load."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.dashboard import DASHBOARD, build
from tests.deploy.processes import Prometheus, load, running_prometheus, wait_until
from tests.e2e.processes import GOLDEN, ROOT, add_digits, running_service

PANELS = [panel for panel in build()["panels"] if panel["type"] != "row"]
QUERIES = {(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]}
# What nothing can be shown of here, and why.
EMPTY = dict.fromkeys(("CPU periods throttled", "Memory of the container"), "cAdvisor's metrics, from the kubelet")
HANDBOOK = (ROOT / "docs" / "operations.md").read_text()
COMPARED = ("Mean time of an image", "Failed or late", "Refused")
VARIABLES = {"$__rate_interval": "5s", "$namespace": ".*", "$job": ".*", "$model": ".*"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Two versions of a model serve; who asks for the second wants its answers at once."""
    digits = [(GOLDEN / f"digit-{n}.png").read_bytes() for n in range(10)]
    repository = tmp_path_factory.mktemp("models")
    for version in ("1", "2"):
        add_digits(repository, version)
    with (
        running_service("--model-repository", str(repository), "--models", "digits/1,digits/2") as service,
        running_prometheus(service, tmp_path_factory.mktemp("prometheus")) as prometheus,
        load(service, 4, [*digits, b"no image"], "?version=1"),
        load(service, 2, digits, "?version=2"),
        load(service, 1, digits, "?version=2", {"x-deadline-ms": "1"}),
    ):
        yield prometheus


def asked(prometheus: Prometheus, expression: str) -> list[dict[str, Any]]:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return [one for one in prometheus.query(expression) if math.isfinite(float(one["value"][1]))]


@pytest.mark.parametrize(("title", "expression"), sorted(QUERIES))
def test_every_query_finds_something(prometheus: Prometheus, title: str, expression: str) -> None:
    if title in EMPTY:
        assert not asked(prometheus, expression)
    else:
        wait_until(lambda: bool(asked(prometheus, expression)))


def test_the_handbooks_queries_find_both_versions(prometheus: Prometheus) -> None:
    queries = re.findall(r"```promql\n(.*?)```", HANDBOOK, re.DOTALL)
    assert len(queries) == len(COMPARED)
    for query in queries:
        wait_until(lambda query=query: {one["metric"]["version"] for one in asked(prometheus, query)} == {"1", "2"})


def test_two_versions_are_told_apart(prometheus: Prometheus) -> None:
    """The second, of which some ask what cannot be, refuses or is late; both answer, and in some time."""

    def of_both(title: str) -> dict[str, float]:
        (panel,) = (panel for panel in PANELS if panel["title"] == title)
        (target,) = panel["targets"]
        assert target["legendFormat"] == "{{model}}/{{version}}"
        found = asked(prometheus, target["expr"])
        return {"{model}/{version}".format(**one["metric"]): float(one["value"][1]) for one in found}

    def told_apart() -> bool:
        times, late, refused = map(of_both, (f"{what}, by version" for what in COMPARED))
        versions = {"digits/1", "digits/2"}
        if not versions == times.keys() == late.keys() == refused.keys():
            return False
        return (
            min(times.values()) > 0 and late["digits/2"] + refused["digits/2"] > late["digits/1"] + refused["digits/1"]
        )

    wait_until(told_apart)


def test_the_committed_dashboard_is_the_scripts() -> None:
    assert json.loads(DASHBOARD.read_text()) == build(), "run python deploy/grafana/dashboard.py"


def test_panels_do_not_overlap_and_fill_their_rows() -> None:
    taken = [
        (x, y)
        for panel in build()["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    height = max(y for _, y in taken) + 1
    assert sorted(taken) == [(x, y) for x in range(24) for y in range(height)]


def test_titles_are_unique_and_every_panel_says_what_it_means() -> None:
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert all(panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)


def test_the_handbook_explains_every_panel() -> None:
    assert {panel["title"] for panel in PANELS} <= set(re.findall(r"\*\*(.+?)\*\*", HANDBOOK))


def test_grafana_finds_the_dashboard_and_prometheus() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "mixer.yml").read_text())["providers"]
    assert Path(provider["options"]["path"]).name == DASHBOARD.parent.name
