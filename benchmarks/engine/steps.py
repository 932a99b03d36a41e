"""What each technique gains: one after the other, in the order in which they were added, all in the same rounds."""

from benchmarks.engine.columns.column import Column, on_pixels
from benchmarks.engine.columns.float_engines import onnxruntime
from benchmarks.engine.measurement import Measurement
from benchmarks.engine.speed import measure_subject
from benchmarks.engine.subject import make_subject
from benchmarks.report import Result, Row
from service.engines.onnx_engine import OnnxEngine
from service.engines.openvino_engine import OpenVinoEngine

NOTES = """\
Images per second, median of interleaved rounds; gains are medians of the rounds' ratios, over the step before and over
the first."""

_CHANNELS, _TOKENS = "channel_mixing", "token_mixing"

STEPS = [
    Column("torch.onnx.export in onnxruntime", "fp32", lambda m, n: onnxruntime(m.subject, m.plain, n)),
    Column(
        "our graph in onnxruntime", "fp32", lambda m, n: on_pixels(OnnxEngine(m.ours_fp32, n, ["CPUExecutionProvider"]))
    ),
    Column("in OpenVINO", "fp32", lambda m, n: on_pixels(OpenVinoEngine(m.ours_fp32, n, "fp32"))),
    Column(
        "int8 channel mixing",
        "int8",
        lambda m, n: on_pixels(OpenVinoEngine(m.ours_partly_int8(_CHANNELS), n, "int8")),
    ),
    Column(
        "int8 token mixing, from the left",
        "int8",
        lambda m, n: on_pixels(OpenVinoEngine(m.ours_partly_int8(_CHANNELS, _TOKENS), n, "int8")),
    ),
    Column("int8 stem, from bytes", "int8", lambda m, n: on_pixels(OpenVinoEngine(m.ours_int8, n, "int8"))),
    Column("batch split over the threads", "int8", lambda m, n: on_pixels(OpenVinoEngine(m.ours_int8, n, "int8", n))),
]


def measure_steps(sources: list[str], threads: int, batch_sizes: list[int], rounds: int, seconds: float) -> Result:
    """A row for each step, variant or checkpoint and batch size. Raises ExportError for a source that is neither."""
    rows: list[Row] = []
    for subject in [make_subject(source) for source in sources]:
        found, _ = measure_subject(subject, STEPS, [], [threads], batch_sizes, rounds, seconds)
        for size in batch_sizes:
            rows += step_rows([m for m in found if m.batch == size])
    return Result({"rows": rows}, NOTES)


def step_rows(steps: list[Measurement]) -> list[Row]:
    """The steps of one model and batch size, each with its gain."""
    return [
        {
            "model": step.model,
            "threads": step.threads,
            "batch": step.batch,
            "step": step.column.name,
            "img/s": round(step.median, 1),
            "gain": round(step.ratio_to(before), 2),
            "in all": round(step.ratio_to(steps[0]), 2),
            "cosine": round(step.agreement.cosine, 6),
        }
        for step, before in zip(steps, [steps[0], *steps], strict=False)
    ]
