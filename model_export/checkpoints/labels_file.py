"""Files of class names, in the forms that people have them in; what is understood otherwise is refused by line."""

import ast
import json
import re
from pathlib import Path
from typing import Any

from model_export.checkpoints.class_names import ClassNames, class_names, imagenet_1k
from model_export.errors import ExportError

IMAGENET_1K = "imagenet-1k"
_HEADER = re.compile(r"(?i)(index|idx|id|class|class_?id|class_?name|label|name|synset|wnid)")
_QUOTED = re.compile(r"""(["'])(.+)\1,?""")
_NUMBER_FIRST = re.compile(r"\s*(\d+)\s*[,;:\t]\s*(.+)")
_NUMBER_LAST = re.compile(r"(.+?)\s*[,;\t]\s*(\d+)\s*")
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
    for skipped in (0, 1) if _HEADER.match(lines[0]) else (0,):
        if numbered := _numbered(lines[skipped:], 1 + skipped):
            return numbered
    if all(_QUOTED.fullmatch(line) for line in lines):
        return [_unquoted(line) for line in lines]
    if all(_SYNSET_FIRST.fullmatch(line) for line in lines):
        return [match.groups() for line in lines if (match := _SYNSET_FIRST.fullmatch(line))]
    for number, line in enumerate(lines, 1):
        if _QUOTED.fullmatch(line) or line[0] in "{}[]" or line.endswith((",", ":")):
            raise ValueError(f"line {number}: {line!r} is no name; a file has one name a line, or is JSON as a whole")
    if len(lines) > 1 and all(_CSV.fullmatch(line) for line in lines):
        raise ValueError("line 1: columns without a number of the class; write index,name or one name a line")
    return lines


def _numbered(lines: list[str], first_line: int) -> dict[int, str] | None:
    """Index -> name where every line has an index; None where they have not."""
    for pattern, number, name in ((_NUMBER_FIRST, 1, 2), (_NUMBER_LAST, 2, 1)):
        matches = [pattern.fullmatch(line) for line in lines]
        if not lines or not all(matches):
            continue
        numbered: dict[int, str] = {}
        for line, match in enumerate(matches, first_line):
            assert match is not None
            index = int(match[number])
            if index in numbered or index >= len(lines):
                raise ValueError(f"line {line}: {index} is not one of the numbers 0 to {len(lines) - 1}, each once")
            numbered[index] = _unquoted(match[name])
        return numbered
    return None


def _unquoted(text: str) -> str:
    match = _QUOTED.fullmatch(text)
    return match[2] if match else text.rstrip(",")
