"""Parquet files with an image and a label column, as the Hub stores image data sets."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model_export.datasets.class_folders import sorted_names
from model_export.datasets.dataset import PARTS, Data, DataError, Dataset
from model_export.datasets.encoded_images import EncodedImages, Slices
from model_export.datasets.split_names import split_of

_IMAGES = ("image", "img", "jpg", "png", "picture", "bytes")
_LABELS = ("label", "fine_label", "labels", "class", "target", "category", "cls", "class_name")


def open_parquet(path: Path) -> Data | None:
    """One file, or those in a folder or its data/, divided by their names (train-00000-of-00001.parquet).

    The images' bytes are copied to a temporary file, which is gone when the process ends. None where there is no such
    file; raises DataError for files without an image and a label column.
    """
    files = [path] if path.is_file() else sorted([*path.glob("*.parquet"), *path.glob("*/*.parquet")])
    files = [file for file in files if file.suffix == ".parquet"]
    if not files:
        return None
    shards: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        shards[split_of(file.stem.partition("-")[0]) or split_of(file.parent.name) or "all"].append(file)
    if "all" in shards and len(shards) > 1:
        raise DataError(f"{path}: {shards['all'][0].name} names no part, others do; files are called PART-*.parquet")
    columns = {part: _Columns(part_files) for part, part_files in shards.items()}
    names = next((column.names for column in columns.values() if column.names), None)
    names = names or sorted_names(str(label) for column in columns.values() for label in column.labels)
    parts: dict[str, Dataset] = {part: columns[part].dataset(names) for part in ("all", *PARTS) if part in columns}
    unlabelled = [part for part, column in columns.items() if column.unlabelled]
    if unlabelled == list(columns):
        raise DataError(f"{path}: its images have no labels")
    kept = {part: data for part, data in parts.items() if part not in unlabelled}
    notes = tuple(f"the {part} part has no labels" for part in unlabelled)
    return Data("parquet", kept, notes, one_each=any(column.names for column in columns.values()))


class _Columns:
    """The image and the label column of a part's files."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.names: tuple[str, ...] = ()  # what the label column's integers stand for
        self.labels: list[Any] = []
        self.images: list[str] = []  # names
        slices: list[tuple[int, int]] = []
        with tempfile.TemporaryFile() as copy:
            for file in files:
                for name, data, label in self._rows(file):
                    slices.append((copy.tell(), len(data)))
                    copy.write(data)
                    self.images.append(name)
                    self.labels.append(label)
            self._bytes = Slices(copy, slices)

    @property
    def unlabelled(self) -> bool:
        """As the test parts of competitions are: -1 or nothing throughout."""
        return all(label is None or label == -1 for label in self.labels)

    def dataset(self, names: tuple[str, ...]) -> EncodedImages:
        """The part, with its classes in the order of `names`."""
        if self.names or all(isinstance(label, int) and not names[0].isdecimal() for label in self.labels):
            labels = self.labels
        else:
            index_of = {name: index for index, name in enumerate(names)}
            labels = [index_of.get(str(label), -1) for label in self.labels]
        if not self.unlabelled and not all(isinstance(n, int) and 0 <= n < len(names) for n in labels):
            raise DataError(f"{self.files[0]}: a label is none of the {len(names):,} classes")
        return EncodedImages(names, labels, self.images, self._bytes)

    def _rows(self, file: Path) -> Iterator[tuple[str, bytes, Any]]:
        """Name, encoded image and label of every row."""
        try:
            from pyarrow import ArrowException  # noqa: PLC0415 - optional
            from pyarrow.parquet import ParquetFile  # noqa: PLC0415
        except ImportError:
            raise DataError(f"{file}: reading parquet needs pyarrow: pip install 'pyarrow>=19'") from None
        row = -1
        try:
            with ParquetFile(file) as table:
                schema = table.schema_arrow
                image, label = self._named(file, schema.names, _IMAGES), self._named(file, schema.names, _LABELS)
                self.names = self.names or _class_names(schema.metadata, label)
                for batch in table.iter_batches(64, columns=[image, label]):
                    for value, number in zip(batch[0].to_pylist(), batch[1].to_pylist(), strict=True):
                        row += 1
                        yield f"{file.name}/{row}", _encoded(file, row, value), number
        except (ArrowException, OSError) as error:
            raise DataError(f"{file}: is damaged: {' '.join(str(error).split())[:200]}") from None

    def _named(self, file: Path, present: list[str], wanted: tuple[str, ...]) -> str:
        found = next((name for name in wanted if name in present), None)
        if found is None:
            raise DataError(
                f"{file}: has the columns {', '.join(present)}; none of them is called {' or '.join(wanted)}"
            )
        return found


def _encoded(file: Path, row: int, image: Any) -> bytes:
    data = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(data, bytes):
        raise DataError(f"{file}: row {row} holds no image's bytes but {type(data).__name__}")
    return data


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...]:
    """The label column's names, where the file says that it is a ClassLabel of the datasets library."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]
        names = feature["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(map(str, names.values() if isinstance(names, dict) else names))
