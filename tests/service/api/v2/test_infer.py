import asyncio
import gzip
import json
import zlib
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.doubles import CLASSES, EchoEngine, FailingEngine, GatedEngine, level_png, replica_around
from tests.service.api.v2.messages import INFER, files, levels, pixels
from tests.service.replicas import client_of, keep_busy, outcomes

pytestmark = pytest.mark.anyio


async def test_pixels_and_files_in_json_binary_and_raw(client: httpx.AsyncClient) -> None:
    assert levels(await client.post(INFER, json=pixels(3, 250, 77))) == [3, 250, 77]
    body, headers = files(level_png(9), level_png(8, (7, 5)))
    assert levels(await client.post(INFER, content=body, headers=headers)) == [9, 8]
    raw = await client.post(INFER, content=level_png(6), headers={"inference-header-content-length": "0"})
    assert raw.headers["content-type"] == "application/octet-stream"
    length = int(raw.headers["inference-header-content-length"])
    assert [output["shape"] for output in json.loads(raw.content[:length])["outputs"]] == [[1, CLASSES]] * 2
    assert np.frombuffer(raw.content[length : length + 4 * CLASSES], "<f4").argmax() == 6
    assert len(raw.content) == length + 2 * 4 * CLASSES


async def test_the_answer_names_the_model_and_echoes_the_id(client: httpx.AsyncClient) -> None:
    head = (await client.post(INFER, json=pixels(1, id="mine"))).json()
    assert (head["model_name"], head["model_version"], head["id"]) == ("echo", "1", "mine")
    assert "id" not in (await client.post(INFER, json=pixels(1))).json()


async def test_the_classification_extension(client: httpx.AsyncClient) -> None:
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    (output,) = (await client.post(INFER, json=pixels(7, outputs=outputs))).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    best, second = output["data"]
    assert best.endswith(":7:level 7")
    assert float(best.split(":")[0]) > 0.99
    assert second.endswith(":0:level 0")


async def test_logits_are_those_of_v1s_prediction(client: httpx.AsyncClient) -> None:
    image = level_png(200, (9, 9))
    (best,) = (await client.post("/v1/classify?top_k=1", content=image)).json()["predictions"]
    body, headers = files(image)
    assert levels(await client.post(INFER, content=body, headers=headers)) == [best["index"]]


@pytest.mark.parametrize("length", ["-1", "1.5", "x", "", "٣", "9" * 19, "9" * 18])
async def test_a_header_length_that_cannot_be_is_refused(client: httpx.AsyncClient, length: str) -> None:
    headers = [(b"inference-header-content-length", length.encode())]
    response = await client.post(INFER, content=json.dumps(pixels(1)), headers=headers)
    assert response.status_code == 400
    assert "ength" in response.json()["error"]


@pytest.mark.parametrize(
    ("images", "status", "says"),
    [
        ([level_png(1), b"no image"], 415, "image 1: "),
        ([level_png(1)[:40], level_png(1)], 422, "image 0: "),
        ([level_png(1, (40, 30))], 413, "image 0: "),
        ([b"", level_png(1)], 400, "image 0: "),
        ([level_png(1)] * 65, 400, "N from 1 to 64"),
        ([b"x" * 10_001], 413, "10000 bytes"),
    ],
)
async def test_one_bad_image_fails_the_request(
    client: httpx.AsyncClient, images: list[bytes], status: int, says: str
) -> None:
    body, headers = files(*images)
    response = await client.post(INFER, content=body, headers=headers)
    assert response.status_code == status
    assert says in response.json()["error"]


async def test_an_engine_failure_fails_the_request_with_its_id(tmp_path: Path) -> None:
    replica = replica_around(FailingEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        response = await client.post(INFER, json=pixels(7, FailingEngine.poison))
        assert response.status_code == 500
        assert response.headers["x-request-id"] in response.json()["error"]
        assert levels(await client.post(INFER, json=pixels(7))) == [7]
        assert replica.admission.inflight == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_requests(client: httpx.AsyncClient, encoding: str) -> None:
    body, headers = files(level_png(44))
    body = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    assert levels(await client.post(INFER, content=body, headers=headers | {"content-encoding": encoding})) == [44]


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(bytes(10_001)), "gzip", 413),
        (gzip.compress(b"{}")[:-1], "gzip", 400),
        (b"{}", "gzip", 400),
        (b"{}", "br", 415),
    ],
)
async def test_compressed_requests_that_cannot_be_read(
    client: httpx.AsyncClient, body: bytes, encoding: str, status: int
) -> None:
    response = await client.post(INFER, content=body, headers={"content-encoding": encoding})
    assert response.status_code == status
    assert isinstance(response.json()["error"], str)


async def test_a_compressed_body_counts_as_what_it_inflates_to(tmp_path: Path) -> None:
    body = json.dumps(pixels(1)).encode()
    compressed = gzip.compress(body)
    room = len(body) + len(compressed) - 1
    replica = replica_around(EchoEngine(), tmp_path / "models", max_body_bytes=len(body), max_inflight_bytes=room)
    async with client_of(replica) as client:
        refused = await client.post(INFER, content=compressed, headers={"content-encoding": "gzip"})
        assert refused.status_code == 429
        assert levels(await client.post(INFER, content=body)) == [1]


async def test_responses_are_compressed_where_that_is_accepted(client: httpx.AsyncClient) -> None:
    response = await client.post(INFER, json=pixels(1), headers={"accept-encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert levels(response) == [1]
    plain = await client.post(INFER, json=pixels(1), headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert len(plain.content) > int(response.headers["content-length"])


async def test_a_timeout_that_cannot_be_kept_is_refused_once_it_is_read(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1)
    async with client_of(replica) as client:
        first = asyncio.create_task(client.post(INFER, json=pixels(1)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        keep_busy(replica, 3)
        refused = await client.post(INFER, json=pixels(2, parameters={"timeout": 1_000_000}))
        assert refused.status_code == 429
        assert "deadline" in refused.json()["error"]
        assert int(refused.headers["retry-after"]) in (2, 3)
        keep_busy(replica, 0)
        late = await client.post(INFER, json=pixels(2, parameters={"timeout": 50_000}))
        assert late.status_code in (429, 504)
        engine.gate.set()
        assert levels(await first) == [1]
    assert engine.batch_sizes == [1]
    assert outcomes(replica)["ok"] == 1


async def test_an_idle_service_tries_any_timeout_that_a_pass_fits_into(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models")
    async with client_of(replica) as client:
        hopeless = await client.post(INFER, json=pixels(1, parameters={"timeout": 1}))
        assert hopeless.status_code == 429
        replica.models.classifiers[
            0
        ].promises.decode_times._usual.value = 1000.0  # what is believed of decoding is no reason
        assert levels(await client.post(INFER, json=pixels(1, parameters={"timeout": 30_000_000}))) == [1]
    assert outcomes(replica) == {"ok": 1, "expired": 1}


async def test_a_timeout_may_be_longer_than_the_default(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", deadline_ms=300)
    async with client_of(replica) as client, asyncio.timeout(30):
        patient = asyncio.create_task(client.post(INFER, json=pixels(1, parameters={"timeout": 20_000_000})))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        impatient = await client.post(INFER, json=pixels(2))
        assert impatient.status_code in (429, 504)
        engine.gate.set()
        assert levels(await patient) == [1]


@pytest.mark.parametrize(
    ("parameters", "header", "priority"),
    [
        ({}, None, "interactive"),
        ({"priority": 0}, "bulk", "bulk"),
        ({"priority": 1}, "bulk", "interactive"),
        ({"priority": 2}, None, "bulk"),
        ({"priority": 9}, "interactive", "bulk"),
    ],
)
async def test_priority(tmp_path: Path, parameters: dict[str, int], header: str | None, priority: str) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models")
    async with client_of(replica) as client:
        headers = {"x-priority": header} if header else {}
        body = pixels(1, 2, parameters=parameters)
        running = asyncio.create_task(client.post(INFER, json=pixels(0)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        asking = asyncio.create_task(client.post(INFER, json=body, headers=headers))
        ahead = replica.models.classifiers[0].promises
        async with asyncio.timeout(10):
            while len(ahead) < 2:
                await asyncio.sleep(0)
        assert [ticket.priority for ticket in ahead._ahead] == [priority] * 2
        engine.gate.set()
        assert levels(await asking) == [1, 2]
        assert levels(await running) == [0]


@pytest.mark.parametrize("parameters", [{"priority": 2}, {"timeout": 100_000_000}])
async def test_whose_body_says_that_it_is_patient_leaves_places_too(tmp_path: Path, parameters: dict[str, int]) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_inflight_images=8)
    async with client_of(replica) as client, asyncio.timeout(30):
        others = [asyncio.create_task(client.post(INFER, json=pixels(level))) for level in range(7)]
        while replica.admission.inflight < 7:
            await asyncio.sleep(0)
        refused = await client.post(INFER, json=pixels(9, parameters=parameters))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "8 images are inside, of 7" in refused.json()["error"]
        engine.gate.set()
        assert [levels(await other) for other in others] == [[level] for level in range(7)]


async def test_the_first_image_ends_as_it_did_and_not_as_the_one_that_failed(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_inflight_images=1)
    body, headers = files(level_png(1), level_png(2))
    async with client_of(replica) as client:
        refused = await client.post(INFER, content=body, headers=headers)
        assert refused.status_code == 429
        assert replica.admission.inflight == 0
        engine.gate.set()
    assert outcomes(replica) == {"cancelled": 1, "rejected": 1}


async def test_an_image_that_fails_withdraws_the_others(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1)
    body, headers = files(b"no image", *(level_png(level) for level in range(20)))
    async with client_of(replica) as client:
        refused = await client.post(INFER, content=body, headers=headers | {"x-deadline-ms": "600000"})
        assert refused.status_code == 415
        assert "image 0: " in refused.json()["error"]
        assert replica.admission.inflight == 0
        engine.gate.set()
    assert len(engine.batch_sizes) <= 1
    counted = outcomes(replica)
    assert sum(counted.values()) == 21
    assert counted["cancelled"] >= 18
