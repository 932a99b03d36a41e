"""The machine's GEMM peaks: what the fastest matrix product at hand reaches, by precision and threads."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.engine.columns.column import Precision
from benchmarks.engine.rounds import passes_per_second

SIZE = 2048  # of square matrices: large enough that a faster library is the only way to go faster


@dataclass(frozen=True)
class Gemm:
    """One matrix product to time."""

    name: str
    precision: Precision
    load: Callable[[int], Callable[[], object]]  # threads -> a product
    gflop: float = 2 * SIZE**3 / 1e9  # of one product


def peaks(gflops: dict[Gemm, float]) -> dict[Precision, float]:
    """GFLOP/s that count as 100 %, by precision: the best product's; for int8 twice that of bf16.

    VNNI multiplies twice as many bytes as AVX512-BF16 does halves, and AMX likewise.
    """
    best: dict[Precision, float] = {}
    for gemm, rate in gflops.items():
        best[gemm.precision] = max(rate, best.get(gemm.precision, 0.0))
    if "bf16" in best:
        best["int8"] = 2 * best["bf16"]
    return best


def measure_peaks(threads: int, seconds: float = 0.3, rounds: int = 3) -> dict[Precision, float]:
    """GFLOP/s that count as 100 %, by precision; the best of some rounds."""
    products = {gemm: gemm.load(threads) for gemm in GEMMS}
    rates = [{gemm: passes_per_second(run, seconds) for gemm, run in products.items()} for _ in range(rounds)]
    return peaks({gemm: max(rate[gemm] for rate in rates) * gemm.gflop for gemm in GEMMS})


def _torch_product(dtype: torch.dtype) -> Callable[[int], Callable[[], object]]:
    def load(threads: int) -> Callable[[], object]:
        a, b = (torch.rand(SIZE, SIZE).to(dtype) for _ in range(2))
        result = torch.empty(SIZE, SIZE, dtype=dtype)

        def run() -> object:
            torch.set_num_threads(threads)
            return torch.mm(a, b, out=result)

        return run

    return load


def _onnxruntime_product(threads: int) -> Callable[[], object]:
    random = np.random.default_rng(0)
    a, b = random.random((2, SIZE, SIZE), np.float32)
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", kind, [SIZE, SIZE])],
        [helper.make_tensor_value_info("c", kind, [SIZE, SIZE])],
        [numpy_helper.from_array(b, "b")],  # constant, so that it is packed once, as weights are
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a})


GEMMS = [
    Gemm("torch fp32", "fp32", _torch_product(torch.float32)),
    Gemm("onnxruntime fp32", "fp32", _onnxruntime_product),
    Gemm("torch bf16", "bf16", _torch_product(torch.bfloat16)),
]
