from pathlib import Path

import pytest
from scipy.io import savemat

from model_export.datasets.data import DataError, open_data
from tests.model_export.datasets.images import by_name, write_images

TRAIN = "Abyssinian_1 1 1 1\nyorkshire_terrier_2 2 2 1\n"
TEST = "yorkshire_terrier_1 2 2 1\n"


def write_pets(folder: Path) -> Path:
    names = ("Abyssinian_1", "yorkshire_terrier_1", "yorkshire_terrier_2")
    lists = {"list": f"#Image CLASS-ID SPECIES BREED ID\n{TRAIN}{TEST}", "trainval": TRAIN, "test": TEST}
    text = {f"annotations/{name}.txt": rows for name, rows in lists.items()} | {"annotations/trimaps/x.txt": ""}
    return write_images(folder, *[f"images/{name}.jpg" for name in names], "images/._x.jpg", text=text)


def test_pets(tmp_path: Path) -> None:
    write_pets(tmp_path / "oxford-iiit-pet")
    for folder in (tmp_path, tmp_path / "oxford-iiit-pet"):
        data = open_data(str(folder))
        assert data.classes == ("Abyssinian", "yorkshire_terrier")
        train = {"images/Abyssinian_1.jpg": "Abyssinian", "images/yorkshire_terrier_2.jpg": "yorkshire_terrier"}
        assert by_name(data.parts["train"]) == train
        assert by_name(data.parts["test"]) == {"images/yorkshire_terrier_1.jpg": "yorkshire_terrier"}
        assert data.parts["test"].load(0).size == (6, 4)


def test_incomplete_pets_get_their_sentence(tmp_path: Path) -> None:
    write_pets(tmp_path)
    (tmp_path / "images" / "Abyssinian_1.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of its listed images are not there: images/Abyssinian_1\.jpg"):
        open_data(str(tmp_path))
    (tmp_path / "annotations" / "test.txt").write_text("no number\n")
    with pytest.raises(DataError, match=r"test\.txt: is not Oxford Pets' list"):
        open_data(str(tmp_path))


def write_flowers(folder: Path) -> Path:
    write_images(folder, *[f"jpg/image_{number:05d}.jpg" for number in range(1, 7)])
    savemat(folder / "imagelabels.mat", {"labels": [[10, 2, 10, 2, 102, 2]]})
    savemat(folder / "setid.mat", {"trnid": [[1, 4, 5]], "valid": [[2]], "tstid": [[6, 3]]})
    return folder


def test_flowers(tmp_path: Path) -> None:
    data = open_data(str(write_flowers(tmp_path)))
    assert data.classes == ("2", "10", "102")
    assert {part: len(images) for part, images in data.parts.items()} == {"train": 3, "val": 1, "test": 2}
    assert by_name(data.parts["test"]) == {"jpg/image_00006.jpg": "2", "jpg/image_00003.jpg": "10"}
    (tmp_path / "cat_to_name.json").write_text('{"2": "hard-leaved pocket orchid", "10": "globe thistle"}')
    assert open_data(str(tmp_path)).classes == ("hard-leaved pocket orchid", "globe thistle", "102")


def test_incomplete_flowers_get_their_sentence(tmp_path: Path) -> None:
    write_flowers(tmp_path)
    (tmp_path / "setid.mat").write_bytes(b"no matrices")
    with pytest.raises(DataError, match=r"setid\.mat: has no readable 'trnid'"):
        open_data(str(tmp_path))
    (tmp_path / "setid.mat").unlink()
    with pytest.raises(DataError, match=r"imagelabels\.mat needs setid\.mat"):
        open_data(str(tmp_path))
