import logging
import time
from pathlib import Path

import httpx
import pytest

from service.scheduling.loop_lag import LoopLag
from service.settings import LoggedRequests
from tests.doubles import EchoEngine, level_png, replica_around
from tests.service.api.test_hot import IMAGE, full, head
from tests.service.api.v2.messages import INFER, pixels
from tests.service.edge.application import Application, answer_of, connected
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, object]]]:
    """Message and fields of the requests' lines, but for what no test can know."""
    fields = ("model", "images", "status", "code", "reason")
    lines = [record for record in caplog.records if record.name == "service.edge.request_log"]
    assert all(vars(line)["request_id"] and vars(line)["ms"] >= 0 for line in lines)
    return [(line.getMessage(), {name: vars(line)[name] for name in fields if name in vars(line)}) for line in lines]


async def ask(client: httpx.AsyncClient) -> None:
    form = [("image", level_png(level)) for level in (1, 2, 3)]
    await client.post("/v1/classify", files=form)
    await client.post("/v1/classify", content=b"no image")
    await client.post(INFER, json=pixels(5))
    await client.post("/v1/classify?top=1", content=level_png(1))
    await client.post("/v1/classify", content=level_png(1), headers={"x-deadline-ms": "0.000001"})
    await client.get("/v2/models/none/config")
    await client.get("/nowhere")
    for quiet in (
        "/healthz/ready",
        "/v2/health/live",
        "/page/status",
        "/page/page.js",
        "/page/none.js",
        "/docs/none.js",
    ):
        await client.get(quiet)


OK = [
    ("POST /v1/classify 200", {"model": "echo/1", "images": 3, "status": 200}),
    ("POST /v2/models/{model}/infer 200", {"model": "echo/1", "images": 1, "status": 200}),
]
REFUSED = [("POST /v1/classify 429", {"model": "echo/1", "status": 429, "code": "over_capacity", "reason": "deadline"})]
FAILED = [
    ("POST /v1/classify 415", {"model": "echo/1", "images": 1, "status": 415, "code": "unsupported_image"}),
    ("POST /v1/classify 400", {"status": 400, "code": "malformed_request", "reason": "parameter"}),
    ("GET /v2/models/{model}/config 404", {"status": 404, "code": "unknown_model"}),
    ("GET unmatched 404", {"status": 404, "code": "not_found"}),
]


@pytest.mark.parametrize(
    ("logged", "expected"),
    [("all", OK + REFUSED + FAILED), ("errors", FAILED), ("off", [])],
    ids=["all", "errors", "off"],
)
async def test_lines_and_their_fields(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    logged: LoggedRequests,
    expected: list[object],
) -> None:
    monkeypatch.setattr(LoopLag, "on_the_way", 0.0)  # however busy the machine is
    caplog.set_level(logging.INFO)
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", log_requests=logged)) as client:
        await ask(client)
    lines = told(caplog)
    assert sorted(lines, key=str) == sorted(expected, key=str)


async def test_a_probe_that_fails_is_quiet_unless_the_fault_is_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    replica = replica_around(EchoEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        replica.drain()
        assert (await client.get("/healthz/ready")).status_code == 503
        assert told(caplog) == []
        monkeypatch.setattr(replica, "check_ready", None)
        assert (await client.get("/healthz/ready")).status_code == 500
    assert told(caplog) == [("GET /healthz/ready 500", {"status": 500, "code": "internal"})]


async def test_who_is_turned_away_has_the_same_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with full(tmp_path, log_requests="all") as (replica, app):
        replica.admission.refused_at = time.monotonic()
        assert app.turn_away(head(), IMAGE)
    fields = {"model": "echo/1", "status": 429, "code": "over_capacity", "reason": "inflight_images"}
    assert told(caplog) == [("POST /v1/classify 429", fields)]


async def test_what_never_became_a_request_has_a_line(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(application) as (reader, writer):
        writer.write(b"nonsense\r\n\r\n")
        await answer_of(reader)
    (line,) = (record for record in caplog.records if record.name == "service.edge.request_log")
    assert line.getMessage() == "refused while reading 400"
    fields = {"status": 400, "code": "malformed_request", "reason": "http", "detail": "this is not HTTP/1.1"}
    assert {name: vars(line)[name] for name in fields} == fields
    assert vars(line)["client"] == "127.0.0.1"
