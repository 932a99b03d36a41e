import pytest

from benchmarks.own_service import own_service
from benchmarks.soak import measure_soak, memory_growth
from tests.doubles import level_png

pytestmark = pytest.mark.anyio


def test_growth_is_that_after_warming_up() -> None:
    assert memory_growth([(float(i), 100.0 if i < 10 else 200.0) for i in range(100)]) == pytest.approx(0)
    assert memory_growth([(float(i), 100.0 + i) for i in range(100)]) == pytest.approx(194.5 / 114.5 - 1)


async def test_a_short_soak_of_the_real_service_settles_every_image() -> None:
    with own_service() as (url, metrics_url):
        result = await measure_soak(url, metrics_url, [level_png(3, (64, 64))], seconds=3, load=0.3)
    (row,) = result.tables["rows"]
    outcomes, answers = row["outcomes"], row["answers"]
    assert isinstance(outcomes, dict)
    assert isinstance(answers, dict)
    assert row["unsettled"] == 0
    assert outcomes["error"] == 0
    assert 0 < answers["200"] <= outcomes["ok"] <= answers["200"] + answers.get("left", 0)
    assert answers.get("422", 0) == outcomes["invalid"]
    assert answers.keys() <= {"200", "422", "429", "left"}
