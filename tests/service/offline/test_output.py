"""Rows in a file: what is there is gone on with, half a row is cut away, and nobody else's file is touched."""

import csv
import io
import json
from pathlib import Path

import pytest

from service.errors import InvalidImage, UnsupportedImage
from service.lanes.postprocess import Prediction
from service.offline.classifier import Classification, Outcome
from service.offline.output import Output
from service.offline.rows import CsvRows, JsonRows, NotOurs, Rows, TextRows

MODEL = "echo/1@0123456789ab"
IMAGE = {"width": 4, "height": 4, "format": "PNG"}
ODD = [
    "plain.png",
    'a "b", c.png',
    "two\nlines.png",
    "carriage\rreturn.png",
    "both\r\n.png",
    "\udcff.png",
    "ünï.png",
    ",",
    " x ",
]
FORMS = pytest.mark.parametrize("form", [CsvRows, JsonRows])


def answer(label: str = "seven, or 7") -> Classification:
    return Classification("echo", "1", (Prediction(7, label, 0.9), Prediction(1, "one", 1e-06)), IMAGE)


def written(path: Path, rows: Rows, *names: str, outcome: Outcome | None = None) -> Output:
    output = Output.open(str(path), rows)
    for name in names:
        output.write(name, outcome or answer())
    output.close()
    return output


def paths_of(path: Path, form: type) -> list[str]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        if form is CsvRows:
            return [row[0] for row in csv.reader(lines, strict=True)][1:]
        return [json.loads(line)["path"] for line in lines]


def test_the_columns_of_csv(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    rows = CsvRows(MODEL, 2)
    written(file, rows, "a.png")
    written(file, rows, "b.png", outcome=InvalidImage("it is, as said, bad", reason="truncated"))
    first, second = csv.DictReader(file.read_text().splitlines())
    predictions = {"index_1": "7", "label_1": "seven, or 7", "probability_1": "0.9"}
    predictions |= {"index_2": "1", "label_2": "one", "probability_2": "1e-06"}
    assert first == {"path": "a.png", "model": MODEL, "error": ""} | predictions
    told = {"path": "b.png", "model": MODEL, "error": "invalid_image: it is, as said, bad"}
    assert second == told | dict.fromkeys(predictions, "")


def test_the_fields_of_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    rows = JsonRows(MODEL, 2)
    written(file, rows, "a.png")
    written(file, rows, "b.png", outcome=UnsupportedImage("no", reason="format"))
    written(file, rows, "c.png", outcome=FileNotFoundError(2, "No such file or directory"))
    first, *errors = map(json.loads, file.read_text().splitlines())
    assert first["predictions"][0] == {"index": 7, "label": "seven, or 7", "probability": 0.9}
    assert (first["path"], first["model"], first["image"]) == ("a.png", MODEL, IMAGE)
    assert [error["error"] for error in errors] == [
        {"code": "unsupported_image", "message": "no", "reason": "format"},
        {"code": "unreadable", "message": "No such file or directory"},
    ]


def test_rows_for_people_are_a_line_each_and_a_terminal_obeys_nothing() -> None:
    told = [
        TextRows().row(name, UnsupportedImage("no")) for name in ("ünï \udcff.png", "a\r\n\tb", "\x1b[31m\x9b1m\u2028")
    ]
    names = ["ünï \udcff.png", r"a\r\n\tb", r"\x1b[31m\x9b1m\u2028"]
    assert told == [f"{name}\terror: unsupported_image: no\n" for name in names]


@FORMS
def test_what_is_there_is_known_whatever_it_is_called(tmp_path: Path, form: type) -> None:
    file = tmp_path / "x"
    written(file, form(MODEL, 2), *ODD)
    output = written(file, form(MODEL, 2), "new")
    assert not any(output.done.add(name) for name in ODD)
    assert paths_of(file, form) == [*ODD, "new"]


def test_a_line_of_names_that_is_longer_than_a_buffer_is_known_again(tmp_path: Path) -> None:
    file, rows = tmp_path / "x", CsvRows(MODEL, 10_000)
    assert len(rows.start) > 2 * io.DEFAULT_BUFFER_SIZE
    written(file, rows, "a.png", outcome=InvalidImage("no"))
    assert "a.png" in written(file, rows, "b.png", outcome=InvalidImage("no")).done
    assert paths_of(file, CsvRows) == ["a.png", "b.png"]


@FORMS
def test_rows_with_errors_are_counted(tmp_path: Path, form: type) -> None:
    file = tmp_path / "x"
    written(file, form(MODEL, 2), "bad", "worse", outcome=InvalidImage("no"))
    assert (written(file, form(MODEL, 2), "good").failed, written(file, form(MODEL, 2)).failed) == (2, 2)


@FORMS
def test_wherever_it_was_cut_off_it_goes_on_with_whole_rows(tmp_path: Path, form: type) -> None:
    file = tmp_path / "x"
    written(file, form(MODEL, 2), *ODD)
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        output = Output.open(str(file), form(MODEL, 2))
        for name in ODD:
            if output.done.add(name):
                output.write(name, answer())
        output.close()
        assert file.read_bytes() == whole, size


@FORMS
@pytest.mark.parametrize(
    "text", [b"hello", b"hello\n", b"\xff\xd8\xff\xe0" * 99, b"\n", b'{"path": 1}\n', b"path,model\n"]
)
def test_what_is_no_output_of_ours_is_left_as_it_is(tmp_path: Path, form: type, text: bytes) -> None:
    file = tmp_path / "x"
    file.write_bytes(text)
    with pytest.raises(NotOurs):
        Output.open(str(file), form(MODEL, 2))
    assert file.read_bytes() == text


@FORMS
@pytest.mark.parametrize(("model", "top_k", "told"), [("other/1@0", 2, "was made by"), (MODEL, 5, "--top-k 2")])
def test_rows_of_another_run_are_left_as_they_are(
    tmp_path: Path, form: type, model: str, top_k: int, told: str
) -> None:
    file = tmp_path / "x"
    written(file, form(MODEL, 2), "a")
    before = file.read_bytes()
    with pytest.raises(NotOurs, match=told):
        Output.open(str(file), form(model, top_k))
    assert file.read_bytes() == before


@pytest.mark.parametrize(("form", "other"), [(CsvRows, JsonRows), (JsonRows, CsvRows)])
def test_one_form_is_not_taken_for_the_other(tmp_path: Path, form: type, other: type) -> None:
    file = tmp_path / "x"
    written(file, form(MODEL, 2), "a")
    with pytest.raises(NotOurs):
        Output.open(str(file), other(MODEL, 2))


@FORMS
def test_damage_before_the_end_is_told_and_nothing_is_cut_away(tmp_path: Path, form: type) -> None:
    file = tmp_path / "x"
    written(file, form(MODEL, 2), "a", "b", "c")
    lines = file.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:-2], lines[-2][:9] + b'"\n', lines[-1]])
    file.write_bytes(damaged)
    with pytest.raises(NotOurs):
        Output.open(str(file), form(MODEL, 2))
    assert file.read_bytes() == damaged


@FORMS
def test_two_runs_do_not_write_to_one_file(tmp_path: Path, form: type) -> None:
    first = Output.open(str(tmp_path / "x"), form(MODEL, 2))
    with pytest.raises(NotOurs, match="another run"):
        Output.open(str(tmp_path / "x"), form(MODEL, 2))
    first.close()
    Output.open(str(tmp_path / "x"), form(MODEL, 2)).close()


def test_a_device_is_refused() -> None:
    with pytest.raises(NotOurs, match="not a regular file"):
        Output.open("/dev/null", JsonRows(MODEL, 2))
