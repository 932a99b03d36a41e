"""Every panel shows something: its queries, asked of a Prometheus that watched the real service under load."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.grafana.dashboard import DASHBOARD, build
from tests.deploy.processes import Prometheus, load, running_prometheus, wait_until
from tests.e2e.processes import GOLDEN, ROOT, running_service

PANELS = [panel for panel in build()["panels"] if panel["type"] != "row"]
QUERIES = {(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]}
# What nothing can be shown of here, and why.
EMPTY = dict.fromkeys(("CPU periods throttled", "Memory of the container"), "cAdvisor's metrics, from the kubelet")
VARIABLES = {"$__rate_interval": "5s", "$namespace": ".*", "$job": ".*", "$model": ".*"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    digits = [(GOLDEN / f"digit-{n}.png").read_bytes() for n in range(10)]
    with (
        running_service() as service,
        running_prometheus(service, tmp_path_factory.mktemp("prometheus")) as prometheus,
        load(service, 4, [*digits, b"no image"]),
    ):
        yield prometheus


@pytest.mark.parametrize(("title", "expression"), sorted(QUERIES))
def test_every_query_finds_something(prometheus: Prometheus, title: str, expression: str) -> None:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression

    def found() -> bool:
        return any(math.isfinite(float(one["value"][1])) for one in prometheus.query(expression))

    if title in EMPTY:
        assert not found()
    else:
        wait_until(found)


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
    handbook = (ROOT / "docs" / "operations.md").read_text()
    assert {panel["title"] for panel in PANELS} <= set(re.findall(r"\*\*(.+?)\*\*", handbook))


def test_grafana_finds_the_dashboard_and_prometheus() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "mixer.yml").read_text())["providers"]
    assert Path(provider["options"]["path"]).name == DASHBOARD.parent.name
