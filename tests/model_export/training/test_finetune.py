import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model_export.__main__ import main
from model_export.checkpoints.checkpoint import read_checkpoint
from model_export.datasets import digits
from model_export.training.finetune import Plan, finetune
from model_export.training.recipes import PAPER
from model_export.training.start import starting_checkpoint
from service.bundles.bundle import load_bundle

ROOT = Path(__file__).parent.parent.parent.parent
COLOURS = {"blue": (50, 60, 190), "green": (60, 180, 50), "red": (190, 50, 60)}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from more, and lose much where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images whose class is their colour, 24 of each."""
    folder = tmp_path_factory.mktemp("data") / "colours"
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(24):
            height, width = random.integers(14, 40, 2)
            noisy = np.array(colour) + random.normal(0, 40, (height, width, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.jpg")
    return folder


def run(data: Path | str, out: Path, start: Path | str, *flags: str) -> list[str]:
    return ["finetune", "--from", str(start), "--data", str(data), "--out", str(out), "--device", "cpu", *flags]


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in out.with_name(f"{out.name}.jsonl").read_text().splitlines()]


def test_the_papers_recipe_learns_an_obvious_task_and_its_bundle_knows_the_data(
    colours: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a timm checkpoint with seven classes, grown to twice its size, to a published bundle."""
    out = tmp_path / "colours.safetensors"
    flags = ["--batch", "24", "--epochs", "10", "--image-size", "32", "--normalise", "dataset"]
    main(run(colours, out, tiny_checkpoint, *flags))
    told = capsys.readouterr()
    assert "held-out top-1 100.00% of 6 images" in told.out
    assert "28 steps of 24 images (10 epochs)" in told.err
    checkpoint = read_checkpoint(out)
    assert checkpoint.labels == ("blue", "green", "red")
    assert (checkpoint.config.image_size, checkpoint.config.classes) == (32, 3)
    assert checkpoint.preprocessing.mean == pytest.approx((0.39, 0.38, 0.39), abs=0.02)
    assert checkpoint.evaluation is not None
    assert (checkpoint.evaluation.dataset, checkpoint.evaluation.images) == ("colours", 6)
    lines = log(out)
    assert [line["epoch"] for line in lines] == list(range(1, 11))
    assert lines[0]["loss"] > 0.2 + lines[-1]["loss"]
    assert {"val_top1", "learning_rate", "seconds", "images_per_second"} <= lines[0].keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, f"{out.name}.jsonl"]

    main(["export", str(out), "--name", "colours", "--repository", str(tmp_path / "models")])
    manifest = load_bundle(tmp_path / "models" / "colours" / "1").manifest
    assert manifest.preprocessing == checkpoint.preprocessing
    assert manifest.evaluation == checkpoint.evaluation


def test_training_from_scratch_learns_it_too(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "scratch.safetensors"
    main(run(colours, out, "tiny/4", "--batch", "24", "--epochs", "20", "--learning-rate", "0.005"))
    assert log(out)[-1]["val_top1"] >= 0.8


def test_the_first_step_starts_from_logits_of_zero(colours: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A new head is zero, so every class is equally likely: a loss of log(3), whatever the weights."""
    out = tmp_path / "first.safetensors"
    main(run(colours, out, tiny_checkpoint, "--epochs", "1", "--learning-rate", "0"))
    assert log(out)[0]["loss"] == pytest.approx(np.log(3), abs=1e-5)


def test_a_head_for_the_datas_own_classes_is_kept(colours: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    main(run(colours, first, tiny_checkpoint, "--epochs", "3", "--batch", "24"))
    main(run(colours, second, first, "--epochs", "1", "--learning-rate", "0"))
    assert torch.equal(read_checkpoint(first).state["head.weight"], read_checkpoint(second).state["head.weight"])


def test_a_step_is_no_longer_than_the_clipped_gradient(colours: Path, tmp_path: Path) -> None:
    start = starting_checkpoint("tiny/4", 3, seed=0)
    start = replace(start, labels=tuple(COLOURS))
    for clip, moved in ((1e-3, 1e-3), (1e9, None)):
        recipe = replace(PAPER, epochs=1, learning_rate=1.0, warmup_steps=0, clip=clip)
        out = tmp_path / f"{clip}.safetensors"
        finetune(start, Plan(recipe, str(colours), out))
        end = read_checkpoint(out).state
        distance = torch.cat([(end[name] - start.state[name]).flatten() for name in end]).norm().item()
        if moved is None:
            assert distance > 1e-2
        else:
            assert distance == pytest.approx(moved, rel=1e-2)


def test_the_best_epoch_is_kept_and_of_equals_the_last(colours: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "best.safetensors"
    flags = ["--epochs", "8", "--batch", "8", "--learning-rate", "0.3", "--keep", "best"]
    main(run(colours, out, tiny_checkpoint, *flags))
    evaluation = read_checkpoint(out).evaluation
    assert evaluation is not None
    assert evaluation.top1 == max(line["val_top1"] for line in log(out))


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        ("colours", ["--batch", "12", "--epochs", "25", "--dropout", "0.1", "--save-steps", "2"]),
        ("digits", ["--image-size", "32", "--epochs", "4", "--save-steps", "3"]),
    ],
)
def test_a_run_that_is_killed_ends_at_the_same_weights(
    colours: Path, tmp_path: Path, data: str, flags: list[str]
) -> None:
    """SIGKILL after an epoch or more; with mixup, RandAugment, dropout and stochastic depth, and for the digits."""
    source = colours if data == "colours" else data
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    snapshot, lines = tmp_path / "killed.safetensors.resume", tmp_path / "killed.safetensors.jsonl"
    program = [sys.executable, "-m", "model_export", *run(source, killed, "tiny/4", *flags)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as here: float sums depend on it
    with subprocess.Popen(program, cwd=ROOT, stderr=subprocess.DEVNULL, env=environment) as process:
        while process.poll() is None and not (lines.exists() and lines.read_text()):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert snapshot.exists()
    main(run(source, killed, "tiny/4", *flags))
    main(run(source, whole, "tiny/4", *flags))
    assert killed.read_bytes() == whole.read_bytes()
    without_times = [[(line["epoch"], line["loss"], line["val_top1"]) for line in log(out)] for out in (killed, whole)]
    assert without_times[0] == without_times[1]
    assert not snapshot.exists()


def test_the_schedule_is_in_the_log(colours: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The paper's recipe counts steps: 500 of them on small data, the first 100 warming up, an evaluation every 100."""
    out = tmp_path / "out.safetensors"
    main(run(colours, out, tiny_checkpoint, "--crop", "center", "--batch", "4"))
    lines = log(out)
    told = lines[0]["run"]
    assert (told["name"], told["steps"], told["warmup_steps"], told["batch"]) == ("paper", 500, 100, 4)
    assert (told["model"], told["train_images"], told["data"]) == ("tiny/4", 66, "colours")
    assert [line["step"] for line in lines] == [100, 200, 300, 400, 500]
    rates = [line["learning_rate"] for line in lines]
    assert rates[0] == pytest.approx(0.03 * 99 / 100)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.015 * (1 + np.cos(np.pi * 399 / 400)))
    assert read_checkpoint(out).evaluation.top1 == lines[-1]["val_top1"]


def test_a_test_part_judges_once_what_the_validation_part_chose(
    colours: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    data, out = tmp_path / "data", tmp_path / "out.safetensors"
    shutil.copytree(colours, data / "Training")
    for name in COLOURS:
        (data / "Testing" / name).mkdir(parents=True)
        for i in range(5):
            (data / "Training" / name / f"{i}.jpg").rename(data / "Testing" / name / f"{i}.jpg")
    main(
        run(data, out, tiny_checkpoint, "--epochs", "3", "--batch", "8", "--keep", "best", "--validation-share", "0.2")
    )
    *epochs, last = log(out)
    assert [line.keys() >= {"val_top1"} for line in epochs] == [True] * 3
    assert last.keys() == {"step", "test_top1"}
    evaluation = read_checkpoint(out).evaluation
    assert evaluation is not None
    assert (evaluation.split, evaluation.images, evaluation.top1) == ("test", 15, last["test_top1"])


def test_a_finished_run_is_not_written_over(colours: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    main(run(colours, out, tiny_checkpoint, "--epochs", "1"))
    finished = out.read_bytes()
    with pytest.raises(SystemExit, match="holds a finished run; choose another --out, or --replace it"):
        main(run(colours, out, tiny_checkpoint, "--epochs", "2"))
    assert out.read_bytes() == finished
    main(run(colours, out, tiny_checkpoint, "--epochs", "2", "--replace"))
    assert out.read_bytes() != finished
    assert [line["epoch"] for line in log(out)] == [1, 2]


def test_an_image_that_went_while_a_run_stood_still_is_named(
    colours: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "data", tmp_path / "out.safetensors"
    shutil.copytree(colours, data)
    lines: list[object] = []

    def interrupted(path: Path, line: dict[str, float]) -> None:
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("model_export.training.loop.append_line", interrupted)
        main(run(data, out, tiny_checkpoint, "--epochs", "3", "--batch", "24"))
    (data / "red" / "7.jpg").rename(tmp_path / "7.jpg")
    with pytest.raises(SystemExit, match=r"had 1 images that are not there now: red/7\.jpg"):
        main(run(data, out, tiny_checkpoint, "--epochs", "3", "--batch", "24"))
    (tmp_path / "7.jpg").rename(data / "red" / "7.jpg")
    main(run(data, out, tiny_checkpoint, "--epochs", "3", "--batch", "24"))
    assert len(log(out)) == 2, "the first line went to the interrupted run's log alone"


def test_unreadable_images_are_found_before_training(colours: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out.safetensors"
    shutil.copytree(colours, data)
    (data / "red" / "7.jpg").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"1 images cannot be read: .*red/7\.jpg"):
        main(run(data, out, tiny_checkpoint, "--epochs", "1"))
    assert not list(tmp_path.glob("out*"))
    main(run(data, out, tiny_checkpoint, "--epochs", "1", "--skip-unreadable", "1"))
    assert log(out)[0]["run"]["train_images"] == 71 - 6


@pytest.mark.parametrize(("recipe", "gelu"), [("scratch", "tanh"), ("paper", "tanh")])
def test_a_variant_starts_as_in_the_papers_code(colours: Path, tmp_path: Path, recipe: str, gelu: str) -> None:
    out = tmp_path / "out.safetensors"
    main(run(colours, out, "tiny/4", "--recipe", recipe, "--epochs", "1", "--learning-rate", "0"))
    checkpoint = read_checkpoint(out)
    assert checkpoint.config.gelu == gelu
    assert checkpoint.preprocessing.mean == checkpoint.preprocessing.std == (0.5, 0.5, 0.5)
    assert not checkpoint.state["blocks.0.channel_mixing.dense_0.bias"].any()
    assert checkpoint.state["head.bias"].tolist() == pytest.approx([-1.1 if recipe == "scratch" else 0.0] * 3)


def test_a_seed_is_a_run(colours: Path, tmp_path: Path) -> None:
    outs = {name: tmp_path / f"{name}.safetensors" for name in ("first", "again", "other")}
    for name, out in outs.items():
        main(run(colours, out, "tiny/4", "--epochs", "2", "--batch", "32", "--seed", "1" if name == "other" else "0"))
    assert outs["first"].read_bytes() == outs["again"].read_bytes()
    assert outs["first"].read_bytes() != outs["other"].read_bytes()


def test_the_digits_recipe_keeps_its_last_average_and_its_evaluation(tmp_path: Path) -> None:
    out = tmp_path / "digits.safetensors"
    main(run("digits", out, "tiny/4", "--image-size", "32", "--epochs", "1"))
    checkpoint = read_checkpoint(out)
    start = starting_checkpoint("tiny/4", 10, seed=0, image_size=32)
    assert checkpoint.labels == tuple("0123456789")
    assert checkpoint.preprocessing == digits.PREPROCESSING
    assert checkpoint.evaluation is not None
    assert (checkpoint.evaluation.images, checkpoint.evaluation.split) == (720, digits.HELD_OUT_SPLIT)
    assert not torch.equal(checkpoint.state["stem.weight"], start.state["stem.weight"])


def test_the_digits_are_learnt_as_any_images_are(tmp_path: Path) -> None:
    out = tmp_path / "digits.safetensors"
    flags = ["--recipe", "scratch", "--image-size", "32", "--batch", "64", "--epochs", "5", "--learning-rate", "0.01"]
    main(run("digits", out, "tiny/4", *flags, "--no-flip", "--mixup", "0", "--magnitude", "0", "--crop", "resmall"))
    assert log(out)[-1]["val_top1"] > 0.6


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--recipe", "digits"], "the digits recipe takes the digits"),
        (["--image-size", "18"], "image size 18 is not a multiple of the patch 4"),
        (["--resize-short", "8"], "--resize-short 8 is below the image size 16"),
        (["--learning-rate", "3e38", "--epochs", "2"], "try a lower --learning-rate"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--from", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
        (["--out", "checkpoint.pth"], "the checkpoint is a .safetensors file"),
        (["--steps", "5", "--epochs", "5"], "--steps and --epochs both say how long the run is"),
        (["--steps", "5", "--warmup-steps", "5"], "a warm-up of 5 steps leaves nothing of 5"),
        (["--keep-head"], "labels do not name blue, green, red"),
        (["--validation-share", "0"], "colours: with nothing held out and no test part"),
    ],
)
def test_a_run_that_cannot_be_gets_its_sentence(colours: Path, tmp_path: Path, flags: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(run(colours, tmp_path / "out.safetensors", "tiny/4", "--recipe", "paper", *flags))
    assert sentence in str(exit_.value)
    assert "\n" not in str(exit_.value)
