"""Names that are none of classes, whatever layout they come from."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from model_export.datasets.dataset import DataError

_MARKS = re.compile(r"\s*[|;,]\s*")
_JOINTS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")
_WHOLE_NUMBER = re.compile(r"0*(\d+?)(?:\.0*)?")
_MARKS_OR_SPACES = re.compile(rf"{_MARKS.pattern}|\s+")


def check_names(data: str, classes: Sequence[str], one_each: bool) -> None:
    """Raises DataError for classes that are one in two spellings, several in one name, or measurements.

    Where an image has `one_each`, "hot dog" is a class of its own beside "hot" and "dog".
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        spellings[_spelt_alike(name)].append(name)
    if alike := next((names for names in spellings.values() if len(names) > 1), None):
        told = alike if len(set(map(_shown, alike))) > 1 else map(ascii, alike)  # where they look the same
        raise DataError(f"{data}: {' and '.join(told)} are spelt differently and seem one class; spell them alike")
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


def _spelt_alike(name: str) -> str:
    """The same for "Hot_dog" and "hot dog", for é in one character and in two, for 1, 01 and 1.0."""
    name = _JOINTS.sub(" ", _shown(name))
    if number := _WHOLE_NUMBER.fullmatch(name):
        return number[1]
    return name.casefold() if len(name) > 1 else name  # letters are classes of their own


def _shown(name: str) -> str:
    """Without what is not seen: how a character is composed, and those without a width."""
    return "".join(each for each in unicodedata.normalize("NFKC", name) if unicodedata.category(each) != "Cf")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
