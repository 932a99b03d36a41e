import asyncio

import pytest

from service.admission import Admission
from service.errors import DeadlineExceeded, InvalidImage, Overloaded
from service.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def admission(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Admission:
    counted: list[str] = []
    monkeypatch.setattr(metrics, "count_image", lambda model, outcome: counted.append(outcome))
    admission = Admission(2, 1000, metrics)
    admission.counted = counted  # type: ignore[attr-defined]
    return admission


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidImage("x"), "invalid"),
        (DeadlineExceeded("x"), "expired"),
        (asyncio.CancelledError(), "cancelled"),
        (ZeroDivisionError(), "error"),
    ],
)
def test_how_the_block_ends_is_how_the_image_ends(admission: Admission, error: BaseException, outcome: str) -> None:
    with pytest.raises(type(error)), admission.admit("m", 10):
        raise error
    with admission.admit("m", 10):
        pass
    assert admission.counted == [outcome, "ok"]  # type: ignore[attr-defined]
    assert admission.inflight == 0


def test_over_the_limit_is_refused_with_the_time_to_retry(admission: Admission, metrics: Metrics) -> None:
    with admission.admit("m", 10), admission.admit("m", 10):
        assert metrics.registry.get_sample_value("mixer_inflight_images") == 2
        with pytest.raises(Overloaded) as caught, admission.admit("m", images_per_second=0.5):
            pass
        assert (caught.value.retry_after, caught.value.reason) == (4, "inflight_images")
        with pytest.raises(Overloaded) as caught, admission.admit("m", images_per_second=1000):
            pass
        assert caught.value.retry_after == 1
    with admission.admit("m", 10):
        pass
    assert admission.counted == ["rejected", "rejected", "ok", "ok", "ok"]  # type: ignore[attr-defined]


def test_a_place_handed_over_is_free_again_and_not_counted(admission: Admission) -> None:
    with admission.admit("m", 10) as place:
        place.hand_over()
    assert (admission.inflight, admission.counted) == (0, [])  # type: ignore[attr-defined]


def test_no_more_are_let_in_than_a_slow_model_answers_in_half_the_deadline(metrics: Metrics) -> None:
    metrics.add_model("m", 1, {1: 0.25}, version="1", variant="v", precision="p", engine="x", sha256="0")
    admission = Admission(100, 2.0, metrics)
    with admission.admit("m", 3.9), admission.admit("m", 3.9), admission.admit("m", 3.9):
        with pytest.raises(Overloaded), admission.admit("m", 3.9):
            pass
        with admission.admit("m", 390):
            pass
