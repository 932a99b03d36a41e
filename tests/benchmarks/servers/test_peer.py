"""A recipe that is short: a server of a few lines, with a worker that would outlive it."""

import sys
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.__main__ import main
from benchmarks.load import measure
from benchmarks.load.result import read_result
from benchmarks.servers import peer
from benchmarks.servers.peer import awake, peer_server
from tests.deploy.processes import wait_until
from tests.e2e.processes import ROOT

SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        body = os.environ["ENGINE"].encode()
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
WORKER = "86321"  # its seconds, by which it is found
BUNDLE = ROOT / "models" / "digits" / "1"


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mosec"
    (folder / ".venv").mkdir(parents=True)
    (folder / "server.py").write_text(SERVER)
    start = folder / "start.sh"
    start.write_text(f'#!/bin/sh\necho started\nsleep {WORKER} &\nexec {sys.executable} {folder}/server.py "$2"\n')
    start.chmod(0o755)
    monkeypatch.setattr(peer, "PEERS", tmp_path)
    return folder


def _answers(url: str) -> bool:
    return httpx.get(url, trust_env=False).is_success


def _stopped(processes: list[psutil.Process]) -> int:
    return sum(process.status() == psutil.STATUS_STOPPED for process in processes)


def test_it_runs_in_its_turn_alone_and_nothing_of_it_is_left() -> None:
    with peer_server("mosec", "openvino", BUNDLE, _answers) as (url, pid):
        processes = [psutil.Process(pid), *psutil.Process(pid).children()]
        assert len(processes) == 2
        wait_until(lambda: _stopped(processes) == 2)
        with awake(pid):
            assert httpx.get(url, trust_env=False).text == "openvino"
            wait_until(lambda: _stopped(processes) == 0)
        wait_until(lambda: _stopped(processes) == 2)
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive


def test_it_is_killed_whole_though_the_turn_failed() -> None:
    with pytest.raises(ZeroDivisionError), peer_server("mosec", "openvino", BUNDLE, _answers) as (_, pid):
        processes = [psutil.Process(pid), *psutil.Process(pid).children()]
        with awake(pid):
            raise ZeroDivisionError
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive


def test_one_that_ends_is_an_error_with_its_log(recipe: Path) -> None:
    (recipe / "server.py").write_text("raise SystemExit('no such model')")
    with (
        pytest.raises(RuntimeError, match=r"(?s)mosec/start.sh .*did not become ready:\nstarted\nno such model"),
        peer_server("mosec", "onnxruntime", BUNDLE, _answers),
    ):
        pass
    assert not [one for one in psutil.process_iter(["cmdline"]) if WORKER in (one.info["cmdline"] or [])]


def test_one_without_its_environment_is_told_how_to_have_it(recipe: Path) -> None:
    (recipe / ".venv").rmdir()
    with pytest.raises(ValueError, match=r"has no \.venv: its README"), peer_server("mosec", "", BUNDLE, _answers):
        pass


def test_targets_with_a_recipe_are_started_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_gemm_peak_gflops", dict)
    line = "compare offline --clients 2 --seconds 0.3 --warmup 0 --repeats 2 --quiet"
    targets = ["--target", "mosec", "--target", "mosec-openvino"]
    monkeypatch.setattr("sys.argv", ["benchmarks", *line.split(), *targets, "--out", str(tmp_path)])
    main()
    runs = read_result(tmp_path / "compare.json").runs
    assert [(run.target, run.repeat) for run in runs] == [
        ("mosec", 0), ("mosec", 1), ("mosec-openvino", 0), ("mosec-openvino", 1)
    ]  # fmt: skip
    assert all(run.codes.keys() == {"200"} and run.server.cpu_seconds is not None for run in runs)
