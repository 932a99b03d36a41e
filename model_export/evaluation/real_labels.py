"""ReaL multi-label files for ImageNet's validation images (Beyer et al. 2020)."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from model_export.errors import ExportError


class RealLabelsError(ExportError):
    """A file that holds no ReaL labels for the images; the message says why."""


def read_real_labels(path: Path, names: Iterable[str]) -> list[list[int]]:
    """The classes that are right for each image of `names`; an empty list where the file has none.

    The file is google-research/reassessed-imagenet's `real.json`, a list whose element i belongs to
    ILSVRC2012_val_{i + 1:08d}.JPEG, or a JSON object from file name to classes. Raises RealLabelsError.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RealLabelsError(f"{path}: {error}") from None
    if isinstance(content, dict):
        by_name: dict[str, list[int]] = content
    elif isinstance(content, list):
        by_name = {f"ILSVRC2012_val_{i:08d}": classes for i, classes in enumerate(content, start=1)}
    else:
        raise RealLabelsError(f"{path}: neither a list nor an object")
    labels: list[list[int]] = [
        next((by_name[key] for key in (name, Path(name).name, _stem(name)) if key in by_name), []) for name in names
    ]
    if not all(isinstance(classes, list) and all(isinstance(c, int) for c in classes) for classes in labels):
        raise RealLabelsError(f"{path}: an image's labels are not a list of class indices")
    if not any(labels):
        raise RealLabelsError(f"{path}: has no labels for any of the images")
    return labels


def _stem(name: str) -> str:
    """ImageNet's own file stem, without the synset that some copies append."""
    match = re.match(r"ILSVRC2012_val_\d{8}", Path(name).name)
    return match.group() if match else Path(name).stem
