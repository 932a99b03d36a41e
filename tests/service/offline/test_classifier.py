"""The classifier in Python: whatever an image comes as, one or many, and what has no answer."""

import gc
import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import service.offline.batches
from service import Classifier
from service.bundles.bundle import BundleError, load_bundle
from service.errors import EngineFailure, InvalidImage, MalformedRequest, UnsupportedImage
from service.lanes.process import ForkedLane
from service.offline.batches import Batches
from service.offline.classifier import Outcome
from tests.doubles import EchoEngine, FailingEngine, GatedEngine, ThreadLanes, level_pixels, level_png
from tests.lane_faults import SEGFAULT, faulty_lane
from tests.service.lanes.loading import order
from tests.service.offline.doubles import classifier_around, label

ROOT = Path(__file__).parent.parent.parent.parent
DIGITS = ROOT / "models" / "digits" / "1"


@pytest.fixture
def classifier(tmp_path: Path) -> Iterator[Classifier]:
    with classifier_around(tmp_path) as around:
        yield around


def test_an_image_may_come_as_anything(classifier: Classifier, tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(level_png(40))
    data = level_png(40)
    opened = Image.open(io.BytesIO(data))
    images = [file, str(file), data, bytearray(data), memoryview(data), opened, level_pixels(40)]
    assert [label(classifier.classify(image)) for image in images] == ["level 40"] * 7
    assert [label(outcome) for outcome in classifier.classify(images)] == ["level 40"] * 7
    assert [label(outcome) for outcome in classifier.classify(tuple(images))] == ["level 40"] * 7


def test_the_answer_is_whole(classifier: Classifier) -> None:
    answer = classifier.classify(level_png(40, (6, 5)), top_k=3)
    assert (answer.model, answer.version, len(answer.predictions)) == ("echo", "1", 3)
    assert (answer.predictions[0].index, answer.image["width"], answer.image["format"]) == (40, 6, "PNG")


def test_more_predictions_than_classes_are_all(classifier: Classifier) -> None:
    assert len(classifier.classify(level_png(1), top_k=1000).predictions) == 256


def test_of_a_list_each_has_its_own_answer_in_order(classifier: Classifier) -> None:
    outcomes = classifier.classify([level_png(level) for level in range(100)])
    assert [label(outcome) for outcome in outcomes] == [f"level {level}" for level in range(100)]
    assert classifier.classify([]) == []


def test_in_a_list_an_exception_stands_in_the_place_of_an_answer(classifier: Classifier) -> None:
    bad = [b"", b"no image", level_png(9)[:-20], "nowhere.png", ".", np.zeros((4, 4)), None, "nul\0"]
    images = [level_png(1), *bad, level_png(2)]
    first, *failed, last = classifier.classify(images)  # type: ignore[arg-type]
    assert (label(first), label(last)) == ("level 1", "level 2")
    kinds = [MalformedRequest, UnsupportedImage, InvalidImage, FileNotFoundError]
    assert [type(error) for error in failed] == [*kinds, IsADirectoryError, ValueError, TypeError, ValueError]


@pytest.mark.parametrize(("image", "kind"), [(b"", MalformedRequest), ("nowhere.png", OSError), (None, TypeError)])
def test_for_one_image_it_is_raised(classifier: Classifier, image: object, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        classifier.classify(image)  # type: ignore[call-overload]


def test_a_folder_is_told_by_its_name(classifier: Classifier, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        classifier.classify(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.parametrize("name", ["lanes", "threads", "max_batch_size", "max_pixels"])
def test_a_negative_number_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -1"):
        Classifier.load(DIGITS, **{name: -1})  # type: ignore[arg-type]


def test_a_named_pipe_is_not_waited_for(classifier: Classifier, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(OSError, match="not a regular file"):
        classifier.classify(tmp_path / "pipe.png")


@pytest.mark.parametrize("top_k", [0, -1, 2.5, "5"])
def test_top_k_is_checked_before_anything_is_read(classifier: Classifier, top_k: object) -> None:
    with pytest.raises(ValueError, match="top_k"):
        classifier.stream(iter([]), top_k=top_k)  # type: ignore[arg-type]


def test_a_stream_reads_no_further_ahead_than_the_lanes_need(tmp_path: Path) -> None:
    read = 0

    def images() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield level_png(read % 256)

    with classifier_around(tmp_path) as classifier:
        stream = classifier.stream(images())
        answers: list[Outcome] = [next(stream) for _ in range(50)]
    assert [label(answer) for answer in answers] == [f"level {level}" for level in range(1, 51)]
    assert read <= 50 + 4 * (2 * 2 + 2)


def test_large_images_go_in_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.offline.batches, "_MOST_BYTES", 2 * len(level_png(1)))
    engine = EchoEngine()
    with classifier_around(tmp_path, ThreadLanes(engine), lanes=1) as classifier:
        engine.batch_sizes.clear()
        assert len(classifier.classify([level_png(1)] * 4)) == 4
    assert engine.batch_sizes == [2, 2]


def test_a_short_list_is_shared_out_among_the_lanes(tmp_path: Path) -> None:
    engine = EchoEngine()
    with classifier_around(tmp_path, ThreadLanes(engine), lanes=2) as classifier:
        engine.batch_sizes.clear()
        classifier.classify([level_png(level) for level in range(4)])
    assert engine.batch_sizes == [2, 2]


def test_an_image_that_the_engine_fails_on_harms_no_other(tmp_path: Path) -> None:
    levels = [65, FailingEngine.poison, 67]
    with classifier_around(tmp_path, ThreadLanes(FailingEngine())) as classifier:
        before, failed, after = classifier.classify([level_png(level) for level in levels])
    assert (label(before), label(after)) == ("level 65", "level 67")
    assert isinstance(failed, EngineFailure)


def test_threads_may_share_it(classifier: Classifier) -> None:
    answers: dict[int, list[str]] = {}

    def ask(level: int) -> None:
        answers[level] = [label(outcome) for outcome in classifier.classify([level_png(level)] * 30)]

    threads = [threading.Thread(target=ask, args=(level,)) for level in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {level: [f"level {level}"] * 30 for level in range(8)}


def test_who_waits_when_it_is_closed_waits_no_longer(tmp_path: Path) -> None:
    engine = GatedEngine()
    engine.gate.set()
    with classifier_around(tmp_path, ThreadLanes(engine)) as classifier:
        engine.gate.clear()
        engine.entered = threading.Semaphore(0)
        ended = threading.Event()

        def ask() -> None:
            with pytest.raises(BaseException):  # noqa: B017 - concurrent.futures.CancelledError
                classifier.classify(level_png(1))
            ended.set()

        threading.Thread(target=ask, daemon=True).start()
        assert engine.entered.acquire(timeout=30)
        classifier.close()
        assert ended.wait(30)
        engine.gate.set()
    with pytest.raises(RuntimeError, match="closed"):
        classifier.classify(level_png(1))


def test_a_decoder_that_crashes_costs_one_answer() -> None:
    images = [(DIGITS / "golden" / f"digit-{digit}.png").read_bytes() for digit in range(10)]
    images[5] = SEGFAULT
    bundle = load_bundle(DIGITS)
    batches = Batches(bundle, partial(ForkedLane, run=faulty_lane))
    batches.start(order(DIGITS, max_batch_size=4, max_pixels=10**6, measure=False, warm=False), 2)
    with Classifier(bundle, batches, 4) as classifier:
        outcomes = classifier.classify(images)
        assert isinstance(outcomes.pop(5), EngineFailure)
        assert [label(outcome) for outcome in outcomes] == ["0", "1", "2", "3", "4", "6", "7", "8", "9"]
        assert label(classifier.classify(images[7])) == "7"


def test_the_three_lines_in_a_script_without_a_guard(tmp_path: Path) -> None:
    """And nothing is left behind."""
    (tmp_path / "script.py").write_text(
        "from service import Classifier\n"
        f"c = Classifier.load({str(DIGITS)!r})\n"
        f"print(c.classify({str(DIGITS / 'golden' / 'digit-7.png')!r}).predictions[0].label)\n"
        "print(*[process.pid for process in c._batches._processes])\n"
    )
    command = [sys.executable, "script.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    answer, processes = ended.stdout.splitlines()
    assert answer == "7"
    assert processes
    assert not [pid for pid in processes.split() if Path(f"/proc/{pid}").exists()]


def test_one_that_is_let_go_ends_its_lanes() -> None:
    classifier = Classifier.load(DIGITS, lanes=1)
    (process,) = classifier._batches._processes
    classifier.classify(DIGITS / "golden" / "digit-7.png")
    del classifier
    gc.collect()
    assert process.ending() in ("it was ended by SIGKILL", "it exited with 0")


def test_a_bundle_that_is_not_there_is_told_by_name() -> None:
    with pytest.raises(BundleError, match=r"no model 'nothing'; it has .*digits"):
        Classifier.load("nothing", repository=DIGITS.parent.parent)


def test_a_bundle_may_be_named() -> None:
    with Classifier.load("digits", repository=DIGITS.parent.parent, lanes=1) as classifier:
        assert classifier.bundle.path == DIGITS
