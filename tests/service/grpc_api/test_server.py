import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import create_api, with_edge
from service.models.replica import Replica
from tests.doubles import CLASSES, EchoEngine, FailingEngine, GatedEngine, level_png, replica_around, write_bundle
from tests.service import replicas
from tests.service.replicas import outcomes

grpc = pytest.importorskip("grpc", reason="mixer-serving[grpc] is not installed")

from service.grpc_api.messages import HEALTH, SERVICE, message  # noqa: E402
from tests.service.grpc_api.calls import Client, client_of, failure, files, levels, pixels, trailers  # noqa: E402

pytestmark = pytest.mark.anyio

Code = grpc.StatusCode
LARGEST = 10_000


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[Client]:
    async with client_of(replica) as client:
        yield client


def requests(replica: Replica, method: str = "ModelInfer") -> dict[str, float]:
    """Calls of a method by code."""
    return {
        sample.labels["code"]: sample.value
        for metric in replica.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "mixer_requests_total" and sample.labels["route"] == f"/{SERVICE}/{method}"
    }


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def test_pixels_and_files_are_answered_in_the_form_that_they_came_in(client: Client) -> None:
    typed = await client.infer(pixels(3, 250, 77, id="mine"))
    assert levels(typed) == [3, 250, 77]
    assert (typed.model_name, typed.model_version, typed.id) == ("echo", "1", "mine")
    assert not typed.raw_output_contents
    raw = await client.infer(files(level_png(9), level_png(8, (7, 5))))
    assert levels(raw) == [9, 8]
    assert [len(data) for data in raw.raw_output_contents] == [2 * 4 * CLASSES] * 2
    assert not any(output.HasField("contents") for output in raw.outputs)


async def test_the_answer_is_rests_bit_by_bit(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models")
    http = httpx.AsyncClient(transport=httpx.ASGITransport(with_edge(create_api(replica))), base_url="http://mixer")
    async with client_of(replica) as client, http:
        image = level_png(200, (9, 9))
        raw = {"inference-header-content-length": "0"}
        response = await http.post("/v2/models/echo/infer", content=image, headers=raw)
        length = int(response.headers["inference-header-content-length"])
        answer = await client.infer(files(image))
        assert b"".join(answer.raw_output_contents) == response.content[length:]


async def test_outputs_and_the_classification_extension(tmp_path: Path) -> None:
    write_bundle(tmp_path / "models", features=True)
    async with client_of(replica_around(EchoEngine(), tmp_path / "models")) as client:
        await outputs_of(client)


async def outputs_of(client: Client) -> None:
    request = files(level_png(7))
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    request.outputs.add(name="features")
    answer = await client.infer(request)
    assert [(output.name, output.datatype, list(output.shape)) for output in answer.outputs] == [
        ("probabilities", "BYTES", [1, 2]),
        ("features", "FP32", [1, 3]),
    ]
    best = answer.raw_output_contents[0]
    assert best[4 : 4 + int.from_bytes(best[:4], "little")].endswith(b":7:level 7")
    np.testing.assert_allclose(np.frombuffer(answer.raw_output_contents[1], "<f4"), [7, -93, 7 / 3], rtol=1e-6)
    typed = pixels(7)
    typed.outputs.add(name="probabilities").parameters["classification"].int64_param = 1
    (output,) = (await client.infer(typed)).outputs
    assert output.contents.bytes_contents[0].endswith(b":7:level 7")


async def test_every_error_has_its_status_and_what_http_says_of_it(client: Client, replica: Replica) -> None:
    shape, datatype, name = files(level_png(1)), files(level_png(1)), files(level_png(1))
    shape.inputs[0].shape[0] = 2
    datatype.inputs[0].datatype = "FP32"
    name.inputs[0].name = "pictures"
    both = pixels(1)
    both.inputs.extend(files(level_png(1)).inputs)
    sequence = files(level_png(1))
    sequence.parameters["sequence_id"].int64_param = 5
    for request, code, says in (
        (files(level_png(1), model_name="nope"), Code.NOT_FOUND, "no such model"),
        (files(level_png(1), model_version="9"), Code.NOT_FOUND, "no such model or version"),
        (files(level_png(1), model_name=""), Code.NOT_FOUND, "no such model"),
        (files(b"text"), Code.INVALID_ARGUMENT, "not an accepted image format"),
        (files(level_png(1)[:-20]), Code.INVALID_ARGUMENT, "truncated or damaged"),
        (files(level_png(1, (100, 100))), Code.INVALID_ARGUMENT, "pixels"),
        (files(), Code.INVALID_ARGUMENT, "must have shape"),
        (shape, Code.INVALID_ARGUMENT, "2 elements of its shape"),
        (datatype, Code.INVALID_ARGUMENT, "must be of datatype BYTES"),
        (name, Code.INVALID_ARGUMENT, "unknown input 'pictures'"),
        (both, Code.INVALID_ARGUMENT, "not both"),
        (sequence, Code.INVALID_ARGUMENT, "sequences"),
        (b"\xff", Code.INVALID_ARGUMENT, "not a ModelInferRequest"),
        (b"", Code.NOT_FOUND, "no such model"),
    ):
        error = await failure(client.infer(request))
        assert (error.code(), says in str(error.details())) == (code, True), error
        assert {"x-request-id", "server-timing", "error-code"} <= trailers(error).keys()
    counted = requests(replica)
    assert set(counted) == {"400", "404", "413", "415", "422"}
    assert sum(counted.values()) == 14
    assert levels(await client.infer(files(level_png(1)))) == [1]


async def test_a_fault_of_ours_is_internal_and_keeps_its_secret(tmp_path: Path) -> None:
    async with client_of(replica_around(FailingEngine(), tmp_path / "models")) as client:
        error = await failure(client.infer(files(level_png(FailingEngine.poison))))
        assert error.code() == Code.INTERNAL
        assert "secret" not in str(error.details())
        assert trailers(error)["x-request-id"] in str(error.details())


async def test_what_is_full_says_when_to_come_again(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_inflight_images=1, max_batch_size=1)
    async with client_of(replica) as client:
        first = client.infer(files(level_png(1)))
        await asyncio.to_thread(engine.entered.acquire)
        error = await failure(client.infer(files(level_png(2))))
        engine.gate.set()
        assert levels(await first) == [1]
    assert error.code() == Code.RESOURCE_EXHAUSTED
    told = trailers(error)
    assert (told["error-code"], told["error-reason"]) == ("over_capacity", "inflight_images")
    assert int(told["grpc-retry-pushback-ms"]) == 1000 * int(told["retry-after"]) > 0
    assert replicas.rejections(replica) == {"inflight_images": 1}


async def test_keys_are_https_and_asked_for_before_the_message(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{hashlib.sha256(b'right').hexdigest()} mine\n")
    replica = replica_around(EchoEngine(), tmp_path / "models", api_keys_file=keys)
    async with client_of(replica) as client:
        for metadata in ((), (("x-api-key", "wrong"),), (("authorization", "Basic right"),), (("key-bin", b"right"),)):
            error = await failure(client.infer(b"no message", metadata=metadata))
            assert error.code() == Code.UNAUTHENTICATED
        for metadata in ((("x-api-key", "right"),), (("authorization", "Bearer right"),)):
            assert levels(await client.infer(files(level_png(4)), metadata=metadata)) == [4]
            await client.call(
                "ModelMetadata", message("inference.ModelMetadataRequest")(name="echo"), metadata=metadata
            )
        for method in ("ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics"):
            assert (await failure(client.call(method))).code() == Code.UNAUTHENTICATED
        assert (await client.call("ServerLive")).live
        assert (await client.call("ServerReady")).ready
        ready = message("inference.ModelReadyRequest")
        assert (await client.call("ModelReady", ready(name="echo"))).ready
    counted = replica.metrics.registry.get_sample_value
    assert counted("mixer_key_requests_total", {"key": "mine", "outcome": "ok"}) == 4


async def test_the_calls_own_deadline_decides_at_the_door_and_inside(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1, latency_target_ms=60_000)
    async with client_of(replica) as client:
        error = await failure(client.infer(files(level_png(1)), metadata=(("x-deadline-ms", "0.001"),)))
        assert (error.code(), trailers(error)["error-code"]) == (Code.RESOURCE_EXHAUSTED, "over_capacity")
        error = await failure(client.infer(files(level_png(1)), timeout=0.4))
        assert error.code() == Code.DEADLINE_EXCEEDED
        await until(lambda: not replica.admission.inflight)
        engine.gate.set()
        assert levels(await client.infer(files(level_png(3)), timeout=60)) == [3]
        late = files(level_png(1))
        late.parameters["timeout"].int64_param = 1
        assert trailers(await failure(client.infer(late)))["error-reason"] == "deadline"
    assert {"expired", "ok"} <= outcomes(replica).keys()


async def test_a_client_that_leaves_takes_what_is_queued_with_it(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1)
    async with client_of(replica) as client:
        first = client.infer(files(level_png(1)))
        await asyncio.to_thread(engine.entered.acquire)
        many = [client.infer(files(level_png(2), level_png(3))) for _ in range(5)]
        await until(lambda: replica.admission.inflight == 11)
        for call in many:
            call.cancel()
        await until(lambda: replica.admission.inflight == 1)
        engine.gate.set()
        assert levels(await first) == [1]
        assert levels(await client.infer(files(level_png(9)))) == [9]
    assert outcomes(replica) == {"ok": 2, "cancelled": 10}
    assert requests(replica) == {"200": 2, "499": 5}
    assert engine.batch_sizes == [1, 1]  # nothing was computed for those who left


async def test_a_message_over_the_limit_is_refused_compressed_or_not(client: Client, replica: Replica) -> None:
    for compression in (None, grpc.Compression.Gzip):
        error = await failure(client.infer(files(bytes(LARGEST * 100)), compression=compression))
        assert error.code() == Code.RESOURCE_EXHAUSTED
        assert "larger than max" in str(error.details())
        packed = await client.infer(files(level_png(5)), compression=compression)
        assert levels(packed) == [5]
    assert replica.admission.inflight == 0


async def test_a_message_that_stalls_makes_room_for_others(tmp_path: Path) -> None:
    replica = replica_around(
        EchoEngine(), tmp_path / "models", max_body_bytes=2**20, max_inflight_bytes=2**20, deadline_ms=60_000
    )
    async with client_of(replica) as client:
        stalls = client.channel.stream_unary(f"/{SERVICE}/ModelInfer")()
        await stalls.wait_for_connection()
        await until(lambda: client.server._calls._arrivals._arriving)
        assert levels(await client.infer(files(level_png(5)))) == [5]
        error = await failure(stalls)
        assert (error.code(), trailers(error)["error-reason"]) == (Code.UNAVAILABLE, "slow_upload")
    assert outcomes(replica) == {"ok": 1}


async def test_who_sends_nothing_is_told_when_the_time_is_up(tmp_path: Path) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", deadline_ms=200)) as client:
        silent = client.channel.stream_unary(f"/{SERVICE}/ModelInfer")()
        assert (await failure(silent)).code() == Code.DEADLINE_EXCEEDED
        empty = client.channel.stream_unary(f"/{SERVICE}/ModelInfer")(iter(()))
        error = await failure(empty)
        assert (error.code(), error.details()) == (Code.INVALID_ARGUMENT, "the call has no message")


async def test_health_tells_readiness_and_liveness(client: Client, replica: Replica) -> None:
    check = message("grpc.health.v1.HealthCheckRequest")

    async def status(service: str) -> int:
        return int((await client.call("Check", check(service=service), HEALTH)).status)

    assert [await status(service) for service in ("", "readiness", "liveness", SERVICE)] == [1] * 4
    assert (await failure(client.call("Check", check(service="nope"), HEALTH))).code() == Code.NOT_FOUND
    replica.drain()
    assert [await status(service) for service in ("", "readiness", "liveness", SERVICE)] == [2, 2, 1, 2]
    assert not (await client.call("ServerReady")).ready
    assert (await client.call("ServerLive")).live
    ready = message("inference.ModelReadyRequest")
    assert not (await client.call("ModelReady", ready(name="echo"))).ready
    assert (await failure(client.call("ModelReady", ready(name="nope")))).code() == Code.NOT_FOUND


async def test_stopping_answers_those_inside_and_refuses_new_calls(tmp_path: Path) -> None:
    engine = GatedEngine()
    replica = replica_around(engine, tmp_path / "models", max_batch_size=1)
    async with client_of(replica) as client:
        inside = [client.infer(files(level_png(level))) for level in range(8)]
        await until(lambda: replica.admission.inflight == 8)
        stopping = asyncio.create_task(client.server.stop())
        await until(lambda: client.server._calls._closed)
        error = await failure(client.infer(files(level_png(9))))
        assert (error.code(), trailers(error)["error-reason"]) == (Code.UNAVAILABLE, "draining")
        assert not stopping.done()
        engine.gate.set()
        assert [levels(await call) for call in inside] == [[level] for level in range(8)]
        await stopping


async def test_a_hundred_calls_at_once_get_their_own_answers(tmp_path: Path) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", latency_target_ms=60_000)) as client:
        calls = [client.infer(files(level_png(level)), timeout=60) for level in range(100)]
        assert [levels(await call) for call in calls] == [[level] for level in range(100)]


async def test_each_of_two_models_answers_for_itself(tmp_path: Path) -> None:
    for name in ("echo", "other"):
        write_bundle(tmp_path / "models", name=name)
    async with client_of(replica_around(EchoEngine(), tmp_path / "models")) as client:
        for name in ("echo", "other"):
            assert (await client.infer(files(level_png(3), model_name=name))).model_name == name


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models"), connections=1) as client:
        assert levels(await client.infer(files(level_png(3)))) == [3]
        async with client.connect() as other:
            live = other.unary_unary(f"/{SERVICE}/ServerLive")
            assert (await failure(live(b"", timeout=30))).code() == Code.UNAVAILABLE
        assert levels(await client.infer(files(level_png(4)))) == [4]


async def test_probes_do_not_wait_for_messages_that_do_not_come(tmp_path: Path) -> None:
    replica = replica_around(EchoEngine(), tmp_path / "models", deadline_ms=60_000)
    async with client_of(replica) as client:
        silent = [client.channel.stream_unary(f"/{SERVICE}/ModelInfer")() for _ in range(40)]
        silent += [client.channel.stream_unary(f"/{SERVICE}/ServerLive")() for _ in range(8)]
        await until(lambda: len(client.server._calls._inside) == len(silent))
        for _ in range(3):
            assert (await client.call("ServerLive")).live
            assert (await client.call("Check", message("grpc.health.v1.HealthCheckRequest")(), HEALTH)).status == 1
        for call in silent:
            call.cancel()


async def test_a_message_that_says_more_than_names_is_not_parsed(tmp_path: Path) -> None:
    kind = message("inference.ModelMetadataRequest")
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", max_body_bytes=2**20)) as client:
        error = await failure(client.call("ModelMetadata", kind(name="n" * 2**17)))
        assert error.code() == Code.INVALID_ARGUMENT
        assert "says more than names" in error.details()
        assert (await failure(client.call("ModelMetadata", kind(name="n" * 2**15)))).code() == Code.NOT_FOUND


async def test_what_the_message_took_counts_against_the_calls_time(tmp_path: Path) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models")) as client:
        late = asyncio.Event()

        async def messages() -> AsyncIterator[Any]:
            await late.wait()
            yield files(level_png(1))

        infer = client.channel.stream_unary(
            f"/{SERVICE}/ModelInfer", message("inference.ModelInferRequest").SerializeToString
        )
        call = infer(messages(), metadata=(("x-deadline-ms", "300"),))
        await until(lambda: client.server._calls._arrivals._arriving)
        await asyncio.sleep(0.4)  # more than it is given
        late.set()
        error = await failure(call)
        assert (error.code(), trailers(error)["error-code"]) == (Code.RESOURCE_EXHAUSTED, "over_capacity")
