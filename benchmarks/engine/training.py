"""Training steps on CPUs: images per second by precision, and what share of the machine's GEMM peak they reach."""

from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from benchmarks.engine.columns.column import Precision
from benchmarks.engine.gemm import measure_peaks
from benchmarks.engine.rounds import interleaved_rates
from benchmarks.engine.subject import CLASSES
from benchmarks.report import Result, Row
from model_export.checkpoints.checkpoint import Checkpoint
from model_export.mlp_mixer import MlpMixer
from model_export.training.batches import PixelBatch
from model_export.training.gradient import accumulate_gradient
from model_export.training.loss import Loss
from model_export.training.optimizer import optimizer_for
from model_export.training.recipes import PAPER
from model_export.training.start import starting_checkpoint

NOTES = """\
One step: forward, backward, clipping and SGD with momentum, on pixels that are decoded and in memory; median of
interleaved rounds. A step counts six times the multiply-accumulates of an image: two operations each, and backward
twice forward. The peak is the best 2048x2048 product in that precision, measured just before."""
_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
_OPERATIONS = 6  # a multiply-accumulate and image: two forward, four backward


def measure_training(variants: list[str], threads: int, batch: int, rounds: int, seconds: float) -> Result:
    """A row for each variant, or checkpoint, and precision."""
    torch.set_num_threads(threads)
    peaks = measure_peaks(threads)
    rows: list[Row] = []
    for variant in variants:
        checkpoint = starting_checkpoint(variant, CLASSES, seed=0)
        steps = {precision: _step(checkpoint, batch, precision == "bf16") for precision in _PRECISIONS}
        rates = interleaved_rates(steps, rounds, seconds, f"train {variant}")
        for precision in _PRECISIONS:
            rate = batch * median(rates[precision])
            gflops = rate * _OPERATIONS * checkpoint.config.macs / 1e9
            over = median(ours / fp32 for ours, fp32 in zip(rates[precision], rates["fp32"], strict=True))
            rows.append(
                {
                    "model": variant,
                    "threads": threads,
                    "batch": batch,
                    "precision": precision,
                    "img/s": round(rate, 1),
                    "over fp32": round(over, 2),
                    "GFLOP/s": round(gflops, 1),
                    "% of GEMM peak": round(100 * gflops / peaks[precision], 1),
                }
            )
    return Result({"rows": rows}, NOTES)


def _step(checkpoint: Checkpoint, batch: int, bf16: bool) -> Callable[[], object]:
    model = MlpMixer(checkpoint.config)
    model.load_state_dict(checkpoint.state)
    optimizer, loss = optimizer_for(model, PAPER), Loss(PAPER)
    side = checkpoint.config.image_size
    pixels = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8)
    images = PixelBatch(pixels, torch.arange(batch) % CLASSES, checkpoint.preprocessing)

    def run() -> object:
        accumulate_gradient(model, images, batch, loss, torch.device("cpu"), bf16)
        nn.utils.clip_grad_norm_(model.parameters(), PAPER.clip)
        return optimizer.step()

    return run
