"""A good client beside others that mean harm, or have bad luck: it is answered all the same, and probes are too."""

import asyncio
import gzip
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.e2e.processes import GOLDEN, ServiceProcess, add_digits, running_service

pytestmark = pytest.mark.anyio

SEVEN = (GOLDEN / "digit-7.png").read_bytes()
PATIENT = {"x-deadline-ms": "60000"}  # a slow machine is not what is tested


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_service() as service:
        yield service


@asynccontextmanager
async def beside(count: int, neighbour: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """So many of them for the length of the block."""
    tasks = [asyncio.create_task(neighbour()) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answers(service: ServiceProcess, count: int) -> list[int]:
    """The statuses that a good client gets, asking one image after the other, and probing between them."""
    statuses = []
    async with httpx.AsyncClient(base_url=service.url, timeout=60, headers=PATIENT) as client:
        for _ in range(count):
            response = await client.post("/v1/classify", content=SEVEN)
            statuses.append(response.status_code)
            if response.status_code == 200:
                assert response.json()["predictions"][0]["label"] == "7"
            assert (await client.get("/healthz/live")).status_code == 200
            assert (await client.get("/healthz/ready")).status_code == 200
    return statuses


@pytest.mark.parametrize("count", [16, 200])
@pytest.mark.parametrize("head", ["Content-Length: 16777216", "Transfer-Encoding: chunked"])
async def test_uploads_that_trickle(service: ServiceProcess, count: int, head: str) -> None:
    async def trickle() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        with closing(writer):
            writer.write(f"POST /v1/classify HTTP/1.1\r\nHost: mixer\r\n{head}\r\n\r\n".encode())
            while True:
                writer.write(b"1\r\nx\r\n" if "chunked" in head else b"x" * 16)
                await writer.drain()
                await asyncio.sleep(0.1)

    async with beside(count, trickle):
        assert await answers(service, 100) == [200] * 100


async def test_large_honest_images_in_bulk(service: ServiceProcess) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((1280, 720)).convert("RGB").save(file, "PNG")
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:

        async def bulk() -> None:
            while True:
                await client.post("/v1/classify", content=file.getvalue(), headers={"x-priority": "bulk"})

        async with beside(32, bulk):
            assert await answers(service, 50) == [200] * 50


async def test_large_honest_images_of_equals(service: ServiceProcess) -> None:
    file, served, overtaken = io.BytesIO(), 0, list[int]()
    Image.effect_noise((1280, 720), 8).convert("RGB").save(file, "PNG", compress_level=1)
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as many:

        async def large() -> None:
            nonlocal served
            while True:
                served += (await many.post("/v1/classify", content=file.getvalue())).status_code == 200

        async with (
            beside(32, large),
            httpx.AsyncClient(base_url=service.url, timeout=60) as good,
            asyncio.timeout(60),
        ):
            while len(overtaken) < 40:
                before = served
                if (await good.post("/v1/classify", content=SEVEN)).status_code == 200:
                    overtaken.append(served - before)
    assert sorted(overtaken)[20] <= 8  # of the 32 that came before it


@pytest.mark.parametrize("patience", [{}, {"x-priority": "bulk", "x-deadline-ms": "100000"}])
async def test_forms_that_fill_every_place(service: ServiceProcess, patience: dict[str, str]) -> None:
    form = [("image", ("image", SEVEN))] * 64
    async with httpx.AsyncClient(base_url=service.url, timeout=60, headers=patience) as client:

        async def forms() -> None:
            while True:
                await client.post("/v1/classify", files=form)

        async with beside(8, forms), httpx.AsyncClient(base_url=service.url, timeout=60) as good:
            statuses = [(await good.post("/v1/classify", content=SEVEN)).status_code for _ in range(50)]
        assert statuses == [200] * 50


async def test_bodies_that_take_long_to_parse_and_are_refused(service: ServiceProcess) -> None:
    """Each is 16 MB of JSON in 16 KB; what a refused one took is free again at once."""
    nested = gzip.compress(b'{"image":' + b"[" * 16_000_000)
    numbers = b",".join([b"1"] * 8_000_000)
    tensor = gzip.compress(b'{"inputs":[{"name":"images","shape":[1],"datatype":"UINT8","data":[%b]}]}' % numbers)
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:

        async def parsed() -> None:
            while True:
                for path, content in (("/v1/classify", nested), ("/v2/models/digits/infer", tensor)):
                    await client.post(path, content=content, headers=headers)

        async with beside(4, parsed):
            assert await answers(service, 100) == [200] * 100
        assert service.metrics()["process_resident_memory_bytes"] < 500 * 2**20


async def test_one_model_beside_a_crowd_at_another(tmp_path: Path) -> None:
    for name in ("crowded", "quiet"):
        add_digits(tmp_path, name=name)
    with running_service("--model-repository", str(tmp_path), "--max-inflight-images", "128") as service:
        async with (
            httpx.AsyncClient(base_url=service.url, timeout=60, limits=httpx.Limits(max_connections=64)) as many,
            httpx.AsyncClient(base_url=service.url, timeout=60, headers=PATIENT) as one,
        ):

            async def crowd() -> None:
                while True:
                    await many.post("/v1/classify?model=crowded", content=SEVEN)

            async with beside(64, crowd):
                statuses = [(await one.post("/v1/classify?model=quiet", content=SEVEN)).status_code for _ in range(50)]
        assert statuses == [200] * 50
