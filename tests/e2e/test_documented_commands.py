"""Every command that README.md and docs/ show: what can run here is run as printed, and the rest is understood.

A block of `sh` whose first line has a comment that begins with Needs, Takes or Runs until is not run.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import commands as benchmarks
from model_export import __main__ as model_export
from service.command_line import read_command_line
from service.offline import command as offline
from tests.e2e.processes import ROOT, ServiceProcess, running_service

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/servers/peers/README.md"]
BLOCKS = {
    f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}": found[1]
    for page in PAGES
    for text in [page.read_text()]
    for found in re.finditer(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
}
NOT_RUN = re.compile(r".*# (Needs|Takes|Runs until) ")
RUN = {place: block for place, block in BLOCKS.items() if not NOT_RUN.match(block)}
PROGRAMS = {
    "mixer-bench": "benchmarks",
    "mixer-classify": "service.offline",
    "mixer-export": "model_export",
    "mixer-serve": "service",
}
PROGRAMS |= {f"python -m {module}": module for module in PROGRAMS.values()}
OURS = re.compile(rf"(?:^|\s)({'|'.join(PROGRAMS)})(?=\s|$)(.*)")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows: some commands write files."""
    copy = tmp_path_factory.mktemp("checkout")
    known = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, known):
        if not name.startswith(("benchmarks/results/", "tests/")) and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    (copy / ".curlrc").write_text("fail-with-body\nsilent\n")
    return copy


@pytest.fixture(scope="module")
def service_process() -> Iterator[ServiceProcess]:
    patient = ("--deadline-ms", "60000", "--latency-target-ms", "60000")  # however busy it is here
    with running_service("--engine", "auto", *patient) as process:
        yield process


def output(block: str, checkout: Path, service: ServiceProcess) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.replace("localhost:8000", f"127.0.0.1:{service.port}")],
        cwd=checkout,
        env=environment
        | {"PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}", "CURL_HOME": str(checkout), "S": service.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("place", RUN)
def test_it_runs_as_printed(place: str, checkout: Path, service_process: ServiceProcess) -> None:
    output(RUN[place], checkout, service_process)


def test_blocks_are_found_that_run_and_that_do_not() -> None:
    pages = {place.partition(":")[0] for place in RUN}
    assert pages >= {"README.md", "docs/api.md", "docs/evaluation.md", "docs/operations.md", "docs/runbook.md"}
    assert len(RUN) < len(BLOCKS)


def test_the_sample_curl_gives_the_answer_that_is_shown(checkout: Path, service_process: ServiceProcess) -> None:
    readme = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"^curl --data-binary .*$", readme, re.MULTILINE)
    (shown,) = re.findall(r"```json\n(.*?)```", readme, re.DOTALL)
    answer, expected = json.loads(output(command, checkout, service_process)), json.loads(shown)
    assert answer.keys() == expected.keys()
    assert answer["timing_ms"].keys() == expected["timing_ms"].keys()
    assert (answer["model"], answer["image"]) == (expected["model"], expected["image"])
    for prediction, promised in zip(answer["predictions"], expected["predictions"], strict=True):
        # int8 rounds as engine and CPU do
        assert prediction["probability"] == pytest.approx(promised["probability"], abs=0.01)
        assert prediction["label"] == promised["label"]


def our_commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Program and arguments of each of our own commands, with the shell's variables and sums put in."""
    set_in_block = dict(re.findall(r'^(\w+)="(.*)"$', block, re.MULTILINE))
    text = re.sub(r"\$\(\(.*?\)\)|\bPID\b", "1", block.replace("\\\n", " "))
    text = re.sub(r"\$(\w+)", lambda name: set_in_block.get(name[1], "value"), text)
    for line in text.splitlines():
        if found := OURS.search(line):
            yield PROGRAMS[found[1]], shlex.split(found[2], comments=True)
        if found := re.match(r"make (export|serve|bench)\b(.*)", line):
            given = dict(word.split("=", 1) for word in shlex.split(found[2], comments=True))
            arguments = shlex.split(given.pop("ARGS", ""))
            if found[1] == "export":
                arguments = ["export", given["SOURCE"], "--name", given["NAME"], *arguments]
            yield PROGRAMS[f"mixer-{found[1]}"], arguments


@pytest.mark.parametrize("place", [place for place in BLOCKS if list(our_commands(BLOCKS[place]))])
def test_our_own_commands_are_understood(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are not run as well, down to the values of their flags."""
    monkeypatch.chdir(ROOT)
    for program, arguments in our_commands(BLOCKS[place]):
        if program == "benchmarks":
            benchmarks._parser().parse_args(arguments)
        elif program == "model_export":
            model_export._parser(arguments).parse_args(arguments)
        elif program == "service.offline":
            offline._parser().parse_args(arguments)
        else:
            read_command_line(arguments)


def test_every_page_says_where_its_commands_run() -> None:
    for page in PAGES:
        before, block, _ = page.read_text().partition("```sh\n")
        if block and page.name not in ("README.md", "runbook.md"):
            assert "from the repository's root" in " ".join(before.split()), page


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets, page
