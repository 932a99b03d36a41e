"""`python -m benchmarks load` and `compare` as they are typed."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.__main__ import main
from benchmarks.load import command
from benchmarks.load.result import read_result
from tests.benchmarks.load.fake_server import FakeServer, fake_server_thread
from tests.deploy.processes import wait_until
from tests.e2e.processes import ROOT


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server_thread() as server:
        yield server


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


QUICK = ("--seconds", 0.5, "--warmup", 0.1, "--repeats", 2)


def test_a_load_is_measured_printed_and_written(server: FakeServer, tmp_path: Path) -> None:
    server.seconds = 0.01
    result = _run(
        "load", "single-stream", "offline", "--clients", "1,4", "--url", server.url,
        "--header", "x-api-key: secret", "--deadline-ms", 250, *QUICK, "--out", tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "| mixer | single-stream | 1 client |" in result.stdout
    written = read_result(tmp_path / "load.json")
    assert [(run.scenario, run.clients, run.repeat) for run in written.runs] == [
        ("single-stream", 1, 0), ("offline", 1, 0), ("offline", 4, 0),
        ("single-stream", 1, 1), ("offline", 1, 1), ("offline", 4, 1),
    ]  # fmt: skip
    assert all(run.latency.p50 is not None and run.latency.p50 >= 10 for run in written.runs)
    assert server.headers[-1]["x-api-key"] == "secret"
    assert server.headers[-1]["x-deadline-ms"] == "250"


def test_a_soak_is_one_run(server: FakeServer, tmp_path: Path) -> None:
    soak = ("--rate", 50, "--soak-seconds", 0.5)
    result = _run("load", "soak", "single-stream", *soak, "--url", server.url, *QUICK, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    runs = [run.scenario for run in read_result(tmp_path / "load.json").runs]
    assert runs == ["soak", "single-stream", "single-stream"]


def test_targets_are_compared_in_turn(server: FakeServer, tmp_path: Path) -> None:
    result = _run(
        "compare", "single-stream", "--target", f"mixer={server.url}", "--target", f"mixer={server.url}/other",
        "--target", f"plain={server.url},{server.url}/metrics", *QUICK, "--quiet", "--name", "both", "--out", tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    targets = [run.target for run in read_result(tmp_path / "both.json").runs]
    assert targets == ["mixer"] * 2 + ["mixer 2"] * 2 + ["plain"] * 2
    assert "| mixer / mixer 2 | single-stream | 1 client |" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("load", "sprint"), "scenario 'sprint' is not one of single-stream,"),
        (("load", "--url", "http://127.0.0.1:9"), "http://127.0.0.1:9/v1/classify: "),
        (("load", "--url", "127.0.0.1:8000"), "is not an http:// or https:// URL"),
        (("load", "--target", "triton"), "target triton needs a URL"),
        (("load", "--url", "URL", "--form", "xml"), "form 'xml' is not one of raw,"),
        (("load", "--url", "URL", "--images", "EMPTY"), "the folder has no files"),
        (("load", "--url", "URL", "--images", "EMPTY/missing"), "neither digits nor photographs nor a folder"),
        (("load", "--url", "URL", "--images", "REFUSED"), "answered 429"),
        (("load", "--url", "URL", "--metrics-url", "URL/nothing"), "answered 405"),
        (("load", "--url", "URL", "--header", "x-api-key"), "--header: x-api-key is not NAME:VALUE"),
        (("load", "--url", "URL", "--pid", "4194305"), "4194305"),
        (("load", "--url", "URL", "--repeats", "0"), "--repeats: 0 is not more than 0"),
        (("load", "--url", "URL", "--clients", "8,0"), "--clients: 0 is not more than 0"),
        (("load", "--url", "URL", "--images-per-query", "-1"), "--images-per-query: -1 is not more than 0"),
        (("load", "--url", "URL", "--sweep", "0.5,0"), "--sweep: 0 is not more than 0"),
        (("load", "--url", "URL", "--seconds", "nan"), "--seconds: nan is not more than 0"),
        (("compare", "--target", "triton"), "target triton needs a URL"),
        (("compare", "--target", "torchserve=URL"), "target 'torchserve' is not one of"),
    ],
)
def test_what_cannot_be_is_one_line(
    server: FakeServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "REFUSED").mkdir()
    (tmp_path / "REFUSED" / "image").write_bytes(b"refuse")
    places = {"URL": server.url, "EMPTY": f"{tmp_path}/EMPTY", "REFUSED": f"{tmp_path}/REFUSED"}
    filled = [re.sub("URL|EMPTY|REFUSED", lambda place: places[place[0]], argument) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *filled, *map(str, QUICK), "--quiet", "--out", f"{tmp_path}/out"])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    # argparse prints its line itself, below the usage.
    line = ended.value.code if isinstance(ended.value.code, str) else printed.err.splitlines()[-1]
    assert line.startswith("mixer-bench")
    assert message in line
    assert "\n" not in line
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


def test_one_that_is_terminated_ends_the_service_that_it_started(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "load", "--quiet", "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: bool(psutil.Process(process.pid).children()))
        (service,) = psutil.Process(process.pid).children()
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not service.is_running()


def test_results_hold_no_secrets() -> None:
    line = ["load", "--header", "x-api-key:hidden", "--header=authorization:Bearer hidden", "offline"]
    assert command.without_secrets(line) == [
        "load", "--header", "x-api-key:...", "--header=authorization:...", "offline"
    ]  # fmt: skip
