"""What docs/open-inference-protocol.md shows works as shown."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, ServiceProcess, running_service

DOCUMENT = (ROOT / "docs" / "open-inference-protocol.md").read_text()


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_service() as service:
        yield service


def example(language: str, service: ServiceProcess, of: str = "") -> str:
    """The one example in a language that holds `of`, made to ask this service."""
    (code,) = [code for code in re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL) if of in code]
    return code.replace("localhost:8000", f"127.0.0.1:{service.port}")


def output_of(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def test_curl(service: ServiceProcess, tmp_path: Path) -> None:
    script = example("sh", service, of="curl").replace("answer.bin", str(tmp_path / "answer.bin"))
    assert ':7:7"' in output_of("bash", "-c", script)
    assert (tmp_path / "answer.bin").read_bytes().startswith(b'{"model_name":"digits"')


def test_python(service: ServiceProcess) -> None:
    pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    code = example("python", service)
    answer = output_of(sys.executable, "-c", code)
    (shown,) = re.findall(r"# (\[\[.*\]\])", code)
    assert [best.split(":")[1:] for best in shown.split()] == [best.split(":")[1:] for best in answer.split()]


def test_javascript(service: ServiceProcess) -> None:
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not installed")
    assert output_of(node, "--input-type=module", "-e", example("js", service)) == "7\n"
