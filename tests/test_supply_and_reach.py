"""What the code is made of and what it can reach: bandit, the bill of materials, no fetching, no running."""

import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_import_rules import ROOT, imports, sources

CLIENTS = {"httpx", "aiohttp", "requests", "urllib.request", "urllib3", "http.client", "ftplib", "smtplib", "telnetlib"}
# The client speaks HTTP, lanes are processes of our own program, and so is the export of what an operator names.
ALLOWED = {
    "client.py": {"httpx"},
    "lanes/process.py": {"multiprocessing", "subprocess"},
    "sources.py": {"subprocess"},
}
RUNNERS = {"subprocess", "pickle", "marshal", "shelve", "pty", "multiprocessing"}


def commands(target: str) -> list[list[str]]:
    """What `make TARGET` runs in Python."""
    recipe = (ROOT / "Makefile").read_text().partition(f"\n{target}:")[2].partition("\n\n")[0]
    return [shlex.split(line)[1:] for line in recipe.splitlines() if line.startswith("\t$(RUN)")]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)


def test_bandit_finds_nothing() -> None:
    (command,) = [command for command in commands("check") if "bandit" in command]
    result = run(command)
    assert result.returncode == 0, result.stdout


def test_the_bill_of_materials_names_every_requirement_of_the_service(tmp_path: Path) -> None:
    (command,) = commands("sbom")
    file = tmp_path / "sbom.json"
    result = run([*command[:-1], str(file)])
    assert result.returncode == 0, result.stderr
    sbom = json.loads(file.read_text())
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "mixer-serving")
    lines = (ROOT / "requirements" / "service.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    assert {component["name"] for component in sbom["components"]} == pinned


@pytest.mark.parametrize("path", sources("service"), ids=lambda path: path.name)
def test_the_service_fetches_nothing_and_runs_nothing(path: Path) -> None:
    """No image by URL, so no request on a client's behalf; only the client speaks HTTP to others."""
    place = path.relative_to(ROOT / "service").as_posix()
    imported = set(imports(path.read_text(), ".".join(path.relative_to(ROOT).with_suffix("").parts)))
    assert not imported & (CLIENTS | RUNNERS) - ALLOWED.get(place, set())
    for node in ast.walk(ast.parse(path.read_text())):
        called = node.func if isinstance(node, ast.Call) else None
        assert not (isinstance(called, ast.Name) and called.id in ("eval", "exec", "compile", "__import__"))
        reaches = isinstance(called, ast.Attribute) and called.attr in ("system", "popen", "create_connection")
        assert not reaches or place == "lanes/lane.py"  # which is given a socket, and no address
