from pathlib import Path

import numpy as np
import pytest

from model_export.datasets.data import DataError, open_data
from model_export.datasets.digits import load_split
from tests.model_export.datasets.images import write_images


def test_what_was_understood_is_one_line(tmp_path: Path) -> None:
    write_images(tmp_path, "Training/cat/1.jpg", "Training/dog/1.jpg", "Testing/cat/1.jpg", "Training/cat/notes.txt")
    assert str(open_data(str(tmp_path))) == (
        "a folder a part, a folder a class; 2 classes (cat, dog); images: train 2, test 1; files passed over: 1 .txt"
    )


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (["cats/1.png", "cats/2.png"], "has one class, cats, as a folder a class; at least two are needed"),
        (["data.zip"], "data.zip: is in none of the layouts that are read"),
        (["labels.csv"], "none of its columns names the images"),
        ([], "holds no images"),
    ],
)
def test_what_no_layout_understands_gets_its_sentence(tmp_path: Path, paths: list[str], sentence: str) -> None:
    write_images(tmp_path, *paths)
    data = tmp_path if len(paths) != 1 else tmp_path / paths[0]
    with pytest.raises(DataError, match=sentence) as error:
        open_data(str(data))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_data(str(tmp_path / "absent"))


def test_the_digits_keep_their_fixed_split() -> None:
    parts = open_data("digits").parts
    train, held_out = load_split()
    assert (len(parts["train"]), len(parts["val"])) == (len(train.classes), len(held_out.classes)) == (1437, 360)
    assert list(parts["val"].labels) == held_out.classes.tolist()
    assert parts["val"].name(12) == "val/12"
    shown = np.asarray(parts["val"].load(12))[..., 0] / 255
    assert np.abs(shown - held_out.ink[12, 0].numpy()).max() <= 0.5 / 255 + 1e-6
