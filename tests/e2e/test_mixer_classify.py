"""`mixer-classify` as a process: the service's answers, a row for every file, and runs that are stopped and go on."""

import csv
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service import Classifier
from tests.e2e.processes import GOLDEN, ONE_ENGINE, ROOT, running_service

COMMAND = [sys.executable, "-m", "service.offline"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
ENVIRONMENT |= {"PYTHONPATH": str(ROOT)} | ONE_ENGINE
BAD = {"empty.png": b"", "text.jpg": b"hello", "half.png": (GOLDEN / "digit-1.png").read_bytes()[:-300]}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """In a folder that has 40 images, three that are none and a link to nowhere."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(40):
        shutil.copy(GOLDEN / f"digit-{number % 10}.png", images / f"{number:02}.png")
    for name, data in BAD.items():
        (images / name).write_bytes(data)
    (images / "nowhere.png").symlink_to("missing")

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*COMMAND, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def json_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_file_is_a_row_and_its_predictions_are_those_of_the_service(run: Run, tmp_path: Path) -> None:
    ended = run("images", "--jsonl", "answers.jsonl")
    assert ended.returncode == 1
    assert "44 images" in ended.stderr
    assert "; 4 with errors" in ended.stderr
    assert ended.stdout == ""
    rows = json_rows(tmp_path / "answers.jsonl")
    assert [row["path"] for row in rows] == sorted(f"images/{path.name}" for path in (tmp_path / "images").iterdir())
    with running_service() as service, httpx.Client(base_url=service.url, timeout=60) as client:
        for row in rows:
            file = tmp_path / str(row["path"])
            if not file.exists():
                assert row["error"] == {"code": "unreadable", "message": "No such file or directory"}
                continue
            answer = client.post("/v1/classify", content=file.read_bytes()).json()
            if file.name in BAD:
                assert row["error"] == answer["error"] or file.name == "empty.png"  # an empty body is no image at all
            else:
                assert row["predictions"] == answer["predictions"]
                assert row["image"] == answer["image"]


def test_again_it_does_nothing_that_is_done(run: Run, tmp_path: Path) -> None:
    run("images", "--csv", "answers.csv", "--top-k", "1")
    before = (tmp_path / "answers.csv").read_bytes()
    ended = run("images", "./images/00.png", "--csv", "answers.csv", "--top-k", "1")
    assert (tmp_path / "answers.csv").read_bytes() == before
    assert (ended.returncode, "44 had a row before" in ended.stderr) == (1, True)
    shutil.copy(GOLDEN / "digit-9.png", tmp_path / "images" / "new.png")
    run("images", "--csv", "answers.csv", "--top-k", "1")
    assert (tmp_path / "answers.csv").read_bytes().startswith(before)
    *_, last = csv.DictReader((tmp_path / "answers.csv").read_text().splitlines())
    assert (last["path"], last["label_1"]) == ("images/new.png", "9")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_who_is_stopped_goes_on_with_every_row_once(run: Run, tmp_path: Path, number: signal.Signals) -> None:
    """It is stopped while it waits for more paths: whatever is done by then, no row is lost and none is half."""
    output, features = tmp_path / "answers.jsonl", tmp_path / "features.npy"
    command = [*COMMAND, "-", "--jsonl", str(output), "--features", str(features)]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin
        try:
            process.stdin.write("".join(f"images/{number:02}.png\n" for number in range(20)))
            process.stdin.write("".join(f"missing/{number}.png\n" for number in range(4000)))  # more than is read ahead
            process.stdin.flush()
            while not output.exists() or not output.read_bytes():
                assert process.poll() is None
            process.send_signal(number)
            process.wait(timeout=60)
        finally:
            process.kill()
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    before = [row["path"] for row in json_rows(output)]
    assert before
    assert len(before) - 1 <= len(np.load(features)) <= len(before)
    assert run("images", "--jsonl", str(output), "--features", str(features)).returncode == 1
    rows = json_rows(output)
    after = [row["path"] for row in rows]
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)
    assert set(after) >= {f"images/{path.name}" for path in (tmp_path / "images").iterdir()}
    _check_features(np.load(features), rows)


def _check_features(features: np.ndarray, rows: list[dict[str, Any]]) -> None:
    """Row i of the features is of row i's image."""
    with Classifier.load(GOLDEN.parent, lanes=1, engine="onnxruntime") as classifier:
        expected = classifier.features([GOLDEN / f"digit-{digit}.png" for digit in range(10)])
    assert (features.dtype, features.shape) == (np.float32, (len(rows), 128))
    for row, of_row in zip(rows, features, strict=True):
        if "error" in row:
            assert np.isnan(of_row).all()
        else:
            distances = np.abs(expected - of_row).max(axis=1)
            assert distances.argmin() == int(str(row["path"])[-5])
            assert distances.min() < 1e-3 * np.abs(expected).max()


def test_what_is_not_its_own_is_refused_and_left_as_it_is(run: Run, tmp_path: Path) -> None:
    notes = tmp_path / "notes.csv"
    notes.write_text("mine,not yours\n")
    ended = run("images", "--csv", "notes.csv")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line == "mixer-classify: notes.csv does not begin like a CSV of mixer-classify; it is left as it is"
    assert notes.read_text() == "mine,not yours\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "PATH"),
        (["missing.png"], "missing.png: no such file or folder"),
        (["*.tif"], "*.tif: no such file or folder"),
        (["missing/**"], "missing/**: no such file or folder"),
        (["images", "--top-k", "0"], "--top-k"),
        (["images", "--csv", "a", "--jsonl", "b"], "not allowed with"),
        (["images", "--features", "-"], "argument --features: it must be a file"),
        (["images", "--csv", ""], "argument --csv: it is empty"),
        (["images", "--jsonl", ""], "argument --jsonl: it is empty"),
        (["images", "--model", ""], "argument --model: it is empty"),
        (["images", "--modell", "x"], "--modell"),
    ],
)
def test_arguments_are_checked_before_work(run: Run, arguments: list[str], told: str) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert told in ended.stderr


def test_the_services_model_is_not_passed_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "MIXER_MODEL", "mixer.npz")
    ended = run("images")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("mixer-classify: MIXER_MODEL is for mixer-serve")
    assert run("images", "--model", str(GOLDEN.parent)).returncode == 1  # of the files that are no images


def test_a_setting_that_cannot_be_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "MIXER_LANES", "many")
    ended = run("images")
    assert ended.returncode == 2
    assert ended.stderr.startswith("mixer-classify: MIXER_LANES many: should be a valid integer")


def test_a_file_that_cannot_be_written_is_named(run: Run) -> None:
    ended = run("images", "--csv", "missing/answers.csv")
    assert (ended.returncode, ended.stderr) == (1, "mixer-classify: missing/answers.csv: No such file or directory\n")


def test_a_model_that_is_not_there_is_one_line(run: Run) -> None:
    ended = run("images", "--model", "nothing")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("mixer-classify: ")
    assert "has no model 'nothing'" in line


def test_a_folder_without_images_is_no_success(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for named in ("empty", "empty/**"):
        ended = run(named)
        assert (ended.returncode, ended.stderr) == (1, f"mixer-classify: no image files in {named}\n")


def in_shell(arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    line = f"{sys.executable} -m service.offline {arguments}"
    return subprocess.run(
        line, shell=True, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.usefixtures("run")
def test_whoever_reads_only_the_first_rows_is_no_error(tmp_path: Path) -> None:
    ended = in_shell("images --csv - | head -n 1", tmp_path)
    assert (ended.returncode, ended.stderr.count("Traceback")) == (0, 0)
    assert ended.stdout.startswith("path,model,error,")


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_standard_stream_is_needed_where_rows_go_to_a_file(tmp_path: Path, closed: str) -> None:
    assert in_shell(f"images --jsonl answers.jsonl {closed}", tmp_path).returncode == 1
    rows = json_rows(tmp_path / "answers.jsonl")
    assert (len(rows), sum("error" in row for row in rows)) == (44, 4)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("images --csv - >&-", "mixer-classify: standard output: Bad file descriptor\n"),
        ("- --csv x.csv <&-", "mixer-classify: [Errno 9] Bad file descriptor\n"),
        ("images >/dev/full", "mixer-classify: standard output: No space left on device\n"),
    ],
)
def test_rows_and_paths_that_have_no_way_are_told(tmp_path: Path, arguments: str, told: str) -> None:
    ended = in_shell(arguments, tmp_path)
    assert (ended.returncode, ended.stderr) == (1, told)


def test_progress_is_for_terminals(run: Run, tmp_path: Path) -> None:
    assert "\r" not in run("images").stderr
    for copy in range(30):
        shutil.copytree(tmp_path / "images", tmp_path / "more" / str(copy), symlinks=True)
    reader, terminal = pty.openpty()
    command = [*COMMAND, "more", "--csv", "answers.csv"]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=terminal)
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(reader, 4096)
        except OSError:  # the other end is closed
            break
    os.close(reader)
    assert process.wait(60) == 1
    assert b" of 1,320 images, " in shown
    assert b" img/s" in shown
    assert b" left" in shown
