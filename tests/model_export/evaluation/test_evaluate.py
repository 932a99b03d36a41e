import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_export.__main__ import main
from model_export.evaluation.evaluate import EvaluationError, answer_all, true_classes
from model_export.evaluation.real_labels import RealLabelsError, read_real_labels
from service.bundles.manifest import Preprocessing

DIGITS = Path(__file__).parent.parent.parent.parent / "models" / "digits" / "1"
SPEC = Preprocessing(resize_short=4, interpolation="bicubic", crop=4, mean=(0.5,) * 3, std=(0.5,) * 3)


class Levels:
    """Image i is of level i throughout, and of class i modulo the number of classes."""

    def __init__(self, count: int, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.labels = [i % len(classes) for i in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> Image.Image:
        return Image.new("RGB", (5, 6), (index, index, index))

    def name(self, index: int) -> str:
        return str(index)


@pytest.mark.parametrize("batch_size", [1, 7, 100, 256])
def test_answers_come_in_the_order_of_the_images(batch_size: int) -> None:
    sizes = []

    def run(pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        return pixels[:, 0, 0, :1].astype(np.float32)

    answers = answer_all(Levels(100, ("a",)), SPEC, run, batch_size)
    assert answers.logits[:, 0].tolist() == list(range(100))
    assert max(sizes) <= batch_size
    assert 0 < answers.run_seconds <= answers.seconds


@pytest.mark.parametrize(
    ("names", "labels", "classes", "expected"),
    [
        pytest.param(("cat", "dog"), ("dog", "fox", "cat"), 3, [2, 0], id="by name"),
        pytest.param(("0", "7"), None, 10, [0, 7], id="by index"),
        pytest.param(("n01", "n02"), ("tench", "goldfish"), 2, [0, 1], id="in order"),
        pytest.param(("0", "1"), ("1", "0"), 2, [1, 0], id="names before indices"),
    ],
)
def test_classes_of_the_data_are_found_in_the_model(
    names: tuple[str, ...], labels: tuple[str, ...] | None, classes: int, expected: list[int]
) -> None:
    assert true_classes(Levels(4, names), labels, classes).tolist() == expected * 2


def test_classes_that_do_not_fit_are_named() -> None:
    with pytest.raises(EvaluationError, match="cow are not among its labels"):
        true_classes(Levels(4, ("cat", "cow")), ("cat", "dog", "fox"), 3)
    with pytest.raises(EvaluationError, match="mouse are not among its labels"):
        true_classes(Levels(4, ("cat", "mouse")), ("zebra", "cat"), 2)


def test_real_labels_in_both_forms(tmp_path: Path) -> None:
    names = ["val/n01/ILSVRC2012_val_00000002.JPEG", "val/n02/ILSVRC2012_val_00000001_n02.JPEG", "other.png"]
    (tmp_path / "list.json").write_text(json.dumps([[5], [6, 7], []]))
    assert read_real_labels(tmp_path / "list.json", names) == [[6, 7], [5], []]
    (tmp_path / "object.json").write_text(json.dumps({"other.png": [3]}))
    assert read_real_labels(tmp_path / "object.json", names) == [[], [], [3]]
    assert read_real_labels(tmp_path / "object.json", ["cat/other.png"]) == [[3]]
    (tmp_path / "paths.json").write_text(json.dumps({"cat/1.png": [3], "dog/1.png": [4]}))
    assert read_real_labels(tmp_path / "paths.json", ["dog/1.png", "cat/1.png"]) == [[4], [3]]


@pytest.mark.parametrize(
    ("text", "cause"), [("{", "Expecting"), ("3", "neither"), ('{"a.png": 3}', "not a list"), ("[]", "none|any")]
)
def test_bad_real_files_get_their_sentence(tmp_path: Path, text: str, cause: str) -> None:
    (tmp_path / "real.json").write_text(text)
    with pytest.raises(RealLabelsError, match=cause):
        read_real_labels(tmp_path / "real.json", ["a.png"])


def test_the_embedded_bundle_on_its_held_out_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures_file, picture_file = tmp_path / "figures.json", tmp_path / "confusion.png"
    options = ["--per-class", "--json", str(figures_file), "--confusion", str(picture_file)]
    main(["evaluate", str(DIGITS), "--data", "digits", *options])
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["images"] == 360
    assert figures["top1"] >= 0.99
    assert figures["top5"] == 1
    assert figures["calibration_error"] < 0.15
    assert figures["per_class"].keys() == set("0123456789")
    assert figures["img_per_s"] == pytest.approx(figures["img_per_s_per_core"] * figures["threads"], rel=0.01)
    printed = capsys.readouterr().out
    assert "top1" in printed
    assert "  7   " in printed
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.width > 400
