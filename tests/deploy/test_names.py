"""Metrics and settings that documents, rules, dashboards and manifests name are those that the service has."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from service import errors
from service.metrics import Metrics
from service.settings import Settings

ROOT = Path(__file__).parent.parent.parent
FILES = [
    *[
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "Dockerfile", "docker-compose.yml")
    ],
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix not in (".png", ".pyc")),
]
# In capitals too: the kernel's, CUDA's, the tests' own, and what docker-compose.yml and Dockerfile take.
NO_SETTINGS = {"CAP_SYS_NICE", "CUDA_VISIBLE_DEVICES", "CRDS_CATALOG", "DOCKER_BUILDKIT", "METRICS_BIND", "BASE_IMAGE"}
NO_SETTINGS |= {f"{name}_{part}" for name in ("GRAFANA", "PROMETHEUS") for part in ("IMAGE", "PORT")}
NO_SETTINGS |= {"GRAFANA_ADMIN_PASSWORD", "MIXER_PROT"}  # the latter is misspelt on purpose


def named(pattern: str, files: list[Path] = FILES) -> Iterator[tuple[str, str]]:
    """Each name in the files, with the file that has it."""
    for path in files:
        for name in re.findall(pattern, path.read_text()):
            yield name, str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    metrics = Metrics()
    families = re.findall(r"^# TYPE (\w+) (\w+)", generate_latest(metrics.registry).decode(), re.MULTILINE)
    assert len(families) > 30
    parts = {f"{name}_{part}" for name, kind in families if kind == "histogram" for part in ("bucket", "sum", "count")}
    return parts | {name for name, _ in families}


def test_every_metric_that_is_named_exists(metrics: set[str]) -> None:
    # Recorded ones are job:mixer_...; a file is mixer_b16.npz; a layer mixer_blocks.0.
    found = set(named(r"(?<![\w:./{-])(mixer_(?!serving-)[a-z_]+)(?![\w:]|\.\w|\.\{)"))
    assert len(found) > 50
    assert sorted((name, path) for name, path in found if name not in metrics) == []


def test_every_recorded_metric_that_is_named_is_recorded() -> None:
    recorded = set(re.findall(r"record: (\S+)", (ROOT / "deploy/prometheus/rules/recording.yml").read_text()))
    found = set(named(r"\bjob:mixer_\w+:\w+"))
    assert len(found) > 10
    assert sorted((name, path) for name, path in found if name not in recorded) == []


def test_every_setting_that_is_named_exists() -> None:
    """With the prefix anywhere, and without it in the documents' code."""
    settings = {f"MIXER_{name.upper()}" for name in Settings.model_fields}
    found = set(named(r"\b(MIXER_[A-Z_]+)\b"))
    found |= {
        (f"MIXER_{name.removeprefix('MIXER_')}", path) for name, path in named(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`")
    }
    others = NO_SETTINGS | set(errors._GRPC.values())
    known = settings | others | {f"MIXER_{name}" for name in others}
    assert len(found) > 50
    assert sorted((name, path) for name, path in found if name not in known) == []
