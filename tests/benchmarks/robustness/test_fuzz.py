from collections.abc import Iterator

import pytest

from benchmarks.robustness.doors import DOORS
from benchmarks.robustness.fuzz import Digit, fuzzed, measure_fuzz
from benchmarks.robustness.mutations import Seed, mutated, seeds
from benchmarks.robustness.sending import OK, sender
from benchmarks.servers.own import OwnService, own_service
from service.images.formats import FORMATS
from tests.doubles import level_png
from tests.e2e.processes import GOLDEN

SEVEN = Digit((GOLDEN / "digit-7.png").read_bytes(), 7)


@pytest.fixture(scope="module")
def service() -> Iterator[OwnService]:
    with own_service("service", "--engine", "onnxruntime", grpc=True) as service:
        yield service


def test_the_same_seed_gives_the_same_images_and_another_gives_others() -> None:
    intact, again = seeds(), seeds()
    assert {seed.format for seed in intact} == set(FORMATS)
    images = [mutated(intact, 1, number) for number in range(50)]
    assert images == [mutated(again, 1, number) for number in range(50)]
    assert images != [mutated(intact, 2, number) for number in range(50)]
    assert mutated([Seed("GIF", b"G")] * 2, 3, 1).data  # however short
    assert len({image.data for image in images} - {seed.data for seed in intact}) > 40
    assert fuzzed(intact, b"", 1, 7) == fuzzed(again, b"", 1, 7) != fuzzed(intact, b"", 2, 7)


@pytest.mark.anyio
async def test_some_hundred_damaged_requests_are_all_answered_as_documented(service: OwnService) -> None:
    result = await measure_fuzz(service, SEVEN, count=400, seed=1)
    (row,) = result.tables["rows"]
    assert row["unexpected"] == "none"
    digits, answers = row["digits"], row["answers"]
    assert isinstance(digits, dict)
    assert isinstance(answers, dict)
    assert digits.keys() == {"right"}
    assert digits["right"] > 20
    assert {"200", "400", "415", "422", "OK", "INVALID_ARGUMENT"} <= answers.keys()
    assert row["lanes lost"] == 0
    assert {counted["door"] for counted in result.tables["by door"]} == set(DOORS)
    assert result.tables["the costliest"]


@pytest.mark.anyio
async def test_a_wrong_answer_in_between_is_seen(service: OwnService) -> None:
    result = await measure_fuzz(service, Digit(level_png(1), 99), count=1, seed=1)
    digits = result.tables["rows"][0]["digits"]
    assert isinstance(digits, dict)
    assert digits["wrong"] >= 1


@pytest.mark.anyio
async def test_an_intact_image_gets_its_answer_through_every_door(service: OwnService) -> None:
    """Or what is damaged would be refused for another reason."""
    async with sender(service) as to:
        for door in DOORS.values():
            answer = await to.send(door(SEVEN.data, SEVEN.data))
            assert answer.status in OK, answer
            assert answer.body


@pytest.mark.anyio
async def test_what_grpc_refuses_is_told_by_its_name(service: OwnService) -> None:
    async with sender(service) as to:
        request = DOORS["gRPC, raw"](b"no image", b"")
        assert (await to.send(request)).status == "INVALID_ARGUMENT"
        assert (await to.send(request._replace(body=request.body.replace(b"digits", b"others")))).status == "NOT_FOUND"
