"""The training loop: steps, an evaluation an epoch, a snapshot to go on from after a kill at any moment."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from model_export.mlp_mixer import MlpMixer
from model_export.training.batches import Batches
from model_export.training.gradient import accumulate_gradient
from model_export.training.optimizer import optimizer_for, update_average
from model_export.training.recipes import Recipe
from model_export.training.run_log import append_line, keep_lines, log_of
from model_export.training.schedule import learning_rate
from model_export.training.snapshot import Settings, TrainingError, path_of, read_snapshot, write_snapshot
from service.bundles.manifest import Evaluation

Validate = Callable[[nn.Module], Evaluation]
Keep = Callable[[nn.Module, Evaluation], None]


@dataclass(frozen=True)
class Run:
    """Where and how a recipe is run."""

    out: Path  # beside it: OUT.resume while training, and OUT.jsonl, a line an epoch
    seed: int
    device: torch.device
    micro_batch: int
    bf16: bool
    save_steps: int  # a snapshot every so many steps, beside the one after every epoch
    settings: Settings  # all that decides the weights: a snapshot of a run with others is refused


class Training:
    """A model on its way through a recipe; what is kept is its moving average where the recipe has one."""

    def __init__(self, model: MlpMixer, recipe: Recipe, batches: Batches, run: Run) -> None:
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(run.seed)
        self.recipe, self.batches, self.run = recipe, batches, run
        self.model = model.to(run.device).train()
        self.average = copy.deepcopy(model).eval() if recipe.average_decay is not None else None
        self.optimizer = optimizer_for(model, recipe)
        self.loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self.epoch, self.step = 0, 0  # the next ones
        self.loss = 0.0  # of this epoch's steps so far, summed over images
        self.best = -1.0
        self.epoch_start = batches.state()

    def train(self, validate: Validate, keep: Keep) -> None:
        """Go on to the end; `keep` is called with the best model so far, or at the end with the last.

        Raises TrainingError if a snapshot is unusable or the loss is no number any more.
        """
        self._resume()
        images = self.batches.images
        done = self.epoch * images + min(images, self.step * self.recipe.batch)
        progress: tqdm[Any]
        with tqdm(total=self.recipe.epochs * images, initial=done, desc="finetune", unit="img") as progress:
            while self.epoch < self.recipe.epochs:
                started, before = time.monotonic(), progress.n
                self._train_epoch(progress)
                seconds, trained = time.monotonic() - started, progress.n - before
                evaluation = self._evaluate(validate, keep)
                line = {
                    "epoch": self.epoch,
                    "loss": self.loss / images,
                    "val_top1": evaluation.top1,
                    "learning_rate": self.optimizer.param_groups[0]["lr"],
                    "seconds": round(time.monotonic() - started, 3),
                    "images_per_second": round(trained / seconds, 1),
                }
                append_line(log_of(self.run.out), line)
                left = progress.format_interval((self.recipe.epochs - self.epoch) * line["seconds"])
                told = f"loss {line['loss']:.4f}, val top-1 {evaluation.top1:.2%}, {line['seconds']:.1f} s"
                speed = f"{line['images_per_second']:.0f} img/s, {left} left"
                progress.write(f"epoch {self.epoch}/{self.recipe.epochs}: {told}, {speed}")
                self.loss = 0.0
                self._snapshot()
        path_of(self.run.out).unlink(missing_ok=True)

    def _train_epoch(self, progress: "tqdm[Any]") -> None:
        steps = self.batches.steps
        for batch in self.batches.epoch(self.epoch, self.step):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.recipe, self.epoch * steps + self.step, self.recipe.epochs * steps)
            run = self.run
            loss = accumulate_gradient(self.model, batch, run.micro_batch, self.loss_of, run.device, run.bf16)
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} in epoch {self.epoch + 1}; try a lower --learning-rate")
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
            self.optimizer.step()
            if self.average is not None:
                update_average(self.average, self.model, self.recipe.average_decay or 0.0)
            self.loss += loss * len(batch)
            self.step += 1
            progress.set_postfix(epoch=self.epoch + 1, loss=f"{loss:.3f}", refresh=False)
            progress.update(len(batch))
            if run.save_steps and self.step % run.save_steps == 0 and self.step < steps:
                self._snapshot()
        self.epoch, self.step, self.epoch_start = self.epoch + 1, 0, self.batches.state()

    def _evaluate(self, validate: Validate, keep: Keep) -> Evaluation:
        model = self.model if self.average is None else self.average
        evaluation = validate(model.eval())
        last = self.epoch == self.recipe.epochs
        if last if self.recipe.keep == "last" else evaluation.top1 >= self.best:
            keep(model, evaluation)
            self.best = evaluation.top1
        self.model.train()
        return evaluation

    def _snapshot(self) -> None:
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "loss": self.loss,
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average and self.average.state_dict(),
            "batches": self.epoch_start,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.run.device) if self.run.device.type == "cuda" else None,
        }
        write_snapshot(path_of(self.run.out), self.run.settings, state)

    def _resume(self) -> None:
        state = read_snapshot(path_of(self.run.out), self.run.settings)
        if state is not None:
            self.epoch, self.step = state["epoch"], state["step"]
            self.loss, self.best = state["loss"], state["best"]
            if self.best >= 0 and not self.run.out.exists():
                raise TrainingError(
                    f"{self.run.out}: is gone, and held the best so far; delete {path_of(self.run.out)} to start again"
                )
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.epoch_start = state["batches"]
            self.batches.restore(self.epoch_start)
            torch.set_rng_state(state["random"])
            if self.run.device.type == "cuda":
                torch.cuda.set_rng_state(state["random_cuda"], self.run.device)
        keep_lines(log_of(self.run.out), self.epoch)
