"""What is refused by a look at the head, before anything else is done about a request."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.app import create_api, with_edge
from service.models.replica import Replica
from tests.doubles import GatedEngine, level_png, replica_around, started
from tests.service.replicas import outcomes, rejections

pytestmark = pytest.mark.anyio
KEY = b"secret"
IMAGE = level_png(1)


@asynccontextmanager
async def full(repository: Path, **settings: object) -> AsyncIterator[tuple[Replica, Any]]:
    """A replica with room for one image, which is inside, and its application."""
    engine = GatedEngine()
    async with started(replica_around(engine, repository / "models", max_inflight_images=1, **settings)) as replica:
        app = with_edge(create_api(replica))
        classifier = replica.models.find()
        inside = asyncio.create_task(classifier.classify(level_png(1), 1, classifier.promises.ticket(60.0)))
        with replica.admission.admit(classifier, classifier.promises.ticket(60.0)):
            yield replica, app
            engine.gate.set()
            await inside


def head(path: str = "/v1/classify", query: bytes = b"", method: str = "POST", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "query_string": query, "headers": named}


async def test_once_somebody_was_refused_it_pays_to_ask_who_is_turned_away(tmp_path: Path) -> None:
    async with full(tmp_path) as (replica, app):
        assert not app.full
        classifier = replica.models.find()
        assert replica.admission.refusal(classifier, classifier.promises.ticket())
        assert app.full
        status, headers, body = app.turn_away(head(x_request_id="mine"), IMAGE)
        assert status == 429
        assert b'"reason": "inflight_images"' in body
        assert dict(headers)[b"x-request-id"] == b"mine"
        assert int(dict(headers)[b"retry-after"]) >= 1
        assert dict(headers)[b"content-length"] == b"%d" % len(body)
        assert rejections(replica) == {"inflight_images": 1}
        assert outcomes(replica)["rejected"] == 1
    assert app.turn_away(head(), IMAGE) is None  # there is room again


@pytest.mark.parametrize(
    "request_",
    [
        head(x_deadline_ms="soon"),
        head(query=b"top=1"),
        head(method="GET"),
        head("/v2/models/echo"),
        head("/v2/models/nobody/infer"),
    ],
)
async def test_what_is_no_ordinary_request_goes_the_whole_way(tmp_path: Path, request_: dict[str, Any]) -> None:
    async with full(tmp_path) as (replica, app):
        replica.admission.refused_at = time.monotonic()
        assert app.turn_away(request_, IMAGE) is None


@pytest.mark.parametrize(
    "request_", [head(x_deadline_ms="9000"), head(x_priority="bulk"), head(query=b"top_k=1&model=echo")]
)
async def test_who_asks_for_something_is_turned_away_as_well(tmp_path: Path, request_: dict[str, Any]) -> None:
    async with full(tmp_path) as (replica, app):
        replica.admission.refused_at = time.monotonic()
        assert app.turn_away(request_, IMAGE)[0] == 429


async def test_a_place_is_held_for_the_time_that_is_asked_for(tmp_path: Path) -> None:
    async with started(replica_around(GatedEngine(), tmp_path / "models")) as replica:
        request = head(x_deadline_ms="9000", x_priority="bulk")
        assert with_edge(create_api(replica)).turn_away(request, IMAGE) is None
        _, ticket = request["mixer.held"]
        assert ticket.priority == "bulk"
        assert ticket.deadline == pytest.approx(asyncio.get_running_loop().time() + 9, abs=1)


async def test_infer_is_turned_away_in_its_protocols_words(tmp_path: Path) -> None:
    async with full(tmp_path) as (replica, app):
        replica.admission.refused_at = time.monotonic()
        for path in ("/v2/models/echo/infer", "/v2/models/echo/versions/1/infer"):
            status, _, body = app.turn_away(head(path), IMAGE)
            assert (status, body[:11]) == (429, b'{"error": "')


async def test_nobody_looks_for_room_for_who_has_no_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(hashlib.sha256(KEY).hexdigest())
    async with full(tmp_path, api_keys_file=keys) as (replica, app):
        replica.admission.refused_at = time.monotonic()
        asked = []
        replica.admission._make_room = lambda: bool(asked.append("for room"))
        assert app.turn_away(head(), IMAGE) is None
        assert not asked
        assert app.turn_away(head(x_api_key=KEY.decode()), IMAGE)[0] == 429
        assert asked
        assert rejections(replica) == {"inflight_images": 1}


async def test_a_key_beyond_its_rate_is_told_that(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{hashlib.sha256(KEY).hexdigest()} app rate=0.001 burst=1")
    async with full(tmp_path, api_keys_file=keys) as (replica, app):
        replica.admission.refused_at = time.monotonic()
        answers = [app.turn_away(head(x_api_key=KEY.decode()), IMAGE) for _ in range(2)]
        assert [b"rate_limit" in body for _, _, body in answers] == [False, True]


async def test_of_requests_that_are_read_at_once_no_more_pass_than_there_is_room_for(tmp_path: Path) -> None:
    async with started(replica_around(GatedEngine(), tmp_path / "models", max_inflight_images=2)) as replica:
        app = with_edge(create_api(replica))
        for _ in range(2):
            assert [app.turn_away(head(), IMAGE) is None for _ in range(4)] == [True, True, False, False]
            for _ in range(2):
                await asyncio.sleep(0)  # their tasks would have entered by now
        assert len(replica.models.find().promises) == 0


async def test_who_is_held_a_place_on_an_idle_service_is_not_alone_for_the_next(tmp_path: Path) -> None:
    async with started(replica_around(GatedEngine(), tmp_path / "models", latency_target_ms=1)) as replica:
        app = with_edge(create_api(replica))
        heavy = bytes(10**6)  # as far as can be told
        assert [app.turn_away(head(), heavy) is None for _ in range(3)] == [True, False, False]
