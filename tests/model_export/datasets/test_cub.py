from pathlib import Path

import pytest

from model_export.datasets.data import DataError, open_data
from tests.model_export.datasets.images import by_name, write_images

PATHS = ("001.Albatross/A_1.jpg", "001.Albatross/A_2.jpg", "010.Wren/W_1.jpg", "010.Wren/W_2.jpg")


def write_cub(folder: Path) -> Path:
    text = {
        "images.txt": "".join(f"{number} {path}\n" for number, path in enumerate(PATHS, start=1)),
        "image_class_labels.txt": "1 1\n2 1\n3 10\n4 10\n",
        "train_test_split.txt": "1 1\n2 0\n3 0\n4 1\n",
        "classes.txt": "1 001.Albatross\n10 010.Wren\n",
    }
    return write_images(folder, *[f"images/{path}" for path in PATHS], *[f"masks/{path}" for path in PATHS], text=text)


def test_train_and_test_by_its_lists(tmp_path: Path) -> None:
    write_cub(tmp_path / "CUB_200_2011")
    parts = open_data(str(tmp_path)).parts
    assert by_name(parts["train"]) == {f"images/{PATHS[0]}": "001.Albatross", f"images/{PATHS[3]}": "010.Wren"}
    assert by_name(parts["test"]) == {f"images/{PATHS[1]}": "001.Albatross", f"images/{PATHS[2]}": "010.Wren"}


def test_incomplete_lists_get_their_sentence(tmp_path: Path) -> None:
    write_cub(tmp_path)
    (tmp_path / "images" / PATHS[2]).unlink()
    with pytest.raises(DataError, match="1 of its listed images are not there: images/010"):
        open_data(str(tmp_path))
    (tmp_path / "train_test_split.txt").write_text("1 1\n2 0\n3 0\n")
    with pytest.raises(DataError, match=r"number 4 is missing from one of images\.txt"):
        open_data(str(tmp_path))
