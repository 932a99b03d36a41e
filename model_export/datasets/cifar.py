"""CIFAR-10 and CIFAR-100 from their archives, already on disk: the python version or the binary one.

Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html: `cifar-10-python.tar.gz`, `cifar-10-binary.tar.gz` and
their like, or the folders they extract to. The python versions are pickles, and are read without executing what a
pickle may hold.
"""

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from model_export.datasets import array_pickle
from model_export.datasets.dataset import Data, DataError

_SIDE = 32


@dataclass(frozen=True)
class _Layout:
    name: str
    folder: str
    files: dict[str, tuple[str, ...]]  # of each part
    meta: str  # the file with the classes' names; in the binary version one a line
    names: bytes = b""  # their key in it
    labels: bytes = b""  # the labels' key in the other files
    label_bytes: int = 0  # of the binary version, before each image; the last is the class


_LAYOUTS = (
    _Layout(
        name="CIFAR-10",
        folder="cifar-10-batches-py",
        files={"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        meta="batches.meta",
        names=b"label_names",
        labels=b"labels",
    ),
    _Layout(
        name="CIFAR-100",
        folder="cifar-100-python",
        files={"train": ("train",), "test": ("test",)},
        meta="meta",
        names=b"fine_label_names",
        labels=b"fine_labels",
    ),
    _Layout(
        name="CIFAR-10, binary",
        folder="cifar-10-batches-bin",
        files={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        meta="batches.meta.txt",
        label_bytes=1,
    ),
    _Layout(
        name="CIFAR-100, binary",
        folder="cifar-100-binary",
        files={"train": ("train.bin",), "test": ("test.bin",)},
        meta="fine_label_names.txt",
        label_bytes=2,  # coarse and fine
    ),
)


@dataclass(frozen=True)
class Cifar:
    """One part of CIFAR; images uint8 [N, 32, 32, 3]."""

    part: str
    classes: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> Image.Image:
        """The image, 32x32 RGB."""
        return Image.fromarray(self.images[index])

    def name(self, index: int) -> str:
        """Its part and number in the archive's order: "test/12"."""
        return f"{self.part}/{index}"


def open_archive(path: Path) -> Data | None:
    """train and test of an archive or its extracted folder; None if it is neither.

    Raises DataError if it is one, and is incomplete, damaged or hostile.
    """
    if path.is_dir():
        for layout in _LAYOUTS:
            for folder in (path, path / layout.folder):
                if any((folder / name).is_file() for name in (layout.meta, *layout.files["test"])):
                    return Data(layout.name, dict(_parts(path, layout, partial(_from_folder, folder))))
        return None
    try:
        with tarfile.open(path) as archive:
            members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}
            for layout in _LAYOUTS:
                if layout.meta in members:
                    return Data(layout.name, dict(_parts(path, layout, partial(_from_archive, archive, members))))
    except (tarfile.TarError, EOFError, OSError) as error:
        if path.name.endswith((".tar", ".gz", ".tgz")):
            raise DataError(f"{path}: the archive is truncated or damaged: {error}") from None
    return None


def _from_folder(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def _from_archive(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> bytes:
    if name not in members or (file := archive.extractfile(members[name])) is None:
        raise FileNotFoundError(name)
    return file.read()


def _parts(path: Path, layout: _Layout, read: Callable[[str], bytes]) -> dict[str, Cifar]:
    parts, name = {}, layout.meta  # `name`: the file that a message is about
    try:
        classes = _classes(layout, read(name))
        for part, names in layout.files.items():
            images: list[array_pickle.Bytes] = []
            labels: list[int] = []
            for name in names:
                pixels, classes_of = _batch(layout, read(name))
                images.append(pixels.reshape(-1, 3, _SIDE, _SIDE))
                labels.extend(classes_of)
                if sum(map(len, images)) != len(labels):
                    raise ValueError("its images and labels differ in number")
                if not all(0 <= label < len(classes) for label in labels):
                    raise ValueError(f"it has labels beyond the {len(classes)} classes")
            stacked = np.ascontiguousarray(np.concatenate(images).transpose(0, 2, 3, 1))
            parts[part] = Cifar(part, classes, stacked, tuple(labels))
    except FileNotFoundError:
        raise DataError(f"{path}: {name} is missing from {layout.folder}") from None
    except KeyError as error:
        raise DataError(f"{path}: {name} has no {error.args[0]!r}") from None
    except (OSError, EOFError, tarfile.TarError):
        raise DataError(f"{path}: {name} is truncated or damaged") from None
    except Exception as error:  # damaged and hostile pickles provoke nearly every class there is
        raise DataError(f"{path}: {name} is not what {layout.folder} holds: {error}") from None
    return parts


def _classes(layout: _Layout, meta: bytes) -> tuple[str, ...]:
    if layout.label_bytes:
        return tuple(line.strip() for line in meta.decode().splitlines() if line.strip())
    return tuple(label.decode() for label in _mapping(meta)[layout.names])


def _batch(layout: _Layout, data: bytes) -> tuple[array_pickle.Bytes, list[int]]:
    """Pixels and classes of one file."""
    if layout.label_bytes:
        rows = np.frombuffer(data, np.uint8).reshape(-1, layout.label_bytes + 3 * _SIDE * _SIDE)
        return rows[:, layout.label_bytes :], rows[:, layout.label_bytes - 1].tolist()
    batch = _mapping(data)
    return array_pickle.array_of(batch[b"data"]), [int(label) for label in batch[layout.labels]]


def _mapping(data: bytes) -> dict[bytes, Any]:
    loaded = array_pickle.load(data)
    if not isinstance(loaded, dict):
        raise ValueError("it holds no mapping")
    # Python 2 wrote the published files, so their strings arrive as bytes; Python 3 may have written them again.
    return {
        _bytes(key): [_bytes(item) for item in value] if _bytes(key).endswith(b"names") else value
        for key, value in loaded.items()
    }


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
