"""Features in Python: of one image or many, with a head and without, and what has none."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service import Classifier
from service.errors import InvalidImage, UnsupportedImage
from service.offline.classifier import Classification
from tests.doubles import EchoEngine, HeadlessEngine, ThreadLanes, features_of, level_png
from tests.service.offline.doubles import classifier_around, label


@pytest.fixture
def classifier(tmp_path: Path) -> Iterator[Classifier]:
    with classifier_around(tmp_path, features=True) as around:
        yield around


@pytest.fixture
def headless(tmp_path: Path) -> Iterator[Classifier]:
    with classifier_around(tmp_path / "headless", ThreadLanes(HeadlessEngine()), features=True, head=False) as around:
        yield around


def test_of_one_image_and_of_a_list(classifier: Classifier, headless: Classifier) -> None:
    for model in (classifier, headless):
        one = model.features(level_png(40))
        assert (one.dtype, one.shape, one.tolist()) == (np.float32, (3,), features_of([40])[0].tolist())
        one[0] = 1  # it is the caller's
        levels = list(range(100))
        several = model.features([level_png(level) for level in levels])
        assert (several.dtype, several.shape) == (np.float32, (100, 3))
        assert np.array_equal(several, features_of(levels))
        assert model.features([]).shape == (0, 3)


def test_for_one_image_its_error_is_raised(classifier: Classifier) -> None:
    with pytest.raises(InvalidImage):
        classifier.features(level_png(1)[:-30])
    with pytest.raises(FileNotFoundError):
        classifier.features("nowhere.png")


def test_of_a_list_all_errors_are_raised_with_their_places(classifier: Classifier) -> None:
    with pytest.raises(ExceptionGroup, match="2 of 4 images have no features") as raised:
        classifier.features([level_png(1), b"no image", level_png(2), "nowhere.png"])
    errors = [(type(error), error.__notes__) for error in raised.value.exceptions]
    assert errors == [(UnsupportedImage, ["image 1 of the list"]), (FileNotFoundError, ["image 3 of the list"])]


def test_a_stream_has_both_and_each_its_own(classifier: Classifier) -> None:
    first, bad, last = classifier.stream([level_png(1), b"no image", level_png(2)], 2, features=True)
    assert (label(first), type(bad), label(last)) == ("level 1", UnsupportedImage, "level 2")
    assert isinstance(first, Classification)
    assert isinstance(last, Classification)
    assert len(first.predictions) == 2
    assert np.array_equal([first.features, last.features], features_of([1, 2]))


def test_who_does_not_ask_gets_none(classifier: Classifier) -> None:
    assert classifier.classify(level_png(1)).features is None


def test_without_a_head_there_are_no_predictions(headless: Classifier) -> None:
    for images in (level_png(1), [level_png(1)], []):
        with pytest.raises(ValueError, match="echo/1 has no head, so it predicts nothing"):
            headless.classify(images)  # type: ignore[call-overload]
    (answer,) = headless.stream([level_png(1)], features=True)
    assert isinstance(answer, Classification)
    assert (answer.predictions, answer.image["format"]) == ((), "PNG")


def test_a_bundle_of_old_has_none(tmp_path: Path) -> None:
    with classifier_around(tmp_path, ThreadLanes(EchoEngine())) as classifier:
        for images in (level_png(1), []):
            with pytest.raises(ValueError, match="echo/1 is of a time when there were no features; export it again"):
                classifier.features(images)  # type: ignore[call-overload]
