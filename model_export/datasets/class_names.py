"""Names that are none of classes, whatever layout they come from."""

import re
from collections import defaultdict
from collections.abc import Sequence

from model_export.datasets.dataset import DataError

_MARKS = re.compile(r"\s*[|;,]\s*")
_MARKS_OR_SPACES = re.compile(rf"{_MARKS.pattern}|\s+")


def check_names(data: str, classes: Sequence[str], one_each: bool) -> None:
    """Raises DataError for classes that are one in two spellings, several in one name, or measurements.

    Where an image has `one_each`, "hot dog" is a class of its own beside "hot" and "dog".
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        spellings[name.casefold() if len(name) > 1 else name].append(name)  # letters are classes of their own
    if alike := next((names for names in spellings.values() if len(names) > 1), None):
        raise DataError(f"{data}: {' and '.join(alike)} are spelt differently and seem one class; spell them alike")
    known = set(classes)
    for name in classes:
        pieces = (_MARKS if one_each else _MARKS_OR_SPACES).split(name)
        if len(pieces) > 1 and known.issuperset(pieces):
            raise DataError(
                f"{data}: {name!r} names several of the classes, and an image has one; if it is one, call it "
                f"{'_'.join(pieces)!r}"
            )
    if any(not value.is_integer() for value in map(_number, classes) if value is not None) and all(
        _number(name) is not None for name in classes
    ):
        raise DataError(f"{data}: {', '.join(classes[:3])}, ... are measurements and no classes")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
