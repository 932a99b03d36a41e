"""Passes of an onnxruntime session whose input and output stay on a device, at a few fixed batch sizes."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime

from service.arrays import LogitBatch, Outputs, PixelBatch

BUCKETS = (1, 2, 4, 8, 16, 32, 64)  # batch sizes with a CUDA graph of their own
_NO_GRAPH = -1

Allocate = Callable[[list[int], type], Any]  # shape, element type -> OrtValue on the session's device


class _Binding:
    """Input and outputs of one batch size, at addresses that never change: a CUDA graph replays addresses."""

    def __init__(self, session: Any, size: int, image_size: int, widths: Mapping[str, int], allocate: Allocate) -> None:
        self.pixels = allocate([size, image_size, image_size, 3], np.uint8)
        self.outputs = {name: allocate([size, width], np.float32) for name, width in widths.items()}
        self.io = session.io_binding()
        self.io.bind_ortvalue_input("images", self.pixels)
        for name, output in self.outputs.items():
            self.io.bind_ortvalue_output(name, output)


class BoundPasses:
    """Runs `session` over a batch padded to the next bucket, one CUDA graph a bucket.

    A batch beyond the largest bucket runs at its own size and without a graph, so that graphs stay few.
    """

    def __init__(
        self,
        session: Any,
        image_size: int,
        widths: Mapping[str, int],
        allocate: Allocate,
        *,
        graph_option: str,
        buckets: tuple[int, ...] = BUCKETS,
    ) -> None:
        """`widths` are those of the model's outputs by name, the answer first.

        `graph_option` is the run option by which the session's provider tells its graphs apart.
        """
        self._session = session
        self._image_size = image_size
        self._widths = widths
        self._answer = next(iter(widths))
        self._allocate = allocate
        self._graph_option = graph_option
        self._bindings = {size: self._bind(size) for size in sorted(buckets)}
        # Of its own: onnxruntime keeps a CUDA graph in the context of the thread that captured it, so that one captured
        # while warming up would not be there for the thread that serves.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gpu")
        self._padded = {size: np.zeros((size, image_size, image_size, 3), np.uint8) for size in buckets}

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> the answer, float32 [N, ...]; rows of padding are dropped."""
        return self._thread.submit(self._run, pixels, [self._answer]).result()[self._answer]

    def outputs(self, pixels: PixelBatch) -> Outputs:
        """The same pass -> all outputs by name."""
        return self._thread.submit(self._run, pixels, list(self._widths)).result()

    def replay(self, bucket: int) -> None:
        """One more pass over the pixels that `bucket` holds, without copying them or the logits: for benchmarks."""
        run = self._session.run_with_iobinding
        self._thread.submit(run, self._bindings[bucket].io, self._options(bucket)).result()

    def _run(self, pixels: PixelBatch, names: list[str]) -> Outputs:
        size = len(pixels)
        bucket = next((bucket for bucket in self._bindings if bucket >= size), None)
        if bucket is None:
            return self._pass(self._bind(size), np.ascontiguousarray(pixels), names, graph=_NO_GRAPH)
        padded = self._padded[bucket]
        padded[:size] = pixels
        padded[size:] = 0  # not the images of an earlier batch: a pass depends on nothing but its own images
        outputs = self._pass(self._bindings[bucket], padded, names, graph=bucket)
        return {name: output[:size] for name, output in outputs.items()}

    def _bind(self, size: int) -> _Binding:
        return _Binding(self._session, size, self._image_size, self._widths, self._allocate)

    def _pass(self, binding: _Binding, pixels: PixelBatch, names: list[str], graph: int) -> Outputs:
        binding.pixels.update_inplace(pixels)
        binding.io.synchronize_inputs()
        self._session.run_with_iobinding(binding.io, self._options(graph))
        binding.io.synchronize_outputs()
        # A copy: the next pass writes to the same address, which on a CPU is what numpy() shows.
        return {name: np.array(binding.outputs[name].numpy()) for name in names}

    def _options(self, graph: int) -> onnxruntime.RunOptions:
        options = onnxruntime.RunOptions()
        options.add_run_config_entry(self._graph_option, str(graph))
        return options
