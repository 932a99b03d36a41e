import pytest

from benchmarks.robustness.fuzz import measure_fuzz
from benchmarks.robustness.mutations import Seed, mutated, seeds
from benchmarks.servers.own import own_service
from service.images.header import FORMATS
from tests.doubles import level_png
from tests.e2e.processes import GOLDEN


def test_the_same_seed_gives_the_same_images_and_another_gives_others() -> None:
    intact, again = seeds(), seeds()
    assert {seed.format for seed in intact} == set(FORMATS)
    images = [mutated(intact, 1, number) for number in range(50)]
    assert images == [mutated(again, 1, number) for number in range(50)]
    assert images != [mutated(intact, 2, number) for number in range(50)]
    assert mutated([Seed("GIF", b"G")] * 2, 3, 1).data  # however short
    assert len({image.data for image in images} - {seed.data for seed in intact}) > 40


@pytest.mark.anyio
async def test_some_hundred_damaged_images_are_all_answered_as_documented() -> None:
    digit = (GOLDEN / "digit-7.png").read_bytes()
    with own_service() as service:
        result = await measure_fuzz(service.url, service.metrics_url, (digit, 7), images=400, seed=1)
    (row,) = result.tables["rows"]
    assert row["unexpected"] == "none"
    assert row["digits in between"] == {"right": 20}
    answers = row["answers"]
    assert isinstance(answers, dict)
    assert {"200", "415", "422"} <= answers.keys()


@pytest.mark.anyio
async def test_a_wrong_answer_in_between_is_seen() -> None:
    with own_service() as service:
        result = await measure_fuzz(service.url, service.metrics_url, (level_png(1), 99), images=1, seed=1)
    assert result.tables["rows"][0]["digits in between"] == {"wrong: 200": 1}
