"""What is sent is what a real service takes."""

import json
from collections.abc import Iterator

import pytest

from benchmarks.load.connection import Answer, Connections
from benchmarks.load.forms import encode
from benchmarks.load.target import make_target
from tests.e2e.processes import GOLDEN, ServiceProcess, running_service

SEVEN, TWO = ((GOLDEN / f"digit-{digit}.png").read_bytes() for digit in (7, 2))


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_service("--latency-target-ms", "5000") as process:
        yield process


async def _post(service: ServiceProcess, preset: str, form: str | None, images: list[bytes], deadline: float) -> Answer:
    target = make_target(preset, service.url, form=form)
    headers, body = encode(target.form, images, deadline)
    connections = Connections(target.url)
    try:
        return await connections.ask(connections.request("POST", headers, body))
    finally:
        connections.close()


@pytest.mark.anyio
async def test_raw(service: ServiceProcess) -> None:
    answer = await _post(service, "mixer", None, [SEVEN], 4000)
    assert answer.status == 200
    assert json.loads(answer.body)["predictions"][0]["label"] == "7"


@pytest.mark.anyio
async def test_multipart_with_several_images(service: ServiceProcess) -> None:
    answer = await _post(service, "mixer-multipart", None, [SEVEN, TWO], 4000)
    assert answer.status == 200
    results = json.loads(answer.body)["results"]
    assert [result["predictions"][0]["label"] for result in results] == ["7", "2"]


@pytest.mark.anyio
@pytest.mark.parametrize("form", [None, "v2-json:image_bytes"])
@pytest.mark.parametrize("images", [[SEVEN], [SEVEN, TWO]], ids=len)
async def test_v2(service: ServiceProcess, form: str | None, images: list[bytes]) -> None:
    answer = await _post(service, "mixer-v2", form, images, 4000)
    assert answer.status == 200, answer
    (logits,) = (output for output in json.loads(answer.body)["outputs"] if output["name"] == "logits")
    rows = [logits["data"][10 * i : 10 * i + 10] for i in range(len(images))]
    assert [row.index(max(row)) for row in rows] == [7, 2][: len(images)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("preset", "form"),
    [("mixer", None), ("mixer-multipart", None), ("mixer-v2", None), ("mixer-v2", "v2-json:image_bytes")],
)
async def test_a_deadline_that_cannot_be_kept_is_heard(service: ServiceProcess, preset: str, form: str | None) -> None:
    assert (await _post(service, preset, form, [SEVEN], 0.001)).status in (429, 504)


@pytest.mark.parametrize("form", ["", "xml", "multipart", "v2-binary:", "RAW"])
def test_other_forms_are_refused(form: str) -> None:
    with pytest.raises(ValueError, match="is not one of raw, multipart:FIELD, v2-binary:INPUT or v2-json:INPUT"):
        encode(form, [b""])
