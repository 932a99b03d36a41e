"""ImageNet as its archives unpack, with a flat validation folder, and Tiny ImageNet.

Russakovsky et al. 2015, https://image-net.org: 50,000 files ILSVRC2012_val_00000001.JPEG and their truth in one of the
forms in which it is passed on. Tiny ImageNet (Stanford CS231n): wnids.txt, train/<wnid>/, val/val_annotations.txt.
"""

import csv
import re
from pathlib import Path
from typing import Any

from model_export.datasets.class_folders import sorted_names
from model_export.datasets.dataset import Data, DataError, Dataset
from model_export.datasets.encoded_images import EncodedImages, files_below
from model_export.datasets.image_folder import find_images

_VAL = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.(?:JPEG|jpe?g|png)$")
_WNID = re.compile(r"n\d{8}")
_TRUTHS = (
    "LOC_val_solution.csv",  # Kaggle: ImageId,PredictionString
    "imagenet_2012_validation_synset_labels.txt",  # TensorFlow: a wnid a line
    "val.txt",  # Caffe: file and class index, or file and wnid
    "val_map.txt",
    "val_labels.txt",
    "synset_labels.txt",
    "ILSVRC2012_validation_ground_truth.txt",  # the devkit: ILSVRC2012_ID a line, which meta.mat turns into wnids
)
_KAGGLE = Path("ILSVRC/Data/CLS-LOC")  # the images in Kaggle's archive, whose tables are beside ILSVRC/
_TRUTH_IS_ONE_OF = f"one of {', '.join(_TRUTHS)} says it"


def open_imagenet(folder: Path) -> Data | None:
    """ImageNet's flat validation files as val, and train/<wnid>/ beside them as train where it is there.

    Classes are wnids, with their words where LOC_synset_mapping.txt or words.txt says them. None if there are no such
    files directly in `folder`, in its val/ or where Kaggle's archive has them; raises DataError without a truth that
    fits them.
    """
    if (folder / _KAGGLE).is_dir():
        return open_imagenet(folder / _KAGGLE)
    inside = next((f for f in (folder, folder / "val", folder / "validation") if _flat(f)), None)
    if inside is None:
        return None
    truth = _truth(folder, inside)
    images = [path for path in find_images(inside).images if _VAL.fullmatch(path)]
    prefix = "" if inside == folder else f"{inside.name}/"
    labels = {image: truth.get(int(match[1])) for image in images if (match := _VAL.fullmatch(image))}
    if unlabelled := [image for image, wnid in labels.items() if wnid is None]:
        raise DataError(f"{folder}: the truth has no class for {len(unlabelled):,} images: {', '.join(unlabelled[:3])}")
    wnids = list(sorted_names(truth.values()))
    classes = _with_words(folder, wnids)
    index_of = {wnid: index for index, wnid in enumerate(wnids)}
    val = files_below(folder, classes, [index_of[str(labels[i])] for i in images], [prefix + i for i in images])
    parts: dict[str, Dataset] = {"val": val}
    if (folder / "train").is_dir():
        parts = {"train": _by_wnid(folder, "train", wnids, classes), "val": val}
    return Data("ImageNet, its validation images by their ground truth", parts)


def open_tiny_imagenet(folder: Path) -> Data | None:
    """train and val of the 200 classes; its test images have no labels. None if `folder` is none.

    Raises DataError for an incomplete one.
    """
    annotations = folder / "val" / "val_annotations.txt"
    if not ((folder / "wnids.txt").is_file() and (folder / "train").is_dir()):
        return None
    wnids = sorted((folder / "wnids.txt").read_text().split())
    classes = _with_words(folder, wnids)
    if not annotations.is_file():
        raise DataError(f"{folder}: val/val_annotations.txt is missing, which says the validation images' classes")
    rows = [line.split("\t") for line in annotations.read_text().splitlines() if line.strip()]
    try:
        labels = [wnids.index(row[1]) for row in rows]
    except (IndexError, ValueError):
        raise DataError(f"{annotations}: a row names no class of wnids.txt") from None
    val = files_below(folder, classes, labels, [f"val/images/{row[0]}" for row in rows])
    if missing := [path for path in val.names if not (folder / path).is_file()]:
        raise DataError(f"{folder}: {len(missing):,} validation images are not there: {', '.join(missing[:3])}")
    train = _by_wnid(folder, "train", wnids, classes)
    return Data("Tiny ImageNet", {"train": train, "val": val}, ("test/ has no labels",))


def _flat(folder: Path) -> bool:
    return folder.is_dir() and any(_VAL.fullmatch(path.name) for path in folder.iterdir())


def _outside(folder: Path) -> Path:
    """Where the tables are that belong to the images in `folder`."""
    return folder.parents[2] if folder.parts[-3:] == _KAGGLE.parts else folder


def _by_wnid(folder: Path, part: str, wnids: list[str], classes: tuple[str, ...]) -> EncodedImages:
    images, index_of = find_images(folder / part).images, {wnid: index for index, wnid in enumerate(wnids)}
    if foreign := [image for image in images if image.partition("/")[0] not in index_of]:
        raise DataError(f"{folder / part}: {foreign[0]} lies in no folder of a known class")
    labels = [index_of[image.partition("/")[0]] for image in images]
    return files_below(folder, classes, labels, [f"{part}/{image}" for image in images])


def _truth(folder: Path, inside: Path) -> dict[int, str]:
    """The wnid, or the class index where only that is told, of every validation image by its number."""
    places = (
        folder,
        inside,
        folder.parent,
        _outside(folder),
        *folder.glob("*devkit*/data"),
        *folder.parent.glob("*devkit*/data"),
    )
    path = next((place / name for name in _TRUTHS for place in places if (place / name).is_file()), None)
    if path is None:
        raise DataError(
            f"{folder}: ImageNet's flat validation images need their ground truth beside them; {_TRUTH_IS_ONE_OF}"
        )
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    if path.name == "ILSVRC2012_validation_ground_truth.txt":
        wnid_of = _devkit_wnids(path.parent / "meta.mat")
        return {number: wnid_of[int(line)] for number, line in enumerate(lines, start=1)}
    if all(_WNID.fullmatch(line.strip()) for line in lines):
        return {number: line.strip() for number, line in enumerate(lines, start=1)}
    truth: dict[int, str] = {}
    for row in csv.reader(line.replace("\t", ",").replace(" ", ",") for line in lines):
        if match := re.search(r"ILSVRC2012_val_(\d{8})", row[0]):
            if len(row) < 2:
                raise DataError(f"{path}: {row[0]} has no class")
            truth[int(match[1])] = row[1]
    if not all(map(_WNID.fullmatch, truth.values())):
        truth = _from_indices(folder, path, truth)
    return truth


def _from_indices(folder: Path, path: Path, truth: dict[int, str]) -> dict[int, str]:
    """Indices count the wnids in order. Where no file and no training folder tells these, the numbers are the names."""
    known = (path.with_name("synsets.txt"), path.with_name("LOC_synset_mapping.txt"))
    if mapping := next((known_path for known_path in known if known_path.is_file()), None):
        wnids = [line.split()[0] for line in mapping.read_text().splitlines() if line.strip()]
    elif (folder / "train").is_dir():
        wnids = sorted(path.name for path in (folder / "train").iterdir() if _WNID.fullmatch(path.name))
    else:
        return truth
    try:
        return {number: wnids[int(index)] for number, index in truth.items()}
    except (ValueError, IndexError):
        raise DataError(f"{path}: a class is neither a wnid nor an index into the {len(wnids):,} wnids") from None


def _devkit_wnids(path: Path) -> dict[int, str]:
    from scipy.io import loadmat  # noqa: PLC0415 - slow to import

    if not path.is_file():
        raise DataError(f"{path}: is missing, and says which class each number of the devkit's ground truth is")
    try:
        synsets: Any = loadmat(path, squeeze_me=True)["synsets"]
        return {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
    except Exception as error:  # damaged files provoke nearly every class there is
        raise DataError(f"{path}: is not the devkit's: {error}") from None


def _with_words(folder: Path, wnids: list[str]) -> tuple[str, ...]:
    """Names such as "n01440764 tench, Tinca tinca", or the wnids alone where no file says the words."""
    for path in (_outside(folder) / "LOC_synset_mapping.txt", folder / "words.txt"):
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            words = {
                wnid: text.strip() for wnid, _, text in (re.sub(r"\t", " ", line).partition(" ") for line in lines)
            }
            return tuple(f"{wnid} {words[wnid]}" if words.get(wnid) else wnid for wnid in wnids)
    return tuple(wnids)
