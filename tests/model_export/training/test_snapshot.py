import pickle
from pathlib import Path

import pytest
import torch

from model_export.training.atomic import replacing
from model_export.training.run_log import append_line, keep_lines
from model_export.training.snapshot import TrainingError, bf16_of, read_snapshot, write_snapshot

STATE = {
    "step": 31,
    "lines": 3,
    "loss": 0.5,
    "seen": 7,
    "best": 0.25,
    "model": {"weight": torch.arange(4.0)},
    "optimizer": {},
    "average": None,
    "batches": {},
    "random": torch.get_rng_state(),
}
SETTINGS = {"epochs": 10, "preprocessing": {"mean": (0.5, 0.5, 0.5)}, "bf16": False}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "out.resume"
    assert read_snapshot(path, SETTINGS) is None
    write_snapshot(path, SETTINGS, STATE)
    state = read_snapshot(path, SETTINGS)
    assert state is not None
    assert (state["step"], state["lines"], state["best"]) == (31, 3, 0.25)
    assert torch.equal(state["model"]["weight"], torch.arange(4.0))
    assert [file.name for file in tmp_path.iterdir()] == ["out.resume"]


def test_a_run_with_other_settings_is_told_which(tmp_path: Path) -> None:
    path = tmp_path / "out.resume"
    write_snapshot(path, SETTINGS, STATE)
    with pytest.raises(TrainingError, match="that run had epochs 10, this one has 12"):
        read_snapshot(path, SETTINGS | {"epochs": 12})


def test_images_that_went_or_came_are_named(tmp_path: Path) -> None:
    path = tmp_path / "out.resume"
    write_snapshot(path, SETTINGS | {"images": ["cat/1.png", "dog/1.png"], "data": "a"}, STATE)
    with pytest.raises(TrainingError, match=r"had 1 images that are not there now: cat/1\.png; put them back"):
        read_snapshot(path, SETTINGS | {"images": ["dog/1.png"], "data": "b"})
    with pytest.raises(TrainingError, match=r"1 images are new since that run: dog/2\.png; take them away"):
        read_snapshot(path, SETTINGS | {"images": ["cat/1.png", "dog/1.png", "dog/2.png"], "data": "b"})


def test_the_precision_of_a_run_is_told(tmp_path: Path) -> None:
    path = tmp_path / "out.resume"
    assert bf16_of(path) is None
    write_snapshot(path, SETTINGS | {"bf16": True}, STATE)
    assert bf16_of(path) is True


class RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_a_damaged_or_hostile_snapshot_gets_its_sentence(tmp_path: Path) -> None:
    path, trace = tmp_path / "out.resume", tmp_path / "it ran"
    write_snapshot(path, SETTINGS, STATE)
    whole = path.read_bytes()
    torch.save({"epoch": 1, "settings": "{}"}, tmp_path / "other")
    for data in (b"", whole[: len(whole) // 2], pickle.dumps(RunsCode(trace)), (tmp_path / "other").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(TrainingError, match="delete it to start again") as error:
            read_snapshot(path, SETTINGS)
        assert "\n" not in str(error.value)
    assert not trace.exists()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_evaluations_that_will_be_repeated_leave_the_log(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "out.jsonl"
    for epoch in (1, 2, 3):
        append_line(path, {"epoch": epoch})
    keep_lines(path, 2)
    append_line(path, {"epoch": 3})
    assert path.read_text() == '{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n'
