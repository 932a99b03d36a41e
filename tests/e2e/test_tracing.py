"""Spans of the real service, as a collector receives them."""

import gzip
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.processes import GOLDEN, ROOT, running_service

DIGIT = (GOLDEN / "digit-7.png").read_bytes()
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ["receive", "decode", "queue", "infer", "post"]

Received = tuple[Resource, Span]


@contextmanager
def otlp_receiver() -> Iterator[tuple[str, Queue[Received]]]:
    """An OTLP/HTTP collector: its endpoint, and the spans it has got."""
    spans: Queue[Received] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope_spans in resource_spans.scope_spans:
                    for span in scope_spans.spans:
                        spans.put((resource_spans.resource, span))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", spans
        finally:
            server.shutdown()
            thread.join()


def attributes(of: Resource | Span) -> dict[str, object]:
    return {one.key: one.value.string_value or one.value.int_value for one in of.attributes}


def drained(spans: Queue[Received]) -> Iterator[Received]:
    while True:
        try:
            yield spans.get_nowait()
        except Empty:
            return


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue[Received]]:
    with otlp_receiver() as (endpoint, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # ms
        yield spans


def test_a_request_is_a_span_of_its_callers_trace_with_its_stages_below(
    collector: Queue[Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    with running_service("--tracing", "--log-requests", "all") as service:
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "mine"}
        assert httpx.get(f"{service.url}/healthz/ready").status_code == 200
        answer = httpx.post(f"{service.url}/v1/classify", content=DIGIT, headers=headers)
        received = [collector.get(timeout=30) for _ in range(6)]
        line = service.wait_for("POST /v1/classify")
    assert collector.empty(), "probes are not traced"
    spans = {span.name: span for _, span in received}
    assert list(spans) == [*STAGES, "POST /v1/classify"]
    request = spans.pop("POST /v1/classify")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CALLER)
    assert request.kind == Span.SPAN_KIND_SERVER
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "url.path": "/v1/classify",
        "mixer.request_id": "mine",
    }
    timings = answer.json()["timing_ms"]
    for name, span in spans.items():
        assert (span.trace_id, span.parent_span_id) == (request.trace_id, request.span_id)
        milliseconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        assert milliseconds == pytest.approx(timings[name], abs=0.001)
        assert request.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano
    resource = attributes(received[0][0])
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("mixer", "test")
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert (line["trace_id"], line["request_id"]) == (TRACE, "mine")


def test_without_a_caller_a_trace_begins_here_and_a_fault_of_ours_is_an_error(collector: Queue[Received]) -> None:
    with running_service("--tracing", "--drain-seconds", "0", "--log-requests", "all") as service:
        httpx.post(f"{service.url}/v1/classify", content=b"no image")
        httpx.post(f"{service.url}/v1/classify", content=DIGIT, headers={"x-deadline-ms": "nonsense"})
        service.terminate()
        assert service.process.wait(timeout=30) == 0
    roots = [span for _, span in drained(collector) if span.kind == Span.SPAN_KIND_SERVER]
    assert [attributes(span)["http.response.status_code"] for span in roots] == [415, 400]
    assert not any(span.parent_span_id or span.status.code for span in roots)
    assert roots[0].trace_id != roots[1].trace_id


def test_who_is_not_sampled_by_the_caller_is_not_sampled_here(collector: Queue[Received]) -> None:
    with running_service("--tracing", "--drain-seconds", "0", "--log-requests", "all") as service:
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
        answer = httpx.post(f"{service.url}/v1/classify", content=DIGIT, headers=headers)
        assert service.wait_for("POST /v1/classify")["trace_id"] == TRACE
        service.terminate()
        assert service.process.wait(timeout=30) == 0
    assert answer.headers["traceresponse"].endswith("-00")
    assert collector.empty()


def test_a_collector_that_is_down_costs_nobody_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")  # so that it overflows
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    with (
        running_service("--tracing", "--drain-seconds", "0", "--log-requests", "all") as service,
        httpx.Client() as client,
    ):
        for _ in range(50):
            assert client.post(f"{service.url}/v1/classify", content=DIGIT).status_code == 200
        service.terminate()
        assert service.process.wait(timeout=30) == 0


def test_nothing_of_it_is_loaded_unless_it_is_asked_for(tmp_path: Path) -> None:
    # The API package alone is FastAPI's.
    program = (
        "import service.__main__, sys\n"
        "from pathlib import Path\n"
        "from service.app import create_api, with_edge\n"
        "from tests.doubles import EchoEngine, replica_around\n"
        f"app = with_edge(create_api(replica_around(EchoEngine(), Path({str(tmp_path)!r}) / 'models')))\n"
        "parts = ('opentelemetry.sdk', 'opentelemetry.exp', 'service.edge.tracing')\n"
        "print([m for m in sys.modules if m.startswith(parts)])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_a_variable_that_cannot_be_ends_the_start_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    command = [sys.executable, "-m", "service", "--tracing", "--port", "0", "--metrics-port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert ended.returncode == 1
    *log, line = ended.stderr.splitlines()
    assert line.startswith("mixer-serve: --tracing: an OTEL_* variable cannot be: ")
    assert all(entry.startswith("{") for entry in log)
