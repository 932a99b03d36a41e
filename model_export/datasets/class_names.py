"""One class by several names: in any case, as a WordNet id, as its words, or as both."""

import re
from collections.abc import Callable, Sequence

_WNID = re.compile(r"(n\d{8})\b[\s:,-]*(.*)")


def match_classes(names: Sequence[str], labels: Sequence[str]) -> list[int | None]:
    """For every name the index of the one label that means the same, None where none or several do.

    Names are the same without regard to case and white space; "n01440764 tench, Tinca tinca" is n01440764 as well as
    "tench, Tinca tinca". Equal words with different ids (ImageNet has two cranes) are different classes.
    """
    exact = _index(labels, lambda label: [label])
    loose = _index(labels, _forms)
    matches: list[int | None] = []
    for name in names:
        found = exact.get(name) or next((loose[form] for form in _forms(name) if form in loose), set())
        matches.append(next(iter(found)) if len(found) == 1 else None)
    return matches


def _index(labels: Sequence[str], forms: Callable[[str], list[str]]) -> dict[str, set[int]]:
    index: dict[str, set[int]] = {}
    for number, label in enumerate(labels):
        for form in forms(label):
            index.setdefault(form, set()).add(number)
    return index


def _forms(name: str) -> list[str]:
    """The surest first: its id, all of it, its words."""
    plain = " ".join(name.casefold().replace("_", " ").split())
    match = _WNID.fullmatch(plain)
    return [form for form in (match and match[1], plain, match and match[2]) if form]
