import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL.ImageFile import ImageFile

from service.arrays import LogitBatch, Outputs, PixelBatch
from service.bundles.golden import GoldenMismatch
from service.lanes.postprocess import top_k
from service.lanes.worker import Worker
from tests.doubles import (
    CLASSES,
    SIDE,
    EchoEngine,
    FailingEngine,
    HeadlessEngine,
    features_of,
    level_pixels,
    level_png,
    write_bundle,
)
from tests.service.lanes.loading import order


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path)


def around(engine: EchoEngine, bundle: Path, **changes: Any) -> Worker:
    return Worker(order(bundle, **changes), lambda *_: {"double": lambda: engine})


def ask(worker: Worker, *images: bytes, top_k: int = 1, are_pixels: bool = False, wide: bool = False) -> list[Any]:
    """Of each image its answer's bytes, or what is said instead."""
    return ask_for(worker, *((data, top_k, are_pixels, False) for data in images), wide=wide)


def ask_for(
    worker: Worker, *asked: tuple[bytes, int | None, bool, bool], wide: bool = False, budget: float = 9.0
) -> list[Any]:
    """The same of images that are each asked for something: bytes, top_k, whether pixels, whether features."""
    images = [data for data, *_ in asked]
    told = {
        "items": [[len(data), *rest] for data, *rest in asked],
        "wide": wide,
        "tell_decoded": False,
        "budget": budget,
    }
    said, parts = worker.answer(told, memoryview(b"".join(images)), lambda: None)
    answers = iter(parts)
    outcomes = []
    for item in said["items"]:  # type: ignore[index]
        if isinstance(item, list):
            answer, info = next(answers), next(answers)
            assert item[:2] == [len(answer), len(info)]
            outcomes.append(answer)
        else:
            outcomes.append(item)
    assert next(answers, None) is None
    return outcomes


def test_what_is_not_begun_when_the_time_for_decoding_is_over_is_left(bundle: Path) -> None:
    worker = around(EchoEngine(), bundle)
    asked = [(level_png(level), 1, False, False) for level in (5, 6, 7)]
    first, *others = ask_for(worker, *asked, budget=0.0)
    assert levels([first]) == [5]
    assert others == [{"left": True}] * 2
    assert levels(ask_for(worker, *asked)) == [5, 6, 7]


@pytest.mark.parametrize(("large", "times"), [(0.0, 1), (60.0, 0)])
def test_memory_is_given_back_after_an_image_that_took_long(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, large: float, times: int
) -> None:
    worker, given_back = around(EchoEngine(), bundle), []
    monkeypatch.setattr("service.lanes.worker._LARGE", large)
    monkeypatch.setattr("service.lanes.worker.give_back", lambda: given_back.append(True))
    ask(worker, level_png(5))
    worker.tidy()
    assert len(given_back) == times


def levels(outcomes: list[Any]) -> list[Any]:
    """The level of each answer, or the name of what went wrong."""
    return [
        json.loads(outcome)[0]["index"] if isinstance(outcome, bytes) else outcome.get("error") or raised(outcome)
        for outcome in outcomes
    ]


def raised(outcome: dict[str, str]) -> str:
    """The class of a fault's exception, from the last line of its traceback."""
    return outcome["fault"].splitlines()[-1].partition(":")[0]


def test_each_image_of_a_batch_gets_what_it_asks_for(tmp_path: Path) -> None:
    worker = around(EchoEngine(), write_bundle(tmp_path, features=True))
    predictions, logits, features, both, also = ask_for(
        worker,
        (level_png(1), 1, False, False),
        (level_png(2), 0, False, False),
        (level_png(3), None, False, True),
        (level_pixels(4).tobytes(), 0, True, True),
        (level_png(5), 2, False, True),
    )
    of_features = features_of([3, 4, 5])
    assert json.loads(predictions)[0]["index"] == 1
    assert np.frombuffer(logits, np.float32).argmax() == 2
    assert len(logits) == 4 * CLASSES
    assert features == of_features[0].tobytes()
    assert np.frombuffer(both, np.float32)[:CLASSES].argmax() == 4
    assert both[4 * CLASSES :] == of_features[1].tobytes()
    assert json.loads(also[: -of_features[2].nbytes])[0]["index"] == 5
    assert also.endswith(of_features[2].tobytes())


def test_nobodys_features_are_read_out_where_nobody_asks(tmp_path: Path) -> None:
    class NoFeatures(EchoEngine):
        proving = True

        def outputs(self, pixels: PixelBatch) -> Outputs:
            assert self.proving
            return super().outputs(pixels)

    engine = NoFeatures()
    worker = around(engine, write_bundle(tmp_path, features=True))
    engine.proving = False
    assert levels(ask(worker, level_png(1), level_png(2))) == [1, 2]


def test_a_model_without_a_head_gives_features(tmp_path: Path) -> None:
    worker = around(HeadlessEngine(), write_bundle(tmp_path, features=True, head=False))
    assert ask_for(worker, (level_png(7), None, False, True)) == [features_of([7]).tobytes()]


def test_only_the_image_whose_pass_fails_gets_no_features(tmp_path: Path) -> None:
    worker = around(FailingEngine(), write_bundle(tmp_path, features=True))
    good, bad = ask_for(worker, (level_png(7), None, False, True), (level_png(FailingEngine.poison), None, False, True))
    assert good == features_of([7]).tobytes()
    assert raised(bad) == "RuntimeError"
    assert worker.works


def test_it_is_measured_warm_and_proven(bundle: Path) -> None:
    engine = EchoEngine()
    loaded = around(engine, bundle).loaded
    assert (loaded.engine, loaded.description, loaded.golden_max_abs_error) == ("double", "echo", 0)
    assert loaded.max_batch_size == 4
    assert loaded.pass_seconds.keys() == {1, 2, 4}
    assert {1, 2, 3, 4} <= set(engine.batch_sizes)
    assert loaded.decode_seconds > 0
    assert loaded.held_bytes > 10 * 2**20


def test_a_lane_that_is_told_what_the_first_one_chose_measures_nothing(bundle: Path) -> None:
    engine = EchoEngine()
    loaded = around(engine, bundle, measure=False).loaded
    assert (loaded.pass_seconds, loaded.decode_seconds) == ({}, 0)
    assert engine.batch_sizes == [2, 1, 2, 3, 4]  # the golden images, and each size once


def test_an_engine_that_answers_wrongly_is_not_served(bundle: Path) -> None:
    class Wrong(EchoEngine):
        def run(self, pixels: PixelBatch) -> LogitBatch:
            return super().run(255 - pixels)

    with pytest.raises(GoldenMismatch):
        around(Wrong(), bundle)


def test_every_image_has_its_own_answer(bundle: Path) -> None:
    worker = around(EchoEngine(), bundle)
    assert levels(ask(worker, *map(level_png, (3, 200, 7)))) == [3, 200, 7]


def test_pixels_are_passed_as_they_are(bundle: Path) -> None:
    worker = around(EchoEngine(), bundle)
    assert levels(ask(worker, *(level_pixels(level).tobytes() for level in (9, 8)), are_pixels=True)) == [9, 8]


def test_a_large_photograph_is_no_reason_not_to_start(bundle: Path) -> None:
    """Decoding is measured on one of 640x360, and a service may accept less."""
    assert around(EchoEngine(), bundle, max_pixels=SIDE * SIDE).loaded.decode_seconds > 0


def test_decode_errors_are_each_images_own(bundle: Path) -> None:
    engine = EchoEngine()
    worker = around(engine, bundle)
    engine.batch_sizes.clear()
    good, large = level_png(5), level_png(5, (40, 40))
    outcomes = ask(worker, good[:-20], good, b"text", large, b"", good)
    assert levels(outcomes) == ["InvalidImage", 5, "UnsupportedImage", "ImageTooLarge", "MalformedRequest", 5]
    assert outcomes[3] == {
        "error": "ImageTooLarge",
        "message": "the image has 40x40 pixels; at most 1000 are accepted",
        "reason": "pixels",
    }
    assert engine.batch_sizes == [2]


def test_without_any_image_that_decodes_there_is_no_pass(bundle: Path) -> None:
    engine = EchoEngine()
    worker = around(engine, bundle)
    engine.batch_sizes.clear()
    assert levels(ask(worker, b"text")) == ["UnsupportedImage"]
    assert engine.batch_sizes == []


def test_want_of_memory_is_a_fault_and_no_damage(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: ImageFile) -> Any:
        if image.width > SIDE:
            raise MemoryError
        return ImageFile.load(image)

    worker = around(EchoEngine(), bundle)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    assert levels(ask(worker, level_png(1, (30, 1)), level_png(2))) == ["MemoryError", 2]


def test_only_the_culprit_of_a_failed_pass_fails(bundle: Path) -> None:
    worker = around(FailingEngine(), bundle)
    outcomes = ask(worker, *map(level_png, (1, 66, 3, 4)))
    assert levels(outcomes) == [1, "RuntimeError", 3, 4]
    assert "poisoned: a secret" in outcomes[1]["fault"]  # for the log
    assert worker.works
    assert levels(ask(worker, level_png(7))) == [7]


def test_logits_that_are_no_numbers_fail_their_image_alone(bundle: Path) -> None:
    class Poisoned(EchoEngine):
        def run(self, pixels: PixelBatch) -> LogitBatch:
            logits = super().run(pixels)
            logits[(pixels == 66).all(axis=(1, 2, 3))] = float("nan")
            return logits

    worker = around(Poisoned(), bundle)
    assert levels(ask(worker, *map(level_png, (5, 66)))) == [5, "RuntimeError"]
    assert worker.works


def test_a_wrong_number_of_rows_is_a_fault(bundle: Path) -> None:
    class Short(EchoEngine):
        short = False

        def run(self, pixels: PixelBatch) -> LogitBatch:
            return super().run(pixels)[: -1 if self.short else None]

    engine = Short()
    worker = around(engine, bundle)
    engine.short = True
    assert levels(ask(worker, *map(level_png, (5, 6)))) == ["RuntimeError", "RuntimeError"]
    assert not worker.works


def test_an_engine_that_stumbles_once_is_asked_again(bundle: Path) -> None:
    class Stumbling(EchoEngine):
        stumbles = False

        def run(self, pixels: PixelBatch) -> LogitBatch:
            if self.stumbles:
                self.stumbles = False
                raise RuntimeError("once")
            return super().run(pixels)

    engine = Stumbling()
    worker = around(engine, bundle)
    engine.stumbles = True
    assert levels(ask(worker, level_png(9))) == [9]
    assert worker.works


def test_a_lane_whose_engine_fails_on_everything_works_no_more(bundle: Path) -> None:
    engine = FailingEngine()
    worker = around(engine, bundle)
    engine.broken = True
    assert levels(ask(worker, *map(level_png, (1, 2)))) == ["RuntimeError", "RuntimeError"]
    assert not worker.works


@pytest.mark.parametrize("k", [1, 5, CLASSES])
def test_the_text_of_an_answer_is_its_predictions(bundle: Path, k: int) -> None:
    class Graded(EchoEngine):
        grades = False

        def run(self, pixels: PixelBatch) -> LogitBatch:
            logits = super().run(pixels)
            return logits + np.linspace(-3, 3, CLASSES, dtype=np.float32) if self.grades else logits

    engine = Graded()
    worker = around(engine, bundle)
    engine.grades = True
    (answer,) = ask(worker, level_png(12), top_k=k)
    labels = tuple(f"level {level}" for level in range(CLASSES))
    expected = top_k(engine.run(level_pixels(12)[None])[0], labels, k)
    assert json.loads(answer) == [
        {"index": each.index, "label": each.label, "probability": each.probability} for each in expected
    ]


def test_who_asks_for_no_predictions_gets_logits(bundle: Path) -> None:
    (answer,) = ask(around(EchoEngine(), bundle), level_png(12), top_k=0)
    assert np.frombuffer(answer, np.float32).tolist() == EchoEngine().run(level_pixels(12)[None])[0].tolist()


def test_an_answer_says_what_was_seen_and_when(bundle: Path) -> None:
    worker = around(EchoEngine(), bundle)
    decoded: list[bool] = []
    png = level_png(3, (8, 5))
    told = {"items": [[len(png), 1, False, False]], "wide": False, "tell_decoded": True, "budget": 9.0}
    said, (_, info) = worker.answer(told, memoryview(png), lambda: decoded.append(True))
    assert decoded == [True]
    assert json.loads(info) == {
        "width": 8,
        "height": 5,
        "format": "PNG",
        "orientation_applied": False,
        "stored_as": "rgb",
        "alpha_flattened": False,
        "icc_ignored": False,
    }
    assert said["began"] <= said["pass"][0] <= said["pass"][1]  # type: ignore[index]


class Timed(EchoEngine):
    """Its passes take `seconds` of a clock that nothing else moves; its logits are off by `error`."""

    def __init__(self, clock: list[float], seconds: float, error: float = 0.0) -> None:
        super().__init__()
        self._clock, self._seconds, self._error = clock, seconds, error

    def run(self, pixels: PixelBatch) -> LogitBatch:
        self._clock[0] += self._seconds
        return super().run(pixels) + np.float32(self._error)


@pytest.mark.parametrize(
    ("seconds", "error", "used"),
    [(0.06, 0.0, True), (0.095, 0.0, False), (0.2, 0.0, False), (0.06, 1e-5, False)],
    ids=["faster", "hardly faster", "slower", "another answer"],
)
def test_all_cores_are_used_for_a_lone_image_if_that_is_faster_and_changes_no_bit(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, error: float, used: bool
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    by_threads = {1: Timed(clock, 0.1), 2: Timed(clock, seconds, error)}

    worker = Worker(order(bundle, wide_threads=2), lambda bundle, threads, *_: {"double": lambda: by_threads[threads]})
    assert worker.loaded.wide_seconds == pytest.approx(seconds if used else 0)
    for engine in by_threads.values():
        engine.batch_sizes.clear()
    assert levels(ask(worker, level_png(5), wide=True) + ask(worker, level_png(6))) == [5, 6]
    assert [len(engine.batch_sizes) for engine in by_threads.values()] == ([1, 1] if used else [2, 0])


@pytest.mark.parametrize(
    ("narrow", "wide", "used"),
    [
        ((0.1, 0.1), (0.5, 0.06), 0.06),
        ((0.1, 0.1), (0.06, 0.5), 0.06),
        ((0.5, 0.06), (0.1, 0.1), 0),
        ((0.06, 0.5), (0.1, 0.1), 0),
    ],
    ids=["wide busy first", "wide busy last", "narrow busy first", "narrow busy last"],
)
def test_an_engine_whose_cores_were_busy_in_one_turn_is_judged_by_the_other(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, narrow: tuple[float, ...], wide: tuple[float, ...], used: float
) -> None:
    by_threads = {1: EchoEngine(), 2: EchoEngine()}
    seconds = {by_threads[1]: iter(narrow), by_threads[2]: iter(wide)}
    monkeypatch.setattr("service.lanes.worker.measure_pass_seconds", lambda engine, *_: {1: next(seconds[engine])})
    worker = Worker(
        order(bundle, wide_threads=2, measure=False),
        lambda bundle, threads, *_: {"double": lambda: by_threads[threads]},
    )
    assert worker.loaded.wide_seconds == used


def test_a_wide_engine_that_fails_leaves_the_narrow_one(bundle: Path) -> None:
    class Slow(EchoEngine):
        def run(self, pixels: PixelBatch) -> LogitBatch:
            for _ in range(200):
                super().run(pixels)
            return super().run(pixels)

    narrow, wide = Slow(), FailingEngine()
    worker = Worker(
        order(bundle, wide_threads=2),
        lambda bundle, threads, *_: {"double": lambda: narrow if threads == 1 else wide},
    )
    assert worker.loaded.wide_seconds > 0
    wide.broken = True
    assert levels(ask(worker, level_png(5), wide=True)) == [5]
