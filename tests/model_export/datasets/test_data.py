import collections
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_export.datasets.data import DataError, open_data
from model_export.datasets.digits import load_split

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


def write_folder(folder: Path, count: int = 2) -> Path:
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (6, 4), colour).save(folder / name / f"{i}.png")
    return folder


def test_a_folder_without_division_is_one_part(tmp_path: Path) -> None:
    parts = open_data(str(write_folder(tmp_path / "data")))
    assert list(parts) == ["all"]
    data = parts["all"]
    assert data.classes == ("blue", "red")
    assert list(data.labels) == [0, 0, 1, 1]
    assert len(data) == 4
    assert [data.load(i).getpixel((0, 0)) for i in range(4)] == [COLOURS["blue"]] * 2 + [COLOURS["red"]] * 2
    assert data.name(3) == "1.png"


@pytest.mark.parametrize("validation", ["val", "validation", "test"])
def test_a_divided_folder_is_two_parts(tmp_path: Path, validation: str) -> None:
    write_folder(tmp_path / "train", 3)
    write_folder(tmp_path / validation, 1)
    parts = open_data(str(tmp_path))
    assert {name: len(part) for name, part in parts.items()} == {"train": 6, "val": 2}


def test_a_rotated_photograph_is_loaded_upright(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.new("RGB", (6, 4)).save(tmp_path / "class" / "photo.jpg", exif=exif)
    assert open_data(str(tmp_path))["all"].load(0).size == (4, 6)


def bad_image(folder: Path) -> None:
    (folder / "red" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    open_data(str(folder))["all"].load(2)


def no_classes(folder: Path) -> None:
    (folder / "flat").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "flat" / "image.png")
    open_data(str(folder / "flat"))


def empty_class(folder: Path) -> None:
    (folder / "green").mkdir()
    open_data(str(folder))


def no_validation(folder: Path) -> None:
    write_folder(folder / "train")
    open_data(str(folder))


def new_class_in_validation(folder: Path) -> None:
    write_folder(folder / "train")
    write_folder(folder / "val")
    (folder / "val" / "red").rename(folder / "val" / "rad")
    open_data(str(folder))


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (bad_image, "0.png: the PNG data is truncated"),
        (no_classes, "flat: holds no folders"),
        (empty_class, "no images in green/"),
        (no_validation, "has train/ but none of val/"),
        (new_class_in_validation, "classes that training has not: rad"),
        (lambda folder: open_data(str(folder / "absent")), "no such file or folder"),
        (lambda folder: open_data(str(folder / "red" / "0.png")), "neither a folder of images nor a CIFAR archive"),
    ],
)
def test_a_bad_folder_gets_its_sentence(tmp_path: Path, mistake: Callable[[Path], None], sentence: str) -> None:
    folder = write_folder(tmp_path / "data")
    with pytest.raises(DataError, match=sentence) as error:
        mistake(folder)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_digits_keep_their_fixed_split() -> None:
    parts = open_data("digits")
    train, held_out = load_split()
    assert (len(parts["train"]), len(parts["val"])) == (len(train.classes), len(held_out.classes)) == (1437, 360)
    assert list(parts["val"].labels) == held_out.classes.tolist()
    assert parts["val"].name(12) == "val/12"
    shown = np.asarray(parts["val"].load(12))[..., 0] / 255
    assert np.abs(shown - held_out.ink[12, 0].numpy()).max() <= 0.5 / 255 + 1e-6


# CIFAR -------------------------------------------------------------------------------------------------------------


def write_cifar_10(folder: Path, protocol: int, as_bytes: bool) -> Path:
    """Two images a file; image i of file f is 10 * f + i everywhere, with red raised by 100."""

    def text(name: str) -> Any:
        return name.encode() if as_bytes else name

    folder.mkdir(parents=True)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for f, name in enumerate(names):
        rows = np.stack([np.full(3072, 10 * f + i, np.uint8) for i in range(2)])
        rows[:, :1024] += 100
        content = {text("data"): rows, text("labels"): [f, 9], text("filenames"): [text("a.png"), text("b.png")]}
        (folder / name).write_bytes(pickle.dumps(content, protocol))
    label_names = {text("label_names"): [text(f"class {i}") for i in range(10)], text("num_vis"): 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(label_names, protocol))
    return folder


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_cifar_10_is_read_whichever_python_wrote_it(tmp_path: Path, protocol: int, as_bytes: bool) -> None:
    parts = open_data(str(write_cifar_10(tmp_path / "cifar-10-batches-py", protocol, as_bytes)))
    assert {name: len(part) for name, part in parts.items()} == {"train": 10, "val": 2}
    assert parts["train"].classes == tuple(f"class {i}" for i in range(10))
    assert list(parts["train"].labels) == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    image = parts["train"].load(3)
    assert (image.size, image.getpixel((31, 0))) == ((32, 32), (111, 11, 11))
    assert parts["val"].name(1) == "test/1"


def test_cifar_100_is_read_from_its_archive(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, count in (("train", 3), ("test", 2)):
        content = {b"data": np.zeros((count, 3072), np.uint8), b"fine_labels": [99] * count, b"coarse_labels": [1]}
        (folder / name).write_bytes(pickle.dumps(content, 2))
    names = {b"fine_label_names": [b"n%d" % i for i in range(100)], b"coarse_label_names": [b"c"]}
    (folder / "meta").write_bytes(pickle.dumps(names, 2))
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    parts = open_data(str(tmp_path / "cifar-100-python.tar.gz"))
    assert {name: len(part) for name, part in parts.items()} == {"train": 3, "val": 2}
    assert parts["val"].classes[99] == "n99"
    assert list(parts["val"].labels) == [99, 99]


class RunsCode:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("as_what", ["meta", "object array"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, as_what: str) -> None:
    folder = write_cifar_10(tmp_path / "cifar-10-batches-py", 2, True)
    trace = tmp_path / "it ran"
    attack = RunsCode(Path.touch, trace)
    if as_what == "meta":
        (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": attack}, 2))
    else:
        array = np.empty(1, object)
        array[0] = attack
        (folder / "test_batch").write_bytes(pickle.dumps({b"data": array, b"labels": [1]}, 2))
    with pytest.raises(DataError, match=r"which no array needs|not of uint8"):
        open_data(str(folder))
    assert not trace.exists()


@pytest.mark.parametrize("call", [(eval, "1"), (np.load, "x"), (collections.OrderedDict,), (np.ndarray, (1,), "O")])
def test_nothing_but_what_arrays_need_is_named(tmp_path: Path, call: tuple[Any, ...]) -> None:
    folder = write_cifar_10(tmp_path / "cifar-10-batches-py", 2, True)
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [RunsCode(*call)]}, 2))
    with pytest.raises(DataError, match=r"batches\.meta is not what cifar-10-batches-py holds"):
        open_data(str(folder))


def test_an_incomplete_archive_gets_its_sentence(tmp_path: Path) -> None:
    folder = write_cifar_10(tmp_path / "cifar-10-batches-py", 2, True)
    whole = (folder / "data_batch_3").read_bytes()
    (folder / "data_batch_3").write_bytes(whole[:100])
    with pytest.raises(DataError, match="data_batch_3"):
        open_data(str(folder))
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 is missing from cifar-10-batches-py"):
        open_data(str(folder))
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b\x08 and no more")
    with pytest.raises(DataError, match="truncated or damaged"):
        open_data(str(tmp_path / "cifar-10-python.tar.gz"))
