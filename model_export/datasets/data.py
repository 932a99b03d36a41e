"""Labelled images by one name: an image folder, a CIFAR archive, or scikit-learn's digits."""

from pathlib import Path

from model_export.datasets import cifar
from model_export.datasets.dataset import DataError, Dataset
from model_export.datasets.image_folder import ImageFolder

__all__ = ["DataError", "Dataset", "open_data"]

_VALIDATION = ("val", "validation", "valid", "test")


def open_data(data: str) -> dict[str, Dataset]:
    """The parts of `data`: {"train", "val"}, or {"all"} for a folder without that division.

    `data` is "digits" (scikit-learn's, with the fixed split of `datasets.digits`), a CIFAR-10 or CIFAR-100 python
    archive (`.tar.gz`, or the folder it extracts to), or a folder: FOLDER/<class>/ with images at any depth below,
    or FOLDER/train/<class>/ beside FOLDER/val/<class>/ (or validation/, valid/, test/). Classes are in the order of
    their names. Raises DataError, one sentence, if it is none of these.
    """
    if data == "digits":
        from model_export.datasets.digits import open_digits  # noqa: PLC0415 - scikit-learn takes a second to import

        return dict(open_digits())
    path = Path(data)
    if not path.exists():
        raise DataError(f"{data}: no such file or folder")
    if (archive := cifar.open_archive(path)) is not None:
        return dict(archive)
    if not path.is_dir():
        raise DataError(f"{data}: neither a folder of images nor a CIFAR archive (.tar.gz)")
    if not (path / "train").is_dir():
        return {"all": ImageFolder(path)}
    validation = [path / name for name in _VALIDATION if (path / name).is_dir()]
    if not validation:
        raise DataError(f"{data}: has train/ but none of {', '.join(f'{name}/' for name in _VALIDATION)}")
    train = ImageFolder(path / "train")
    return {"train": train, "val": ImageFolder(validation[0], train.classes)}
