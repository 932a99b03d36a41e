import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_export.__main__ import main
from model_export.evaluation.evaluate import answer_all
from model_export.evaluation.real_labels import RealLabelsError, read_real_labels
from service.bundles.manifest import Preprocessing
from tests.model_export.datasets.images import write_images

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


def test_a_renamed_class_is_refused_until_a_map_says_which_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nine", "0"):
        write_images(tmp_path / "data", *[f"{name}/{i}.png" for i in range(2)])
    with pytest.raises(SystemExit, match="nine are not among its labels"):
        main(["evaluate", str(DIGITS), "--data", str(tmp_path / "data")])
    (tmp_path / "map.csv").write_text("nine,9\n")
    main(["evaluate", str(DIGITS), "--data", str(tmp_path / "data"), "--class-map", str(tmp_path / "map.csv")])
    captured = capsys.readouterr()
    assert "2 classes (0, nine); images: all 4" in captured.err
    assert "evaluated: all; classes are matched by --class-map" in captured.err
    assert "images                      4" in captured.out
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in [*range(9), "nine"]))
    main(["evaluate", str(DIGITS), "--data", str(tmp_path / "data"), "--labels", str(tmp_path / "labels.txt")])
    assert "classes are matched by name" in capsys.readouterr().err


def test_the_test_part_is_evaluated_unless_another_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, count in (("train", 1), ("val", 2), ("test", 3)):
        write_images(tmp_path, *[f"{part}/{name}/{i}.png" for name in "01" for i in range(count)])
    for flags, images in (([], 6), (["--split", "val"], 4)):
        main(["evaluate", str(DIGITS), "--data", str(tmp_path), *flags])
        assert f"images                      {images}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="has no all part, only train, val, test"):
        main(["evaluate", str(DIGITS), "--data", str(tmp_path), "--split", "all"])
