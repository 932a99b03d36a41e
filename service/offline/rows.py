"""The forms of a row, which says of one image what it shows, or why that is not known."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, Protocol

from service.errors import ServiceError
from service.offline.classifier import Outcome

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
Seen = tuple[str, bool]  # a path, and whether it has no error


class NotOurs(Exception):
    """Rows that are not of this run, or no rows at all; the message says why, after the file's name."""


class Rows(Protocol):
    """A form of rows. `start` is how all that is written begins, and its first line unless that is of a row."""

    start: str

    def row(self, path: str, outcome: Outcome) -> str:
        """With the end of its line."""

    def read(self, lines: Iterable[str]) -> Iterator[Seen]:
        """Rows that were written before, of whole lines; raises NotOurs."""


class CsvRows:
    """RFC 4180, with a line of names and as many columns in every row."""

    def __init__(self, model: str, top_k: int) -> None:
        self._model, self._top_k = model, top_k
        self.start = _csv(_columns(top_k))

    def row(self, path: str, outcome: Outcome) -> str:
        """With empty columns in the place of predictions that there are not."""
        if isinstance(outcome, Exception):
            told = error_fields(outcome)
            return _csv([path, self._model, f"{told['code']}: {told['message']}", *[""] * (3 * self._top_k)])
        cells = [cell for each in outcome.predictions for cell in (each.index, each.label, each.probability)]
        return _csv([path, self._model, "", *cells])

    def read(self, lines: Iterable[str]) -> Iterator[Seen]:
        """Raises csv.Error too, for what is not written so."""
        rows = csv.reader(lines, strict=True)
        names = next(rows, [])
        if names != _columns(self._top_k):
            other = (len(names) - 3) // 3
            if names == _columns(other):
                raise NotOurs(f"has rows with --top-k {other}, and not {self._top_k}")
            raise NotOurs("does not begin like a CSV of mixer-classify")
        for row in rows:
            if len(row) != len(names):
                raise NotOurs(f"line {rows.line_num} has {len(row)} columns, and not {len(names)}")
            _check_model(row[1], self._model, rows.line_num)
            yield row[0], not row[2]


class JsonRows:
    """JSON lines, an object each: path, model, and predictions and image as /v1/classify has them, or else error.

    A `top_k` of 0 stands for a model without a head, whose rows have no predictions.
    """

    start = '{"path": '

    def __init__(self, model: str, top_k: int) -> None:
        self._model, self._top_k = model, top_k

    def row(self, path: str, outcome: Outcome) -> str:
        """In ASCII."""
        told: dict[str, Any] = {"path": path, "model": self._model}
        if isinstance(outcome, Exception):
            told["error"] = error_fields(outcome)
        else:
            if self._top_k:
                told["predictions"] = [asdict(each) for each in outcome.predictions]
            told["image"] = outcome.image
        return json.dumps(told) + "\n"

    def read(self, lines: Iterable[str]) -> Iterator[Seen]:
        """See `Rows`."""
        for number, line in enumerate(lines, 1):
            try:
                told = json.loads(line)
                path, model, is_ok = str(told["path"]), told["model"], "error" not in told
                top_k = len(told["predictions"]) if is_ok and self._top_k else 0
            except (ValueError, TypeError, LookupError, AttributeError):
                raise NotOurs(f"line {number} is none of mixer-classify's") from None
            _check_model(model, self._model, number)
            if is_ok and top_k != self._top_k:
                raise NotOurs(f"has rows with --top-k {top_k}, and not {self._top_k}")
            yield path, is_ok


class TextRows:
    """For people: the path, a tab, and each label with its probability, or of a model without a head the path alone.

    Control characters of a path are escaped as Python does, so that a row is one line and a terminal obeys nothing.
    """

    start = ""

    def row(self, path: str, outcome: Outcome) -> str:
        """See above."""
        path = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], path)
        if isinstance(outcome, Exception):
            told = error_fields(outcome)
            return f"{path}\terror: {told['code']}: {told['message']}\n"
        if not outcome.predictions:
            return f"{path}\n"
        return f"{path}\t{', '.join(f'{each.label} {each.probability:.4f}' for each in outcome.predictions)}\n"

    def read(self, lines: Iterable[str]) -> Iterator[Seen]:
        """It is not read again."""
        raise NotOurs("is not read again")


def error_fields(error: Exception) -> dict[str, str]:
    """Why an image has no predictions, as the API says it: code, message and perhaps reason."""
    if isinstance(error, ServiceError):
        return error.body()
    if isinstance(error, OSError):
        return {"code": "unreadable", "message": error.strerror or str(error)}
    return {"code": "not_an_image", "message": str(error) or type(error).__name__}


def _columns(top_k: int) -> list[str]:
    places = range(1, top_k + 1)
    return [
        "path",
        "model",
        "error",
        *(f"{name}_{place}" for place in places for name in ("index", "label", "probability")),
    ]


def _csv(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)  # whose lines end in \r\n, or else it would not quote a name with \r
    return text.getvalue().removesuffix("\r\n") + "\n"


def _check_model(model: object, ours: str, line: int) -> None:
    if model != ours:
        raise NotOurs(f"line {line} was made by {model}, and not by {ours}")
