"""Files of class names, in the forms that people have them in; what is understood otherwise is refused by line."""

import ast
import json
import re
from pathlib import Path
from typing import Any

from model_export.checkpoints.class_names import ClassNames, class_names, imagenet_1k
from model_export.errors import ExportError

IMAGENET_1K = "imagenet-1k"
_HEADER = re.compile(r"(?i)(index|idx|id|class|class_?id|class_?names?|labels?|names?|synset|wnid)")
_QUOTED = re.compile(r"""(["'])((?:(?!\1).)+)\1,?""")
_NUMBER_FIRST = re.compile(r"(\d+)(?:\s*(?:[,;:=|\t]|->|=>)\s*|[.)]\s+)(.+)")
_NUMBER_LAST = re.compile(r"(.+?)\s*(?:[,;:=|\t]|->|=>)\s*(\d+)")
_SPACE_BETWEEN = (re.compile(r"(\d+)\s+(.+)"), re.compile(r"(.+?)\s+(\d+)"))  # may be names: "1 euro", "terminal 2"
_MARKS = ("#", "<", "|", "- ", "* ", "//", "version https:")  # of comments, pages, tables, lists, Git LFS
_SYNSET_FIRST = re.compile(r"(n\d{8})[\s,;]+(.+)")
_CSV = re.compile(r"[^,]+(,\S[^,]*)+")  # commas without a space behind them, as no list of words has


class LabelsError(ExportError):
    """A file of labels that is not understood; the message names the line."""


def read_labels(choice: str) -> ClassNames:
    """The names of classes that `choice` stands for: "imagenet-1k", or a file.

    A file is text with a name or a synset and a name a line, numbered lines ("0,cat" or "cat,0", with a header or
    without), or JSON or a Python literal in any form that `class_names` takes. Raises LabelsError.
    """
    if choice == IMAGENET_1K:
        return imagenet_1k()
    try:
        text = Path(choice).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise LabelsError(f"{choice}: is not UTF-8 text") from None
    try:
        names = class_names(_literal(text) if text.lstrip()[:1] in ("{", "[") else _lines(text))
    except ValueError as error:
        raise LabelsError(f"{choice}: {error}") from None
    if names is None:
        raise LabelsError(f"{choice}: holds no names")
    return names


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its lists are nested too deep") from None
    except ValueError as json_error:
        problem = json_error
    try:
        return ast.literal_eval(text.strip())  # {0: 'tench, Tinca tinca', ...}
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        line = getattr(problem, "lineno", 1)
        raise ValueError(f"line {line}: neither JSON nor a Python literal ({problem})") from None


def _lines(text: str) -> Any:
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")]
    for number, line in enumerate(lines, 1):
        if not line:
            raise ValueError(f"line {number} is empty")
        if not line.replace("\t", "").isprintable():
            raise ValueError(f"line {number} holds a character that cannot be printed")
    for skipped in (0,) if any(map(str.isdigit, lines[0])) else (0, 1):  # a header
        if numbered := _numbered(lines[skipped:], 1 + skipped):
            return numbered
    if all(_QUOTED.fullmatch(line) for line in lines):
        return [_unquoted(line) for line in lines]
    if all(_SYNSET_FIRST.fullmatch(line) for line in lines):
        return [match.groups() for line in lines if (match := _SYNSET_FIRST.fullmatch(line))]
    _check_names(lines)
    return lines


def _check_names(lines: list[str]) -> None:
    """Raises ValueError for lines that are more, or something else, than a name each."""
    for number, line in enumerate(lines, 1):
        marked = line.startswith(_MARKS) or line[0] in "{}[]" or line.endswith((",", ":")) or "://" in line
        if marked or _QUOTED.fullmatch(line):
            raise ValueError(f"line {number}: {line!r} is no name; a file has one name a line, or is JSON as a whole")
    if len(lines) > 1 and all(_CSV.fullmatch(line) for line in lines):
        raise ValueError("line 1: columns without a number of the class; write index,name or one name a line")
    if _HEADER.fullmatch(lines[0]):
        raise ValueError(f"line 1: {lines[0]!r} is a header; delete it")
    for pattern in (_NUMBER_FIRST, _NUMBER_LAST, _SYNSET_FIRST):
        others = [number for number, line in enumerate(lines, 1) if not pattern.fullmatch(line)]
        if len(others) < len(lines) / 2:
            raise ValueError(f"line {others[0]}: is not like the others, which have a number or a synset beside a name")


def _numbered(lines: list[str], first_line: int) -> dict[int, str] | None:
    """Index -> name where every line has an index; None where they have not."""
    spaced_first, spaced_last = _SPACE_BETWEEN
    for pattern, number, name in (
        (_NUMBER_FIRST, 1, 2),
        (_NUMBER_LAST, 2, 1),
        (spaced_first, 1, 2),
        (spaced_last, 2, 1),
    ):
        matches = [pattern.fullmatch(line) for line in lines]
        if not lines or not all(matches):
            continue
        found = sorted(int(match[number]) for match in matches if match)
        if pattern in _SPACE_BETWEEN and found not in (list(range(len(lines))), list(range(1, 1 + len(lines)))):
            continue
        numbered: dict[int, str] = {}
        for line, match in enumerate(matches, first_line):
            assert match is not None
            index = int(match[number])
            if index in numbered or index >= len(lines):
                raise ValueError(f"line {line}: {index} is not one of the numbers 0 to {len(lines) - 1}, each once")
            if _CSV.fullmatch(match[name]):
                raise ValueError(f"line {line}: more than a number and a name; quote a name that has commas")
            numbered[index] = _unquoted(match[name])
        return numbered
    return None


def _unquoted(text: str) -> str:
    match = _QUOTED.fullmatch(text)
    return match[2] if match else text.rstrip(",")
