"""Which of the model's classes each class of the data is, never by a guess that is not told."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from model_export.checkpoints.class_matching import match_classes
from model_export.checkpoints.class_names import ClassNames
from model_export.errors import ExportError

_WNID_LINE = re.compile(r"(n\d{8})\s+(.+)")


class ClassMapError(ExportError):
    """Classes that cannot be told to be the model's; the message says what to do."""


def class_indices(
    names: Sequence[str], known: ClassNames | None, classes: int, class_map: Mapping[str, str] | None = None
) -> tuple[list[int], str]:
    """The model's class of each of the data's `names`, and in words how that was found.

    By `class_map` first, which leads from a name to a label or an index; then by the names, without regard to case;
    then by number. A model without labels and with as many classes has them in the order of the names. Raises
    ClassMapError for anything else.
    """
    mapped = [(class_map or {}).get(name, name) for name in names]
    found = match_classes(mapped, known)
    if class_map:
        found = [_index(name, classes) if index is None else index for name, index in zip(mapped, found, strict=True)]
    indices = [index for index in found if index is not None]
    if len(indices) == len(names):
        if len(set(indices)) < len(indices) and not class_map:
            raise ClassMapError("several of the data's classes have the name of one of the model's; pass --class-map")
        return indices, f"classes are matched {'by --class-map' if class_map else 'by name'}"
    if all(name.isdecimal() for name in names) and not indices:
        return _by_number([int(name) for name in names], classes)
    if not known and len(names) == classes:
        return list(range(classes)), (
            f"the model has no labels, so its {classes:,} classes are taken to be in the order of the data's names"
        )
    unknown = [name for name, index in zip(mapped, found, strict=True) if index is None]
    told = f"the model's, such as {', '.join(known.labels[:3])}" if known else "known: the model has no labels"
    raise ClassMapError(
        f"the data's {len(names):,} classes do not match the model's {classes:,}: {', '.join(unknown[:5])} are not "
        f"among its labels ({told}); pass --labels with the model's, or --class-map from the data's names to them"
    )


def _by_number(numbers: list[int], classes: int) -> tuple[list[int], str]:
    if max(numbers) < classes:
        return numbers, "the data's class numbers are taken for the model's class indices, which count from 0"
    if sorted(numbers) == list(range(1, classes + 1)):
        return [number - 1 for number in numbers], f"the data's classes 1 to {classes} are taken for indices 0 on"
    raise ClassMapError(
        f"the data's classes are numbers up to {max(numbers)}, the model has {classes:,}; pass --class-map"
    )


def _index(text: str, classes: int) -> int | None:
    return int(text) if text.isdecimal() and int(text) < classes else None


def read_class_map(path: Path) -> dict[str, str]:
    """A JSON object from the data's names to labels or indices, or the same as rows of two columns.

    Columns are divided by a tab or a comma, or by white space after a WordNet id, as in LOC_synset_mapping.txt. Raises
    ClassMapError, by line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("{"):
            return {str(name): str(label) for name, label in json.loads(text).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ClassMapError(f"{path}: {error}") from None
    class_map: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        wnid = _WNID_LINE.fullmatch(line.strip())
        row = list(wnid.groups()) if wnid else next(csv.reader([line], delimiter="\t" if "\t" in line else ","))
        if len(row) != 2 or not all(map(str.strip, row)):
            raise ClassMapError(f"{path}: line {number} is not a name and a label or an index")
        if row[0].strip() in class_map:
            raise ClassMapError(f"{path}: line {number} has {row[0].strip()} a second time")
        class_map[row[0].strip()] = row[1].strip()
    if not class_map:
        raise ClassMapError(f"{path}: is empty")
    return class_map
