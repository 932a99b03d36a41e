import collections
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_export.datasets.data import DataError, open_data


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
    parts = open_data(str(write_cifar_10(tmp_path / "cifar-10-batches-py", protocol, as_bytes))).parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 10, "test": 2}
    assert parts["train"].classes == tuple(f"class {i}" for i in range(10))
    assert list(parts["train"].labels) == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    image = parts["train"].load(3)
    assert (image.size, image.getpixel((31, 0))) == ((32, 32), (111, 11, 11))
    assert parts["test"].name(1) == "test/1"


def test_cifar_100_is_read_from_its_archive(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, count in (("train", 3), ("test", 2)):
        content = {
            b"data": np.zeros((count, 3072), np.uint8),
            b"fine_labels": [99, 5, 99][:count],
            b"coarse_labels": [1],
        }
        (folder / name).write_bytes(pickle.dumps(content, 2))
    names = {b"fine_label_names": [b"n%d" % i for i in range(100)], b"coarse_label_names": [b"c"]}
    (folder / "meta").write_bytes(pickle.dumps(names, 2))
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    parts = open_data(str(tmp_path / "cifar-100-python.tar.gz")).parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 3, "test": 2}
    assert parts["test"].classes[99] == "n99"
    assert list(parts["test"].labels) == [99, 5]


@pytest.mark.parametrize(
    ("folder", "meta", "files", "labels"),
    [
        (
            "cifar-10-batches-bin",
            "batches.meta.txt",
            [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"],
            1,
        ),
        ("cifar-100-binary", "fine_label_names.txt", ["train.bin", "test.bin"], 2),
    ],
)
def test_the_binary_version(tmp_path: Path, folder: str, meta: str, files: list[str], labels: int) -> None:
    (tmp_path / folder).mkdir()
    for number, name in enumerate(files):
        image = np.full(3072, number, np.uint8)
        image[:1024] += 100
        (tmp_path / folder / name).write_bytes((bytes([7] * (labels - 1) + [number]) + image.tobytes()) * 2)
    (tmp_path / folder / meta).write_text("".join(f"class {i}\n" for i in range(10)) + "\n")
    with tarfile.open(tmp_path / "binary.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / folder, folder)
    for data in (tmp_path / folder, tmp_path / "binary.tar.gz"):
        parts = open_data(str(data)).parts
        assert parts["train"].classes == tuple(f"class {i}" for i in range(10))
        last = len(files) - 1
        assert list(parts["test"].labels) == [last, last]
        assert parts["test"].load(1).getpixel((31, 31)) == (100 + last, last, last)
        assert len(parts["train"]) == 2 * last
    (tmp_path / folder / files[0]).write_bytes(b"12345")
    with pytest.raises(DataError, match=f"{files[0]} is not what {folder} holds"):
        open_data(str(tmp_path / folder))


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
