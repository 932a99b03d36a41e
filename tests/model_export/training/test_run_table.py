import json
from pathlib import Path
from typing import Any

import pytest

from model_export.__main__ import main

RUN = {
    **{"model": "S/32", "data": "cifar", "name": "paper", "optimizer": "sgd", "learning_rate": 0.006, "clip": 1.0},
    **{"dropout": 0.1, "crop": "center", "batch": 64, "precision": "bf16"},
}


def write_log(path: Path, told: dict[str, Any], *lines: dict[str, float]) -> Path:
    path.write_text("\n".join(json.dumps(line | ({"run": told} if not i else {})) for i, line in enumerate(lines)))
    return path


def line(epoch: int, seconds: float, top1: float) -> dict[str, float]:
    told = {"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch, "val_top1": top1}
    return told | {"seconds_per_epoch": seconds, "images_per_second": 1000 / seconds}


def test_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "a.safetensors.jsonl", RUN, line(1, 4, 0.5), line(2, 5, 0.6), {"step": 20, "test_top1": 0.55})
    write_log(tmp_path / "b.safetensors.jsonl", RUN | {"model": "B/16"}, line(1, 400, 0.7))
    main(["runs", str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors.jsonl")])
    shared, _, header, _, first, second = capsys.readouterr().out.strip().splitlines()
    assert shared.startswith("All runs: data cifar, recipe paper, optimizer sgd, learning_rate 0.006, clip 1.0")
    assert header == "| model | epochs | steps | s/epoch | img/s | loss | val top-1 | test top-1 |"
    assert first == "| S/32 | 2 | 20 | 4.5 | 225 | 0.500 | 60.00% | 55.00% |"
    assert second == "| B/16 | 1 | 10 | 400.0 | 2.5 | 1.000 | 70.00% |  |"


def test_what_is_no_log_gets_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}")
    with pytest.raises(SystemExit, match=r"x\.jsonl: is no log of a training run"):
        main(["runs", str(tmp_path / "x.jsonl")])
