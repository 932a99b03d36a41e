"""Labelled images by one name: whatever layout a path is in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from model_export.datasets import cifar
from model_export.datasets.class_folders import open_class_folders
from model_export.datasets.class_names import check_names
from model_export.datasets.cub import open_cub
from model_export.datasets.dataset import Data, DataError, Dataset
from model_export.datasets.imagenet import open_imagenet, open_tiny_imagenet
from model_export.datasets.oxford import open_flowers, open_pets
from model_export.datasets.parquet import open_parquet
from model_export.datasets.tables import SUFFIXES, open_table
from model_export.datasets.webdataset import open_webdataset

__all__ = ["Data", "DataError", "Dataset", "open_data"]

# Each gives None for what is not its own. The surest first: plain folders and tables are read last.
_LAYOUTS: tuple[Callable[[Path], Data | None], ...] = (
    cifar.open_archive,
    open_pets,
    open_flowers,
    open_cub,
    open_tiny_imagenet,
    open_imagenet,
    open_parquet,
    open_webdataset,
)
_DISTINCT, _MANY = 0.8, 100  # captions and identifiers differ from image to image
_KNOWN = (
    "a folder a class, a table (.csv, .tsv, .json, .jsonl), CIFAR, Oxford Pets and Flowers, CUB-200, ImageNet, "
    "Tiny ImageNet, parquet or WebDataset tars"
)


def open_data(data: str, splits: bool = True) -> Data:
    """What lies at `data`, a path or "digits" (scikit-learn's), with at least two classes.

    Without `splits`, folders are classes whatever they are called. Raises DataError, one sentence, for what no layout
    understands or what can be understood in two ways.
    """
    if data == "digits":
        from model_export.datasets.digits import open_digits  # noqa: PLC0415 - scikit-learn takes a second to import

        return Data("scikit-learn's digits", dict(open_digits()))
    path = Path(data)
    if not path.exists():
        raise DataError(f"{data}: no such file or folder")
    opened = _open(path, splits)
    if len(seen := _seen(opened)) < 2:
        raise DataError(
            f"{data}: has one class, {', '.join(seen)}, as {opened.layout}; at least two are needed, in one of these "
            f"layouts: {_KNOWN}"
        )
    check_names(data, opened.classes, opened.one_each)
    if len(seen) > _DISTINCT * (images := sum(map(len, opened.parts.values()))) and images > _MANY:
        raise DataError(f"{data}: {len(seen):,} classes for {images:,} images, as {opened.layout}: they are no classes")
    return opened


def _seen(data: Data) -> list[str]:
    """The classes that images have."""
    return [data.classes[label] for label in sorted({label for part in data.parts.values() for label in part.labels})]


def _open(path: Path, splits: bool) -> Data:
    if not splits and path.is_dir():
        return open_class_folders(path, splits=False)
    for place in _wrapped(path):
        for layout in _LAYOUTS:
            if (data := layout(place)) is not None:
                return data
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: is in none of the layouts that are read: {_KNOWN}; unpack other archives first")
    for place in _wrapped(path):
        try:
            data = open_table(place)
        except DataError as error:
            # A table that cannot be read as one matters less where folders say the classes.
            if path.is_dir() and (folders := _class_folders(path)) is not None:
                return replace(folders, notes=(*folders.notes, f"not used: {error}"))
            raise
        if data is not None:
            return _unless_folders_say_otherwise(path, data)
    return open_class_folders(path)


def _unless_folders_say_otherwise(path: Path, table: Data) -> Data:
    if table.guessed and path.is_dir() and (folders := _class_folders(path)) is not None:
        raise DataError(
            f"{path}: the {table.layout} has {', '.join(table.classes[:3])}, the folders "
            f"{', '.join(folders.classes[:3])}; name the table itself to go by it, or --no-splits to go by the folders"
        )
    return table


def _class_folders(path: Path) -> Data | None:
    try:
        data = open_class_folders(path)
    except DataError:
        return None
    return data if len(_seen(data)) > 1 else None


def _wrapped(path: Path) -> list[Path]:
    """`path`, and the folders that wrap one another inside it, as archives do."""
    places = [path]
    while places[-1].is_dir():
        inside = [entry for entry in places[-1].iterdir() if entry.name[0] != "." and entry.name != "__MACOSX"]
        if len(inside) != 1 or not inside[0].is_dir():
            break
        places.append(inside[0])
    return places
