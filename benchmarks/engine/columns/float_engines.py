"""Engines as their users run them: on images that were normalised elsewhere, which is not timed."""

import copy
from pathlib import Path

import onnxruntime as ort
import openvino as ov
import torch

from benchmarks.engine.columns.column import Bind, Pass
from benchmarks.engine.subject import Subject
from model_export.bundles.reference import normalised
from service.arrays import LogitBatch, PixelBatch


def torch_eager(subject: Subject, dtype: torch.dtype, threads: int) -> Bind:
    """The module itself in inference mode."""
    model = copy.deepcopy(subject.checkpoint.model()).to(dtype)

    def bind(pixels: PixelBatch) -> Pass:
        images = normalised(pixels, subject.checkpoint.preprocessing).to(dtype)

        @torch.inference_mode()
        def run() -> LogitBatch:
            torch.set_num_threads(threads)  # the process's, not the model's
            logits: LogitBatch = model(images).float().numpy()
            return logits

        return run

    return bind


def onnxruntime(subject: Subject, model: Path, threads: int) -> Bind:
    """A session with default options but for the threads, whose default ignores affinity and CPU quotas."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def bind(pixels: PixelBatch) -> Pass:
        images = normalised(pixels, subject.checkpoint.preprocessing).numpy()

        def run() -> LogitBatch:
            logits: LogitBatch = session.run(None, {"images": images})[0]
            return logits

        return run

    return bind


def openvino(subject: Subject, model: Path, threads: int, precision: str) -> Bind:
    """One stream on all threads; `precision` ("f32" or "bf16") is that of what the file leaves in float."""
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
    compiled = ov.Core().compile_model(model, "CPU", options)

    def bind(pixels: PixelBatch) -> Pass:
        images = normalised(pixels, subject.checkpoint.preprocessing).numpy()

        def run() -> LogitBatch:
            logits: LogitBatch = compiled(images)[0]
            return logits

        return run

    return bind
