"""`mixer-classify --features` around engines with an obvious answer, with a head and without."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.offline import command
from tests.doubles import EchoEngine, HeadlessEngine, ThreadLanes, features_of, level_png, write_bundle

LEVELS = {"a.png": 1, "c.png": 3, "d.png": 4}
PATHS = ["a.png", "b.png", "c.png", "d.png"]  # b.png is no image
Run = Callable[..., object]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """With the models `echo`, `backbone`, which has no head, and `old`, whose bundle is older than features."""
    write_bundle(tmp_path / "models", "echo", features=True)
    write_bundle(tmp_path / "models", "backbone", features=True, head=False)
    write_bundle(tmp_path / "models", "old")
    for name, level in LEVELS.items():
        (tmp_path / name).write_bytes(level_png(level))
    (tmp_path / "b.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)

    def run(model: str, *arguments: str) -> object:
        """Its exit code, or what it says instead."""
        engine = HeadlessEngine() if model == "backbone" else EchoEngine()
        monkeypatch.setattr("service.offline.classifier.StartedLane", ThreadLanes(engine))
        with pytest.raises(SystemExit) as ended:
            command.run([*arguments, "--model", model])
        return ended.value.code

    return run


def expected(names: list[str] = PATHS) -> np.ndarray:
    return np.array([features_of([LEVELS[name]])[0] if name in LEVELS else [np.nan] * 3 for name in names], np.float32)


@pytest.mark.parametrize("model", ["echo", "backbone"])
def test_row_i_of_the_features_is_of_row_i_of_the_csv(run: Run, model: str) -> None:
    arguments = ("--csv", "x.csv", "--top-k", "1", "--features", "x.npy")
    assert run(model, "d.png", "b.png", *arguments) == 1
    assert run(model, *PATHS, *arguments) == 1  # it goes on
    rows = list(csv.DictReader(Path("x.csv").read_text().splitlines()))
    order = [row["path"] for row in rows]
    assert order == ["d.png", "b.png", "a.png", "c.png"]
    np.testing.assert_array_equal(np.load("x.npy"), expected(order))
    assert [not row["error"] for row in rows] == [True, False, True, True]
    columns = {"path", "model", "error"} | ({"index_1", "label_1", "probability_1"} if model == "echo" else set())
    assert rows[0].keys() == columns


@pytest.mark.parametrize("model", ["echo", "backbone"])
def test_row_i_of_the_features_is_of_row_i_of_the_json_lines(run: Run, model: str) -> None:
    for paths in (PATHS[:3], PATHS, PATHS):
        assert run(model, *paths, "--jsonl", "x.jsonl", "--features", "x.npy") == 1
    rows = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == PATHS
    assert [("predictions" in row, "error" in row) for row in rows[:2]] == [(model == "echo", False), (False, True)]
    np.testing.assert_array_equal(np.load("x.npy"), expected())


@pytest.mark.parametrize("model", ["echo", "backbone"])
def test_alone_the_rows_are_on_standard_output_and_it_does_not_go_on(
    run: Run, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(model, *PATHS, "--features", "x.npy", "--top-k", "1") == 1
    told, errors = capfd.readouterr()
    assert [line.split("\t")[0] for line in told.splitlines()] == PATHS
    assert told.splitlines()[3] == ("d.png\tlevel 4 1.0000" if model == "echo" else "d.png")
    assert "1 with errors" in errors
    whole = Path("x.npy").read_bytes()
    np.testing.assert_array_equal(np.load("x.npy"), expected())
    message = "mixer-classify: x.npy has 4 rows, where the answers to go on from have 0; it is left as it is"
    assert run(model, *PATHS, "--features", "x.npy") == message
    assert Path("x.npy").read_bytes() == whole


def test_rows_of_a_run_without_features_get_none_later(run: Run) -> None:
    run("echo", *PATHS, "--csv", "x.csv")
    rows = Path("x.csv").read_bytes()
    told = run("echo", *PATHS, "--csv", "x.csv", "--features", "x.npy")
    assert told == "mixer-classify: x.npy has 0 rows, where the answers to go on from have 4; it is left as it is"
    assert (Path("x.csv").read_bytes(), Path("x.npy").exists()) == (rows, False)


def test_what_a_model_does_not_give_is_told_before_anything_is_written(run: Run) -> None:
    told = run("backbone", *PATHS, "--csv", "x.csv")
    assert told == (
        "mixer-classify: backbone/1 has no head, so it predicts nothing; its features can be had (--features)"
    )
    told = run("old", *PATHS, "--csv", "x.csv", "--features", "x.npy")
    assert told == ("mixer-classify: the bundle of old/1 is of a time when there were no features; export it again")
    assert not Path("x.csv").exists()
    assert not Path("x.npy").exists()
