"""The client against the real service, and the examples of docs/client.md as they stand there."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client import AsyncMixerClient, Classification, MixerClient, MixerError
from tests.e2e.processes import GOLDEN, ROOT, ServiceProcess, running_service

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service() as service:
        yield service


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_prints_what_it_says(service: ServiceProcess, example: str) -> None:
    program = example.replace("http://localhost:8000", service.url)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    promised = re.findall(r"print\(.*\)  # (.*)$", example, re.MULTILINE)
    assert promised
    assert sorted(result.stdout.splitlines()) == sorted(promised)


def test_every_digit_and_no_image(service: ServiceProcess) -> None:
    images: list[bytes | Path] = [GOLDEN / f"digit-{digit}.png" for digit in range(10)]
    with MixerClient(service.url) as client:
        assert client.ready()
        results = client.classify_many([*images, b""], top_k=1)
        for digit, result in enumerate(results[:-1]):
            assert isinstance(result, Classification)
            assert result.predictions[0].label == str(digit)
        assert isinstance(results[-1], MixerError)
        assert (results[-1].status, results[-1].reason) == (400, "empty_body")
        with pytest.raises(MixerError) as refused:
            client.classify(images[0], model="other")
        assert (refused.value.status, refused.value.code) == (404, "unknown_model")


@pytest.mark.anyio
async def test_the_same_with_asyncio(service: ServiceProcess) -> None:
    async with AsyncMixerClient(service.url) as client:
        assert await client.ready()
        results = await client.classify_many([GOLDEN / "digit-4.png", b"nothing"], top_k=1)
    assert isinstance(results[0], Classification)
    assert results[0].predictions[0].label == "4"
    assert isinstance(results[1], MixerError)
    assert results[1].code == "unsupported_image"


@pytest.mark.anyio
async def test_not_ready_where_nobody_is(service: ServiceProcess) -> None:
    with MixerClient("http://127.0.0.1:9") as client:
        assert not client.ready()
    async with AsyncMixerClient("http://127.0.0.1:9") as client:
        assert not await client.ready()
