"""One class by several names: in any case, as an identifier such as a WordNet id, as its words, or as both."""

import re
from collections.abc import Iterable, Sequence

from model_export.checkpoints.class_names import ClassNames

_WNID = re.compile(r"(n\d{8})\b[\s:,-]*(.*)")


def match_classes(names: Sequence[str], known: ClassNames | None) -> list[int | None]:
    """For every name the index of the one known class that it means, None where it means none or several.

    Names are the same without regard to case and white space; "n01440764 tench, Tinca tinca" is n01440764 as well as
    "tench, Tinca tinca". Equal words with different ids (ImageNet has two cranes) are different classes.
    """
    if known is None:
        return [None] * len(names)
    classes = list(zip(known.synsets or known.labels, known.labels, known.identified, strict=True))
    exact = _index(classes)
    loose = _index([form for name in called for form in _forms(name)] for called in classes)
    matches: list[int | None] = []
    for name in names:
        found = exact.get(name) or next((loose[form] for form in _forms(name) if form in loose), set())
        matches.append(next(iter(found)) if len(found) == 1 else None)
    return matches


def _index(classes: Iterable[Sequence[str]]) -> dict[str, set[int]]:
    index: dict[str, set[int]] = {}
    for number, called in enumerate(classes):
        for name in called:
            index.setdefault(name, set()).add(number)
    return index


def _forms(name: str) -> list[str]:
    """The surest first: its id, all of it, its words."""
    plain = " ".join(name.casefold().replace("_", " ").split())
    match = _WNID.fullmatch(plain)
    return [form for form in (match and match[1], plain, match and match[2]) if form]
