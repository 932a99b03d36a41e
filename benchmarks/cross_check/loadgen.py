"""MLPerf LoadGen, whose queries are sent by clients that share nothing with ours, each on a thread of its own.

LoadGen decides what is sent when, and measures it: https://github.com/mlcommons/inference/tree/master/loadgen
"""

import json
import re
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import mlperf_loadgen

from benchmarks.cross_check.comparison import Figures

_TIMEOUT = 10.0  # seconds
_PREFIX = ":::MLLOG "
_HEAD = re.compile(rb"HTTP/1.1 (\d{3}).*?\r\ncontent-length: (\d+)(?=\r\n).*?\r\n\r\n", re.DOTALL | re.IGNORECASE)

_Sample = tuple[int, int]  # LoadGen's number for it, and which image it is


def single_stream(url: str, images: Sequence[bytes], seconds: float) -> Figures:
    """One query at a time."""
    settings = _settings(mlperf_loadgen.TestScenario.SingleStream, seconds)
    settings.single_stream_expected_latency_ns = 10**6  # or less than was announced would be ready to be sent
    results = _run(url, images, 1, settings)
    return _with_latency(results, results["result_qps_with_loadgen_overhead"])


def offline(url: str, images: Sequence[bytes], seconds: float, clients: int, expected_rate: float) -> Figures:
    """All queries at once; so many clients work them off. `expected_rate` says how many there are."""
    settings = _settings(mlperf_loadgen.TestScenario.Offline, seconds)
    settings.offline_expected_qps = expected_rate
    # Latency is from the beginning there, and says nothing.
    return Figures(_run(url, images, clients, settings)["result_samples_per_second"])


def server(url: str, images: Sequence[bytes], seconds: float, clients: int, rate: float, seed: int) -> Figures:
    """Arrivals by chance (Poisson), `rate` a second; latency is from the scheduled time."""
    settings = _settings(mlperf_loadgen.TestScenario.Server, seconds)
    settings.server_target_qps = rate
    settings.schedule_rng_seed = seed
    results = _run(url, images, clients, settings)
    return _with_latency(results, results["result_completed_samples_per_sec"])


def _settings(scenario: Any, seconds: float) -> Any:
    settings = mlperf_loadgen.TestSettings()
    settings.scenario = scenario
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(seconds * 1000)
    settings.min_query_count = 1
    return settings


def _run(url: str, images: Sequence[bytes], clients: int, settings: Any) -> dict[str, Any]:
    """LoadGen's results by their names in its log. Raises OSError if a query went wrong."""
    output, log = mlperf_loadgen.LogOutputSettings(), mlperf_loadgen.LogSettings()
    with tempfile.TemporaryDirectory() as folder, _clients(url, images, clients) as issue:
        output.outdir, output.prefix = folder, ""
        log.log_output, log.enable_trace = output, False
        library = mlperf_loadgen.ConstructQSL(len(images), len(images), lambda _: None, lambda _: None)
        system = mlperf_loadgen.ConstructSUT(issue, lambda: None)
        try:
            mlperf_loadgen.StartTestWithLogSettings(system, library, settings, log)
        finally:
            mlperf_loadgen.DestroySUT(system)
            mlperf_loadgen.DestroyQSL(library)
        lines = (Path(folder) / "detail.txt").read_text().splitlines()
    entries = (json.loads(line.removeprefix(_PREFIX)) for line in lines if line.startswith(_PREFIX))
    return {entry["key"]: entry["value"] for entry in entries}


@contextmanager
def _clients(url: str, images: Sequence[bytes], count: int) -> Iterator[Any]:
    """Yields what LoadGen calls with samples to send. Raises OSError at the end if one went wrong."""
    waiting: SimpleQueue[_Sample | None] = SimpleQueue()

    def issue(samples: Sequence[Any]) -> None:
        for sample in samples:
            waiting.put((sample.id, sample.index))

    with ExitStack() as connections:
        clients = [connections.enter_context(closing(_Client(url, images, waiting))) for _ in range(count)]
        for client in clients:
            try:
                client.ask(0)  # its connection is made before the clock runs
            except OSError as error:
                raise _failed(str(error)) from None
        for client in clients:
            client.start()
        try:
            yield issue
        finally:
            for _ in clients:
                waiting.put(None)
            for client in clients:
                client.join()
    if failures := [client.failure for client in clients if client.failure]:
        raise _failed(failures[0])


def _failed(failure: str) -> OSError:
    cure = "the service has no room for more: give a lower --rate" if failure == "status 429" else "see its log"
    return OSError(f"LoadGen's query to the service went wrong: {failure} ({cure})")


class _Client(threading.Thread):
    """Posts what waits, one after the other, over one connection.

    On a bare socket: http.client takes 0.12 ms more for each, a twentieth of what a small model's answer takes.
    """

    def __init__(self, url: str, images: Sequence[bytes], waiting: "SimpleQueue[_Sample | None]") -> None:
        super().__init__(daemon=True)
        parts = urlsplit(url)
        assert parts.hostname
        self.failure: str | None = None
        self._address = (parts.hostname, parts.port or 80)
        head = (
            f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/octet-stream\r\n"
        )
        self._requests = [f"{head}Content-Length: {len(image)}\r\n\r\n".encode() + image for image in images]
        self._waiting = waiting
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address, _TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        """Until None waits; nothing more is sent after a failure."""
        while (sample := self._waiting.get()) is not None:
            number, index = sample
            try:
                if self.failure is None:
                    self.ask(index)
            except OSError as error:
                self.failure = str(error)
            # LoadGen waits for all, also for one that went wrong.
            mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(number, 0, 0)])

    def ask(self, index: int) -> None:
        """Send that image and read the answer. Raises OSError, also for an answer that is not 200 with its length."""
        self._socket.sendall(self._requests[index])
        answer = b""
        while not (found := _HEAD.match(answer)):
            answer += self._more()
        status, length = int(found[1]), int(found[2])
        left = found.end() + length - len(answer)
        while left > 0:
            left -= len(self._more())
        if status != 200:
            raise OSError(f"status {status}")

    def _more(self) -> bytes:
        if not (data := self._socket.recv(2**16)):
            raise OSError("the connection was closed before the answer")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _with_latency(results: dict[str, Any], rate: float) -> Figures:
    quantiles = (results[f"result_{percent}.00_percentile_latency_ns"] / 1e6 for percent in (50, 90, 99))
    return Figures(rate, *quantiles)
