"""An image that needs no task is answered, counted and told of as one that has one."""

import asyncio
import hashlib
import json
import logging
import math
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from service.app import create_api, with_edge
from service.models.replica import Replica
from tests.doubles import EchoEngine, FailingEngine, GatedEngine, level_png, replica_around, started
from tests.service.api.test_hot import head
from tests.service.replicas import keep_busy, outcomes, rejections

pytestmark = pytest.mark.anyio
Answer = tuple[int, dict[bytes, bytes], Any]
IMAGE = level_png(7)


class Sending:
    """Where an answer goes."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()
        self.answer: Answer

    def write(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        assert not self.answered.is_set(), "answered twice"
        self.answer = status, dict(headers), body
        self.answered.set()


async def without_task(app: Any, scope: dict[str, Any], body: bytes) -> Answer:
    sending = Sending()
    assert app.serve_plain(scope, body, sending)
    await asyncio.wait_for(sending.answered.wait(), 10)
    return sending.answer


async def with_task(app: Any, scope: dict[str, Any], body: bytes) -> Answer:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    return start["status"], dict(start["headers"]), b"".join(message["body"] for message in rest)


def told(answer: Answer) -> tuple[int, set[bytes], Any]:
    """Of an answer what is not another one each time."""
    status, headers, body = answer
    told = json.loads(re.sub(rb"request id is \w+", b"", body))
    told.pop("timing_ms", None)
    assert headers[b"content-length"] == b"%d" % len(body)
    return status, headers.keys() | {headers[b"content-type"]}, told


def counted(replica: Replica) -> list[Any]:
    """What a replica counted, but for seconds."""
    model = replica.models.find()
    samples = [
        (sample.name, tuple(sample.labels.items()), sample.value)
        for metric in replica.metrics.registry.collect()
        for sample in metric.samples
        if re.search(r"^mixer_(requests_total|images_total|admitted|rejections|\w+_count|queue_depth)", sample.name)
        and sample.value
    ]
    statistics = model.statistics
    return [samples, statistics.success.count, statistics.fail.count, statistics.images, replica.admission.inflight]


@pytest.mark.parametrize(
    ("status", "scope", "body"),
    [
        (200, head(), IMAGE),
        (200, head(query=b"top_k=2&model=echo&version=1", x_priority="bulk", x_deadline_ms="9000"), IMAGE),
        (200, head(content_type="text/plain", accept="application/*", x_request_id="mine"), IMAGE),
        (400, head(query=b"top=2"), IMAGE),
        (400, head(x_deadline_ms="soon"), IMAGE),
        (404, head(query=b"model=nobody"), IMAGE),
        (406, head(accept="text/html"), IMAGE),
        (413, head(), level_png(7, (50, 50))),
        (415, head(), b'{"image": "aGVsbG8="}'),
        (415, head(), b"nothing of that sort"),
        (422, head(), IMAGE[:-30]),
        (500, head(), level_png(FailingEngine.poison)),
    ],
)
async def test_it_is_answered_and_counted_alike(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, scope: dict[str, Any], body: bytes
) -> None:
    caplog.set_level(logging.INFO)
    seen = []
    for number, way in enumerate((with_task, without_task)):
        caplog.clear()
        repository = tmp_path / str(number) / "models"
        replica = replica_around(FailingEngine(), repository, max_pixels=1000, log_requests="all")
        async with started(replica):
            answer = told(await way(with_edge(create_api(replica)), dict(scope), body))
            lines = [vars(record) for record in caplog.records if record.name == "service.edge.request_log"]
            fields = [{name: line.get(name) for name in ("model", "images", "code", "reason")} for line in lines]
            seen.append((answer, counted(replica), [line["message"] for line in lines], fields))
    assert seen[0] == seen[1]
    assert seen[1][0][0] == status
    assert len(seen[1][2]) == 1


@pytest.mark.parametrize(
    ("scope", "body"),
    [
        (head(method="GET"), IMAGE),
        (head("/v1/features"), IMAGE),
        (head("/v2/models/echo/infer"), IMAGE),
        (head(content_encoding="gzip"), IMAGE),
        (head(content_type="Multipart/Form-Data; boundary=x"), IMAGE),
        (head(content_type="application/json"), b"{}"),
        (head() | {"headers": [(b"content-type", b"application/json\xa0")]}, b"{}"),
        (head(), b""),
        (head(), bytes(1001)),
    ],
)
async def test_what_is_to_be_parsed_or_refused_by_its_size_has_a_task(
    tmp_path: Path, scope: dict[str, Any], body: bytes
) -> None:
    async with started(replica_around(EchoEngine(), tmp_path / "models", max_body_bytes=1000)) as replica:
        assert not with_edge(create_api(replica)).serve_plain(scope, body, Sending())  # type: ignore[attr-defined]
        assert counted(replica) == [[], 0, 0, 0, 0]


async def test_who_leaves_is_nobody_to_answer_and_its_image_is_not_passed(tmp_path: Path) -> None:
    engine, sending, left = GatedEngine(), Sending(), []
    async with started(replica_around(engine, tmp_path / "models", max_batch_size=1)) as replica:
        app = with_edge(create_api(replica))
        first = asyncio.create_task(without_task(app, head(), IMAGE))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        assert app.serve_plain(head() | {"mixer.on_leave": left.append}, IMAGE, sending)  # type: ignore[attr-defined]
        left[0]()
        await sending.answered.wait()
        engine.gate.set()
        assert (await first)[0] == 200
    assert sending.answer[0] == 499
    assert engine.batch_sizes == [1]
    assert outcomes(replica) == {"ok": 1, "cancelled": 1}


async def test_a_deadline_ends_it_and_a_full_house_refuses_it(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with started(replica_around(engine, tmp_path / "models", max_batch_size=1)) as replica:
        app = with_edge(create_api(replica))
        first = asyncio.create_task(without_task(app, head(), IMAGE))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        assert (await without_task(app, head(x_deadline_ms="250"), IMAGE))[0] == 504
        keep_busy(replica, 3)
        status, headers, body = await without_task(app, head(x_deadline_ms="1000"), IMAGE)
        assert (status, json.loads(body)["error"]["reason"]) == (429, "deadline")
        assert int(headers[b"retry-after"]) in (2, 3)
        engine.gate.set()
        assert (await first)[0] == 200
    assert outcomes(replica) == {"ok": 1, "expired": 1, "rejected": 1}
    assert rejections(replica) == {"deadline": 1}


async def test_the_rate_of_a_key_is_spent_once(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{hashlib.sha256(b'secret').hexdigest()} alice rate=0.001 burst=2\n")
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=keys)
    async with started(replica):
        app = with_edge(create_api(replica))
        statuses = [
            (await without_task(app, head(x_api_key=key), IMAGE))[0] for key in ("secret", "x", "secret", "secret")
        ]
    assert statuses == [200, 401, 200, 429]


async def test_a_place_that_is_held_is_taken_by_who_is_served_at_once(tmp_path: Path) -> None:
    async with started(replica_around(EchoEngine(), tmp_path / "models", max_inflight_images=1)) as replica:
        app = with_edge(create_api(replica))
        replica.admission.refused_at = math.inf
        scope = head()
        assert app.turn_away(scope, IMAGE) is None  # type: ignore[attr-defined]
        assert (await without_task(app, scope, IMAGE))[0] == 200
        assert not replica.admission._coming
        assert (await without_task(app, head(), IMAGE))[0] == 200
    assert outcomes(replica) == {"ok": 2}


async def test_where_an_answer_cannot_be_written_its_connection_ends(tmp_path: Path) -> None:
    class Broken(Sending):
        def write(self, *_: object) -> None:
            raise RuntimeError("a fault of ours")

        def abort(self) -> None:
            self.answered.set()

    sending = Broken()
    async with started(replica_around(EchoEngine(), tmp_path / "models")) as replica:
        assert with_edge(create_api(replica)).serve_plain(head(), IMAGE, sending)  # type: ignore[attr-defined]
        await asyncio.wait_for(sending.answered.wait(), 10)
        assert replica.admission.inflight == 0
    assert outcomes(replica) == {"ok": 1}
