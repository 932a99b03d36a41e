from pathlib import Path

import pytest

from model_export.__main__ import main


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "x", "--data", "digits", "--batch-size", "0"],
        ["fewshot", "x", "--data", "digits", "--shots", "0"],
        ["fewshot", "x", "--data", "digits", "--seeds", "many"],
        ["visualize", "x", "--out", "x.png", "--blocks", "0,x"],
        ["visualize", "x", "--out", "x.png", "--blocks", "-1"],
        ["finetune", "--out", "x.safetensors", "--epochs", "0"],
        ["finetune", "--out", "x.safetensors", "--batch", "0"],
        ["finetune", "--out", "x.safetensors", "--micro-batch", "0"],
        ["finetune", "--out", "x.safetensors", "--seed", "-1"],
        ["finetune", "--out", "x.safetensors", "--dropout", "2"],
        ["finetune", "--out", "x.safetensors", "--learning-rate", "nan"],
    ],
    ids=lambda arguments: " ".join(arguments[-2:]),
)
def test_numbers_that_make_no_sense_are_refused_by_flag(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert f"argument {arguments[-2]}: {arguments[-1]!r} is not a" in capsys.readouterr().err


def test_outputs_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no such folder to write to"):
        main(["evaluate", "x", "--data", "digits", "--json", str(tmp_path / "nowhere" / "figures.json")])
    with pytest.raises(SystemExit, match="no such folder to write to"):
        main(["visualize", "x", "--out", str(tmp_path / "nowhere" / "units.png")])


def test_labels_must_be_text(tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"caf\xe9")
    with pytest.raises(SystemExit, match="is not UTF-8 text"):
        main(["export", str(tiny_checkpoint), "--name", "x", "--labels", str(tmp_path / "labels.txt")])
