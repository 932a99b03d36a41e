"""Oxford-IIIT Pets and Oxford Flowers 102 (and 17), as their archives unpack.

Parkhi et al. 2012, https://www.robots.ox.ac.uk/~vgg/data/pets: images/ and annotations/{list,trainval,test}.txt.
Nilsback and Zisserman 2008, https://www.robots.ox.ac.uk/~vgg/data/flowers: jpg/, imagelabels.mat and setid.mat.
"""

import json
from pathlib import Path
from typing import Any

from model_export.datasets.dataset import Data, DataError, Dataset
from model_export.datasets.encoded_images import files_below


def open_pets(folder: Path) -> Data | None:
    """The 37 breeds by name, train (trainval.txt) and test; None if `folder` is no Oxford Pets.

    Raises DataError for an incomplete one.
    """
    lists = next((lists for lists in (folder / "annotations", folder) if (lists / "trainval.txt").is_file()), None)
    if lists is None:
        return None
    images = folder if (lists == folder.parent / "annotations") else folder / "images"
    rows = {part: _pets_list(lists / f"{file}.txt") for part, file in (("train", "trainval"), ("test", "test"))}
    breeds = {number: image.rpartition("_")[0] for part in rows.values() for image, number in part}
    numbers = sorted(breeds)
    parts: dict[str, Dataset] = {}
    for part, listed in rows.items():
        paths = [f"{images.name}/{image}.jpg" for image, _ in listed]
        _all_there(folder, paths)
        labels = [numbers.index(number) for _, number in listed]
        parts[part] = files_below(folder, [breeds[number] for number in numbers], labels, paths)
    return Data("Oxford Pets", parts)


def _pets_list(path: Path) -> list[tuple[str, int]]:
    """(image's name, class number) of every row: "Abyssinian_100 1 1 1"."""
    try:
        rows = [line.split() for line in path.read_text().splitlines() if line.strip() and line[0] != "#"]
        return [(row[0], int(row[1])) for row in rows]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: is not Oxford Pets' list of images and class numbers: {error}") from None


def open_flowers(folder: Path) -> Data | None:
    """The 102 classes, named by number unless cat_to_name.json lies beside; train, val and test by setid.mat.

    None if `folder` is no Oxford Flowers; raises DataError for an incomplete one.
    """
    labels_path, sets_path = folder / "imagelabels.mat", folder / "setid.mat"
    if not labels_path.is_file():
        return None
    if not sets_path.is_file():
        raise DataError(f"{folder}: imagelabels.mat needs setid.mat beside it, which divides the images")
    numbers = [int(number) for number in _matlab(labels_path, "labels")]
    names = _flower_names(folder / "cat_to_name.json")
    order = sorted(set(numbers))
    parts: dict[str, Dataset] = {}
    for part, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        chosen = [int(number) for number in _matlab(sets_path, key)]
        if not all(1 <= number <= len(numbers) for number in chosen):
            raise DataError(f"{sets_path}: names images beyond the {len(numbers):,} of imagelabels.mat")
        paths = [f"jpg/image_{number:05d}.jpg" for number in chosen]
        _all_there(folder, paths)
        labels = [order.index(numbers[number - 1]) for number in chosen]
        parts[part] = files_below(folder, [names.get(str(n), str(n)) for n in order], labels, paths)
    return Data("Oxford Flowers", parts)


def _flower_names(path: Path) -> dict[str, str]:
    try:
        names = json.loads(path.read_text())
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ValueError("no object from number to name")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return names


def _matlab(path: Path, key: str) -> list[Any]:
    from scipy.io import loadmat  # noqa: PLC0415 - slow to import

    try:
        values: list[Any] = loadmat(path)[key].ravel().tolist()
    except Exception as error:  # damaged files provoke nearly every class there is
        raise DataError(f"{path}: has no readable {key!r}: {error}") from None
    return values


def _all_there(folder: Path, paths: list[str]) -> None:
    if missing := [path for path in paths if not (folder / path).is_file()]:
        raise DataError(f"{folder}: {len(missing):,} of its listed images are not there: {', '.join(missing[:3])}")
