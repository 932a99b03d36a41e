"""The client against a server that answers as it is told, and its clock."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from service.client import (
    AsyncMixerClient,
    Classification,
    Features,
    MixerClient,
    MixerError,
    _classification,
    _course,
    _Pause,
    _Settings,
)

ROOT = Path(__file__).parent.parent.parent
ANSWER = {
    "model": {"name": "echo", "version": "1"},
    "predictions": [{"index": 7, "label": "seven", "probability": 0.9}],
    "image": {"width": 4, "height": 4, "format": "PNG", "orientation_applied": False},
    "timing_ms": {"total": 1.0},
}
OK = (200, {}, ANSWER)


def refusal(status: int, code: str, **headers: str) -> tuple[int, dict[str, str], object]:
    return status, headers, {"error": {"code": code, "message": "no", "reason": "because"}}


class Scripted(ThreadingHTTPServer):
    """Gives its answers one after the other, and notes what was asked; None closes the connection instead."""

    def __init__(self, answers: list[tuple[int, dict[str, str], object] | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        answer = self.server.answers.pop(0)
        if answer is None:
            self.close_connection = True
            return
        status, headers, content = answer
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(data)), "x-request-id": "abc", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Scripted]]:
    servers = []

    def start(*answers: tuple[int, dict[str, str], object] | None) -> Scripted:
        server = Scripted(list(answers))
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def sync_classify(url: str, **options: object) -> Classification:
    with MixerClient(url, **options) as client:
        return client.classify(b"image", top_k=3, model="echo", version="1")


def async_classify(url: str, **options: object) -> Classification:
    async def ask() -> Classification:
        async with AsyncMixerClient(url, **options) as client:
            return await client.classify(b"image", top_k=3, model="echo", version="1")

    return asyncio.run(ask())


both = pytest.mark.parametrize("classify", [sync_classify, async_classify])
Classify = Callable[..., Classification]


@both
def test_what_is_sent_and_how_the_answer_is_read(classify: Classify, serve: Callable[..., Scripted]) -> None:
    server = serve(OK)
    answer = classify(server.url, api_key="Zürich-ключ", deadline_ms=250)
    assert (answer.model, answer.version, answer.request_id) == ("echo", "1", "abc")
    assert (answer.predictions[0].index, answer.predictions[0].label) == (7, "seven")
    assert answer.image["format"] == "PNG"
    ((path, headers, body),) = server.asked
    assert path == "/v1/classify?top_k=3&model=echo&version=1"
    assert headers["x-api-key"].encode("latin-1").decode() == "Zürich-ключ"
    assert headers["x-deadline-ms"] == "250"
    assert body == b"image"


def sync_features(url: str) -> list[Features | MixerError]:
    with MixerClient(url) as client:
        return [client.features(b"image", model="echo", version="1"), *client.features_many([b"a", b"b"], "echo")]


def async_features(url: str) -> list[Features | MixerError]:
    async def ask() -> list[Features | MixerError]:
        async with AsyncMixerClient(url) as client:
            one = await client.features(b"image", model="echo", version="1")
            return [one, *await client.features_many([b"a", b"b"], "echo", concurrency=1)]

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [sync_features, async_features])
def test_features_are_asked_for_and_read_likewise(
    ask: Callable[[str], list[Features | MixerError]], serve: Callable[..., Scripted]
) -> None:
    told = ANSWER | {"features": [0.1, -2]}
    del told["predictions"]
    server = serve(refusal(503, "not_ready"), (200, {}, told), (200, {}, told), OK)
    one, *several = ask(server.url)
    assert isinstance(one, Features)
    assert (one.features, one.model, one.image["format"], one.request_id) == ((0.1, -2.0), "echo", "PNG", "abc")
    paths = ["/v1/features?model=echo&version=1"] * 2 + ["/v1/features?model=echo"] * 2
    assert [path for path, _, _ in server.asked] == paths
    (answer,) = (each for each in several if isinstance(each, Features))
    (error,) = (each for each in several if isinstance(each, MixerError))  # for an answer without features
    assert (answer.features, error.code) == (one.features, "not_understood")


@both
@pytest.mark.parametrize("first", [refusal(429, "over_capacity"), refusal(503, "not_ready"), None])
def test_what_may_pass_is_tried_again(
    classify: Classify, first: tuple[int, dict[str, str], object] | None, serve: Callable[..., Scripted]
) -> None:
    server = serve(first, first, OK)
    assert classify(server.url).predictions[0].index == 7
    assert len(server.asked) == 3


def test_retry_after_is_waited_for_and_pauses_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.client.random.uniform", lambda low, high: high)
    course = _course(_Settings("http://mixer", timeout=1000, retries=3), _classification)
    next(course)
    pauses = []
    for retry_after in ("7", "", "x"):
        pause = course.send(httpx.Response(429, headers={"retry-after": retry_after}, json=refusal(429, "full")[2]))
        assert isinstance(pause, _Pause)
        pauses.append(pause.seconds)
        next(course)
    assert pauses == pytest.approx([7.1, 0.2, 0.4])


@both
def test_a_retry_after_beyond_the_timeout_ends_it_at_once(classify: Classify, serve: Callable[..., Scripted]) -> None:
    server = serve(refusal(429, "over_capacity", **{"retry-after": "3600"}))
    with pytest.raises(MixerError) as refused:
        classify(server.url, timeout=60)
    assert (refused.value.status, refused.value.retry_after) == (429, 3600)
    assert len(server.asked) == 1


@both
@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 422, 500, 504])
def test_what_will_not_change_is_not_tried_again(
    classify: Classify, status: int, serve: Callable[..., Scripted]
) -> None:
    server = serve(refusal(status, "some_code"))
    with pytest.raises(MixerError) as refused:
        classify(server.url)
    error = refused.value
    assert (error.status, error.code, error.reason, error.request_id) == (status, "some_code", "because", "abc")
    assert str(error) == f"{status} some_code: no (request abc)"
    assert len(server.asked) == 1


@both
def test_the_retries_end(classify: Classify, serve: Callable[..., Scripted]) -> None:
    server = serve(*[refusal(503, "not_ready")] * 3)
    with pytest.raises(MixerError, match="503 not_ready"):
        classify(server.url, retries=2)
    assert len(server.asked) == 3


@both
def test_nobody_there(classify: Classify, serve: Callable[..., Scripted]) -> None:
    server = serve()
    server.server_close()
    with pytest.raises(MixerError) as refused:
        classify(server.url, retries=1)
    assert (refused.value.status, refused.value.code) == (None, "unreachable")


@both
def test_an_answer_that_never_comes_ends_with_the_timeout(classify: Classify) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as silent:  # accepts in the kernel, and serves nobody
        with pytest.raises(MixerError) as refused:
            classify(f"http://127.0.0.1:{silent.server_address[1]}", timeout=0.2)
        assert (refused.value.status, refused.value.code) == (None, "timeout")


@both
@pytest.mark.parametrize("page", [b"<html>", b"[]", b'{"error": "text"}', b'{"model": 1}'])
def test_another_servers_answer(classify: Classify, page: bytes, serve: Callable[..., Scripted]) -> None:
    for status in (200, 502):
        server = serve((status, {}, page))
        with pytest.raises(MixerError) as refused:
            classify(server.url)
        assert (refused.value.status, refused.value.code) == (status, "not_understood")


def test_it_needs_httpx_and_nothing_else_of_the_services() -> None:
    program = (
        "import service.client, sys\n"
        "print({m.split('.')[0] for m in sys.modules} & {'fastapi', 'starlette', 'uvicorn', 'numpy', 'PIL', "
        "'onnxruntime', 'openvino', 'pydantic', 'prometheus_client'})"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "set()"
