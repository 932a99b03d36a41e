"""`mixer-serve --model` as a user starts it: a checkpoint is exported, served and found again; what fails is told."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from safetensors.numpy import save_file

from service.host import allowed_cores
from tests.e2e.processes import GOLDEN, ROOT, children, running_service
from tests.model_export import oracle


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_file(oracle.random_timm_weights(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """The service without what waits for its JSON."""
    return subprocess.Popen(
        [sys.executable, "-m", "service", "--port", "0", "--metrics-port", "0", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )


def told(*arguments: str, **variables: str) -> str:
    """The lines of a start that fails, but those of the log."""
    process = start(*arguments, **variables)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("mixer-")]
    assert "Traceback" not in errors
    return line


def lines_until_it_listens(process: subprocess.Popen[str]) -> list[str]:
    """What it writes until then; it is ended."""
    assert process.stderr is not None
    lines = []
    while "listening" not in (line := process.stderr.readline()):
        assert line, lines
        lines.append(line)
    process.terminate()
    process.communicate()
    return lines


def test_a_checkpoint_is_exported_and_found_again(checkpoint: Path, tmp_path: Path) -> None:
    flags = ("--model", str(checkpoint), "--cache", str(tmp_path / "cache"))
    lines = lines_until_it_listens(start(*flags))
    assert f'starts on {allowed_cores():g} cores, with {checkpoint}"' in lines[0]
    assert any("export:" in line for line in lines)  # progress
    assert any(line.startswith("tiny/1: tiny/4, fp32, 7 classes") for line in lines)
    with running_service(*flags) as service:  # every line is the log's: nothing is exported
        (model,) = httpx.get(f"{service.url}/v1/models").json()["models"]
        assert (model["name"], model["classes"], model["features"]) == ("tiny", 7, 16)
        image = (GOLDEN / "digit-7.png").read_bytes()
        assert len(httpx.post(f"{service.url}/v1/classify", content=image).json()["predictions"]) == 5
        assert len(httpx.post(f"{service.url}/v1/features", content=image).json()["features"]) == 16


def test_of_two_starts_one_exports_even_if_it_is_killed(checkpoint: Path, tmp_path: Path) -> None:
    flags = ("--model", str(checkpoint), "--cache", str(tmp_path / "cache"))
    first = start(*flags)
    while not (export := children(first.pid)):
        assert first.poll() is None
    os.kill(export[0], signal.SIGSTOP)
    second = start(*flags)
    assert second.stderr is not None
    while "waiting for another start" not in (line := second.stderr.readline()):
        assert line
    first.kill()
    os.kill(export[0], signal.SIGCONT)
    lines = lines_until_it_listens(second)
    assert not any(line.startswith("tiny/1") for line in lines)
    _, told = first.communicate(timeout=60)
    assert "tiny/1: tiny/4" in told


def test_a_repository_on_the_hub_from_the_hubs_own_cache(checkpoint: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--mixer"
    for file, data in (
        ("refs/main", commit.encode()),
        (f"snapshots/{commit}/model.safetensors", checkpoint.read_bytes()),
    ):
        (repository / file).parent.mkdir(parents=True)
        (repository / file).write_bytes(data)
    flags = ("--model", "hf:someone/mixer", "--cache", str(tmp_path / "cache"))
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    first, second = (lines_until_it_listens(start(*flags, **offline)) for _ in range(2))
    assert any(line.startswith("mixer/1: tiny/4") for line in first)
    assert not any(line.startswith("mixer/1: tiny/4") for line in second)
    (manifest,) = (tmp_path / "cache").rglob("manifest.json")
    assert json.loads(manifest.read_text())["source"]["reference"] == f"hf:someone/mixer@{commit}"


def test_a_bundle(tmp_path: Path) -> None:
    with running_service("--model", "models/digits/1", "--cache", str(tmp_path / "never made")) as service:
        (model,) = httpx.get(f"{service.url}/v1/models").json()["models"]
        assert (model["name"], model["version"]) == ("digits", "1")
    assert not (tmp_path / "never made").exists()


def test_what_becomes_no_bundle_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "zeros.npz").write_bytes(bytes(1000))
    cache = ("--cache", str(tmp_path / "cache"))
    assert told("--model", str(tmp_path / "zeros.npz"), *cache).startswith(f"mixer-export: {tmp_path}/zeros.npz: ")
    assert "no such file" in told("--model", "nowhere.npz", *cache).lower()
    hub = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    line = told("--model", "hf:owner/mixer", *cache, **hub)
    assert line.startswith("mixer-export: hf:owner/mixer: not in the local cache, and the Hub cannot be reached")


def test_sigterm_ends_the_export_and_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    process = start("--model", str(checkpoint), "--cache", str(tmp_path / "cache"))
    assert process.stderr is not None
    seen = ""
    while "export:" not in seen:  # the bar, which ends no line while it grows
        piece = os.read(process.stderr.fileno(), 4096).decode(errors="replace")
        assert piece, seen
        seen += piece
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock"]
