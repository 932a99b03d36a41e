"""docs/api.md: its examples do what they say, and its table has every error."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service.errors import ServiceError
from tests.e2e.processes import ROOT, ServiceProcess, running_service
from tests.service.test_errors import subclasses

PAGE = (ROOT / "docs" / "api.md").read_text()


@pytest.fixture(scope="module")
def service_process() -> Iterator[ServiceProcess]:
    # A busy machine is no reason to refuse.
    with running_service("--deadline-ms", "60000", "--latency-target-ms", "60000") as process:
        yield process


def examples(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert len(found) == 6, language
    return found


def output(program: list[str], example: str, service: ServiceProcess) -> str:
    example = example.replace("localhost:8000", f"127.0.0.1:{service.port}")
    result = subprocess.run([*program, example], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("example", examples("sh"))
def test_curl(service_process: ServiceProcess, example: str) -> None:
    answers = output(["bash", "-euo", "pipefail", "-c"], example, service_process)
    if "features" in example:
        assert len(json.loads(answers)["features"]) == 128
    elif "models" in example.partition("localhost")[2]:
        (model,) = json.loads(answers)["models"]
        assert (model["name"], model["state"]) == ("digits", "READY")
    elif "classify" in example:
        assert '"label":"7"' in answers
    else:
        assert answers == '{"status":"live"}{"status":"ready"}'


@pytest.mark.parametrize("example", examples("python"))
def test_python(service_process: ServiceProcess, example: str) -> None:
    printed = output([sys.executable, "-c"], example, service_process)
    assert printed.split() == " ".join(re.findall(r"print\(.*\)  # (.*)", example)).split()


@pytest.mark.parametrize("example", examples("js"))
def test_javascript(service_process: ServiceProcess, example: str) -> None:
    if not shutil.which("node"):
        pytest.skip("node is missing")
    printed = output(["node", "--input-type=module", "--eval"], example, service_process)
    assert printed.split() == " ".join(re.findall(r"console\.log\(.*\); // (.*)", example)).split()


def documented() -> list[list[str]]:
    """Status, code and reason of every row of the table of errors, with the status of the rows before."""
    table = PAGE.partition("## Errors")[2].partition("\n## ")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:4]] for line in table.splitlines() if line.startswith("| ")]
    for row, before in zip(rows[2:], rows[1:], strict=False):
        row[0] = row[0] or before[0]
        row[1] = row[1] or before[1]
    return rows[1:]


def test_the_table_has_every_error() -> None:
    frameworks, for_metrics_alone = ("405", "method_not_allowed"), ("499", "client_gone")
    assert "499, `client_gone`" in PAGE
    errors = {(str(error.status), error.code) for error in subclasses(ServiceError)}
    assert {(status, code) for status, code, _ in documented()} == (errors | {frameworks}) - {for_metrics_alone}


def test_the_table_has_every_reason() -> None:
    under_v2 = ("v2", "lifecycle.py", "grpc_api")  # whose errors are their messages alone
    sources = [path for path in (ROOT / "service").rglob("*.py") if not {*path.parts} & {*under_v2}]
    raised = {reason for path in sources for reason in re.findall(r'\breason="([a-z_]+)"', path.read_text())}
    raised |= {"inflight_images", "inflight_bytes"}  # which admission.py looks at in turn
    assert {reason for _, _, reason in documented()} - {""} == raised
