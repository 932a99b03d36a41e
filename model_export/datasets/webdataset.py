"""WebDataset tars: the files of one sample follow each other and share a name, one the image, one the class.

https://github.com/webdataset/webdataset: `000123.jpg` beside `000123.cls` (a number or a name), `.txt`, or `.json`.
"""

import json
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from model_export.datasets.class_folders import sorted_names
from model_export.datasets.dataset import PARTS, Data, DataError, Dataset
from model_export.datasets.encoded_images import EncodedImages, Slices
from model_export.datasets.image_folder import is_image
from model_export.datasets.split_names import split_of

_LABEL_KEYS = ("label", "cls", "class", "class_name", "target", "label_name")
_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def open_webdataset(path: Path) -> Data | None:
    """One tar, or those in a folder, divided by their names (train-0000.tar) or folders; None where there is none.

    Classes are the labels as written; classes.txt or classnames.txt beside numbered ones names them. Images are read in
    place; a compressed tar is unpacked to a temporary file. Raises DataError for a sample without an image or a label.
    """
    files = (
        [path] if path.is_file() else sorted(file for file in [*path.glob("*"), *path.glob("*/*")] if file.is_file())
    )
    files = [file for file in files if file.name.endswith(_SUFFIXES)]
    if not files:
        return None
    shards: dict[str, list[_Shard]] = defaultdict(list)
    for file in files:
        named = (
            split_of(word) for word in (*file.name.partition(".")[0].replace("_", "-").split("-"), file.parent.name)
        )
        shards[next(filter(None, named), "all")].append(_Shard(file))
    if "all" in shards and len(shards) > 1:
        raise DataError(f"{path}: {shards['all'][0].file.name} names no part, others do; call tars PART-*.tar")
    written = sorted_names(label for part in shards.values() for shard in part for label in shard.labels)
    classes = _named(path if path.is_dir() else path.parent, written)
    index_of = {label: index for index, label in enumerate(written)}
    parts: dict[str, Dataset] = {}
    for part in ("all", *PARTS):
        if part in shards:
            images = [(shard, index) for shard in shards[part] for index in range(len(shard.labels))]
            labels = [index_of[shard.labels[index]] for shard, index in images]
            names = [f"{shard.file.name}/{shard.names[index]}" for shard, index in images]
            parts[part] = EncodedImages(classes, labels, names, _reader(images))
    return Data("WebDataset", parts)


def _reader(images: list[tuple["_Shard", int]]) -> Callable[[int], bytes]:
    def read(index: int) -> bytes:
        shard, inside = images[index]
        return shard.read(inside)

    return read


def _named(folder: Path, written: tuple[str, ...]) -> tuple[str, ...]:
    path = next((p for p in (folder / "classes.txt", folder / "classnames.txt") if p.is_file()), None)
    if path is None or not all(label.isdecimal() for label in written):
        return written
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if int(written[-1]) >= len(names):
        raise DataError(f"{path}: names {len(names):,} classes, and label {written[-1]} occurs")
    return tuple(names[int(label)] for label in written)


class _Shard:
    """One tar's images, their places in it and their labels."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.names: list[str] = []
        self.read: Callable[[int], bytes]  # an image's bytes; from any thread
        self.labels: list[str] = []
        slices: list[tuple[int, int]] = []
        try:
            with _uncompressed(file) as tar, tarfile.open(fileobj=tar, mode="r:") as archive:
                for name, label, image in self._samples(archive):
                    self.names.append(name)
                    self.labels.append(label)
                    slices.append((image.offset_data, image.size))
                # A plain tar is opened for every image: there may be more of them than files may be open.
                self.read = Slices(tar, slices) if file.suffix != ".tar" else partial(_slice, file, slices)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{file}: the archive is truncated or damaged: {error}") from None

    def _samples(self, archive: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
        samples: dict[str, dict[str, tarfile.TarInfo]] = defaultdict(dict)
        for member in archive:
            folder, _, name = member.name.rpartition("/")
            key, _, suffix = name.partition(".")
            if member.isfile() and key:
                samples[f"{folder}/{key}".lstrip("/")][suffix.lower()] = member
        for key, files in samples.items():
            image = next((files[suffix] for suffix in files if is_image(f"x.{suffix}")), None)
            if image is None:
                raise DataError(f"{self.file}: sample {key} has {', '.join(files)} and no image")
            yield image.name, self._label(archive, key, files), image

    def _label(self, archive: tarfile.TarFile, key: str, files: dict[str, tarfile.TarInfo]) -> str:
        for suffix in ("cls", "cls.txt", "label", "json", "txt"):
            if suffix in files and (content := archive.extractfile(files[suffix])) is not None:
                text = content.read().decode(errors="replace").strip()
                if suffix != "json":
                    return text
                try:
                    told = json.loads(text)
                    return str(next(told[name] for name in _LABEL_KEYS if name in told))
                except (ValueError, TypeError, StopIteration):
                    raise DataError(f"{self.file}: {key}.json has none of {', '.join(_LABEL_KEYS)}") from None
        raise DataError(f"{self.file}: sample {key} has {', '.join(files)} and no class (.cls, .txt or .json)")


def _slice(file: Path, slices: list[tuple[int, int]], index: int) -> bytes:
    offset, length = slices[index]
    with file.open("rb") as tar:
        tar.seek(offset)
        return tar.read(length)


def _uncompressed(file: Path) -> IO[bytes]:
    if file.suffix == ".tar":
        return file.open("rb")
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's to close
    with tarfile.open(file) as archive, tarfile.open(fileobj=unpacked, mode="w:") as plain:
        for member in archive:
            plain.addfile(member, archive.extractfile(member) if member.isfile() else None)
    unpacked.seek(0)
    return unpacked
