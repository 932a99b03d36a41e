"""The training loop: steps, evaluations between them, a snapshot to go on from after a kill at any moment."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from model_export.mlp_mixer import MlpMixer
from model_export.training.batches import Batch, Batches
from model_export.training.gradient import accumulate_gradient
from model_export.training.loss import Loss
from model_export.training.optimizer import optimizer_for, update_average
from model_export.training.recipes import Recipe
from model_export.training.run_log import Line, append_line, keep_lines, log_of
from model_export.training.schedule import learning_rate
from model_export.training.snapshot import Settings, TrainingError, path_of, read_snapshot, write_snapshot
from service.bundles.manifest import Evaluation

Validate = Callable[[nn.Module], Evaluation]
Keep = Callable[[nn.Module, Evaluation | None], None]


@dataclass(frozen=True)
class Run:
    """Where and how a recipe is run."""

    out: Path  # beside it: OUT.resume while training, and OUT.jsonl, a line an evaluation
    seed: int
    device: torch.device
    micro_batch: int
    bf16: bool
    save_steps: int  # a snapshot every so many steps, beside the one after every evaluation
    steps: int  # of the whole run
    evaluations: dict[int, float]  # the steps after which there is one, the last among them, by epochs done
    settings: Settings  # all that decides the weights: a snapshot of a run with others is refused
    told: dict[str, Any]  # of the run, for the log's first line


class Training:
    """A model on its way through a recipe; what is kept is its moving average where the recipe has one."""

    def __init__(self, model: MlpMixer, recipe: Recipe, batches: Batches, run: Run) -> None:
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(run.seed)
        self.recipe, self.batches, self.run = recipe, batches, run
        self.model = model.to(run.device).train()
        self.average = copy.deepcopy(model).eval() if recipe.average_decay is not None else None
        self.optimizer = optimizer_for(model, recipe)
        self.loss_of = Loss(recipe)
        self.step = 0  # the next one
        self.lines = 0  # in the log
        self.loss, self.seen = 0.0, 0  # since the last evaluation, summed over images, and how many these are
        self.best = -1.0

    def train(self, validate: Validate | None, keep: Keep) -> None:
        """Go on to the end; `keep` is called with the best model so far, or at the end with the last.

        The snapshot stays until `forget`. Raises TrainingError if it is unusable or the loss is no number any more.
        """
        self._resume()
        progress: tqdm[Any]
        size = self.batches.size
        with tqdm(total=self.run.steps * size, initial=self.step * size, desc="finetune", unit="img") as progress:
            while self.step < self.run.steps:
                started, before = time.monotonic(), self.seen
                stop = min(step for step in self.run.evaluations if step > self.step)
                self._train(self.batches.batches(self.step, stop), progress)
                line = self._line(self.seen - before, time.monotonic() - started)
                line |= self._evaluate(validate, keep)
                line["seconds"] = round(time.monotonic() - started, 3)
                self._log(line, progress)
                self.loss, self.seen = 0.0, 0
                self._snapshot()

    def forget(self) -> None:
        """The run is finished: there is nothing to go on from."""
        path_of(self.run.out).unlink(missing_ok=True)

    def _train(self, batches: Iterable[Batch], progress: "tqdm[Any]") -> None:
        run = self.run
        for batch in batches:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.recipe, self.step, run.steps)
            loss = accumulate_gradient(self.model, batch, run.micro_batch, self.loss_of, run.device, run.bf16)
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} in step {self.step + 1}; try a lower --learning-rate")
            if self.recipe.clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
            self.optimizer.step()
            if self.average is not None:
                update_average(self.average, self.model, self.recipe.average_decay or 0.0)
            self.loss += loss * len(batch)
            self.seen += len(batch)
            self.step += 1
            progress.set_postfix(step=self.step, loss=f"{loss:.3f}", refresh=False)
            progress.update(len(batch))
            if run.save_steps and self.step % run.save_steps == 0 and self.step not in run.evaluations:
                self._snapshot()

    def _line(self, trained: int, seconds: float) -> Line:
        rate = trained / seconds
        return {
            "epoch": self.run.evaluations[self.step],
            "step": self.step,
            "loss": self.loss / self.seen,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": round(rate, 1),
            "seconds_per_epoch": round(self.batches.images / rate, 3),
        }

    def _evaluate(self, validate: Validate | None, keep: Keep) -> Line:
        model = (self.model if self.average is None else self.average).eval()
        evaluation = validate(model) if validate else None
        last = self.step == self.run.steps
        if last if self.recipe.keep == "last" or evaluation is None else evaluation.top1 >= self.best:
            keep(model, evaluation)
            self.best = evaluation.top1 if evaluation else 0.0
        self.model.train()
        return {"val_top1": evaluation.top1} if evaluation else {}

    def _log(self, line: Line, progress: "tqdm[Any]") -> None:
        append_line(log_of(self.run.out), line if self.lines else line | {"run": self.run.told})
        self.lines += 1
        told = [f"step {self.step:,}/{self.run.steps:,} (epoch {line['epoch']:g})", f"loss {line['loss']:.4f}"]
        if "val_top1" in line:
            told.append(f"val top-1 {line['val_top1']:.2%}")
        left = (self.run.steps - self.step) * self.batches.size / max(line["images_per_second"], 0.1)
        told += [f"learning rate {line['learning_rate']:.3g}", f"{line['seconds']:.1f} s"]
        progress.write(
            f"{', '.join(told)}, {line['images_per_second']:.0f} img/s, {progress.format_interval(left)} left"
        )

    def _snapshot(self) -> None:
        state = {
            "step": self.step,
            "lines": self.lines,
            "loss": self.loss,
            "seen": self.seen,
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average and self.average.state_dict(),
            "batches": self.batches.state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.run.device) if self.run.device.type == "cuda" else None,
        }
        write_snapshot(path_of(self.run.out), self.run.settings, state)

    def _resume(self) -> None:
        state = read_snapshot(path_of(self.run.out), self.run.settings)
        if state is not None:
            self.step, self.lines = state["step"], state["lines"]
            self.loss, self.seen, self.best = state["loss"], state["seen"], state["best"]
            if self.best >= 0 and not self.run.out.exists():
                raise TrainingError(
                    f"{self.run.out}: is gone, and held the best so far; delete {path_of(self.run.out)} to start again"
                )
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.batches.restore(state["batches"])
            torch.set_rng_state(state["random"])
            if self.run.device.type == "cuda":
                torch.cuda.set_rng_state(state["random_cuda"], self.run.device)
        keep_lines(log_of(self.run.out), self.lines)
