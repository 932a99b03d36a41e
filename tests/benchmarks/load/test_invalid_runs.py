"""Runs that say nothing of the server, provoked on the command as a process."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.result import Run, read_result
from tests.benchmarks.load.fake_server import fake_server_thread
from tests.e2e.processes import ROOT

SECONDS = 2
LOADED = 50  # images after which the window has begun: ten are the check's, and the others take 10 ms each


@contextmanager
def _loading(*arguments: object, start: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    command = [*start, sys.executable, "-m", "benchmarks", "load", *map(str, arguments)]
    process = subprocess.Popen(
        [*command, "--seconds", str(SECONDS), "--warmup", "0.2", "--timeout", "5", "--quiet"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def _end(process: subprocess.Popen[str]) -> str:
    """What it says of errors, once it has ended."""
    return process.communicate(timeout=60)[1]


def _runs(out: Path) -> list[Run]:
    return read_result(out / "load.json").runs


@contextmanager
def _server(listening: socket.socket) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "tests.benchmarks.load.fake_server", str(listening.fileno())]
    with subprocess.Popen(command, cwd=ROOT, pass_fds=[listening.fileno()]) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_until(true: Callable[[], bool]) -> None:
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def _images(url: str) -> float:
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=30).text)
    return next(it.value for family in families for it in family.samples if it.name == "mixer_batch_size_sum")


def test_a_generator_that_may_open_too_few_connections_says_so(tmp_path: Path) -> None:
    few = ("sh", "-c", 'ulimit -n 64 && exec "$@"', "sh")
    with fake_server_thread() as server:
        server.seconds = 0.2
        watch = ("--metrics-url", f"{server.url}/metrics", "--pid", psutil.Process().pid)
        with _loading(
            "offline", "--clients", 200, "--url", server.url, *watch, "--repeats", 1, "--out", tmp_path, start=few
        ) as process:
            errors = _end(process)
    assert process.returncode == 0, errors
    (run,) = _runs(tmp_path)
    assert run.codes["EMFILE"] > 0
    assert any("could not open" in reason and "(EMFILE)" in reason for reason in run.invalid)


def test_a_server_that_is_started_again_at_the_same_port_under_load(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with _server(listening) as first, _loading(
            "offline", "--clients", 1, "--url", url, "--metrics-url", f"{url}/metrics",
            "--repeats", 1, "--out", tmp_path,
        ) as process:  # fmt: skip
            _wait_until(lambda: _images(url) >= LOADED)
            first.kill()
            first.wait()
            with _server(listening):  # what comes meanwhile waits for it
                errors = _end(process)
    assert process.returncode == 0, errors
    (run,) = _runs(tmp_path)
    assert "the server was started again" in run.invalid
    assert run.server.mean_batch is None


@pytest.mark.parametrize("watched_by", ["--pid", "--metrics-url"])
def test_a_server_that_ends_under_load(tmp_path: Path, watched_by: str) -> None:
    with ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            server = stack.enter_context(_server(listening))
        watch = {"--pid": server.pid, "--metrics-url": f"{url}/metrics"}[watched_by]
        process = stack.enter_context(
            _loading("offline", "--clients", 1, "--url", url, watched_by, watch, "--repeats", 3, "--out", tmp_path)
        )
        _wait_until(lambda: _images(url) >= LOADED)
        server.kill()  # as nobody waits for it, it stays as a zombie
        errors = _end(process)
    said = {"--pid": f"process {server.pid} has ended", "--metrics-url": f"{url}/metrics: "}[watched_by]
    assert process.returncode == 1
    assert errors.startswith(f"mixer-bench load: {said}")
    assert errors.endswith(f"; what was measured until then is in {tmp_path / 'load.md'}\n")
    assert errors.count("\n") == 1
    run = _runs(tmp_path)[0]
    assert any(reason.startswith(f"what the server spent is not known: {said}") for reason in run.invalid)


def test_a_generator_that_is_held_up_in_the_middle_of_an_open_loop(tmp_path: Path) -> None:
    with fake_server_thread() as server, _loading(
        "server", "--rate", 100, "--url", server.url, "--repeats", 1, "--out", tmp_path
    ) as process:  # fmt: skip
        _wait_until(lambda: sum(server.received.values()) >= LOADED)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        process.send_signal(signal.SIGCONT)
        errors = _end(process)
    assert process.returncode == 0, errors
    (run,) = _runs(tmp_path)
    assert any("ms late" in reason for reason in run.invalid)
