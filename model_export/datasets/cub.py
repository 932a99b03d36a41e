"""Caltech-UCSD Birds 200-2011 as its archive unpacks, and data sets in its lists, such as NABirds.

Wah et al. 2011, https://www.vision.caltech.edu/datasets/cub_200_2011: images/ and lists with an image's number first.
"""

from pathlib import Path

from model_export.datasets.dataset import Data, DataError, Dataset
from model_export.datasets.encoded_images import files_below

_LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


def open_cub(folder: Path) -> Data | None:
    """train and test by train_test_split.txt, classes by classes.txt; None if `folder` has not all of the lists.

    Raises DataError for lists that do not fit each other or the images.
    """
    if not all((folder / name).is_file() for name in _LISTS):
        return None
    paths, numbers, in_train, names = (_list(folder / name) for name in _LISTS)
    used = sorted(set(numbers.values()), key=lambda number: (len(number), number))
    parts: dict[str, Dataset] = {}
    try:
        for part, flag in (("train", "1"), ("test", "0")):
            chosen = [image for image in paths if in_train[image] == flag]
            labels = [used.index(numbers[image]) for image in chosen]
            files = [f"images/{paths[image]}" for image in chosen]
            parts[part] = files_below(folder, [names[number] for number in used], labels, files)
    except KeyError as error:
        raise DataError(f"{folder}: number {error.args[0]} is missing from one of {', '.join(_LISTS)}") from None
    files = [f"images/{path}" for path in paths.values()]
    if missing := [path for path in files if not (folder / path).is_file()]:
        raise DataError(f"{folder}: {len(missing):,} of its listed images are not there: {', '.join(missing[:3])}")
    return Data("CUB-200", parts)


def _list(path: Path) -> dict[str, str]:
    """Number or other identifier -> the rest of its line."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return {number: rest.strip() for number, _, rest in (line.strip().partition(" ") for line in lines if line.strip())}
