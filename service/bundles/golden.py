"""Proof that what is loaded answers as the exported model did."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from service.arrays import LogitBatch, Outputs, PixelBatch, Pixels
from service.bundles.bundle import Bundle


class _Engine(Protocol):  # see `service.engines.engine`, a room above
    def run(self, pixels: PixelBatch) -> LogitBatch: ...

    def outputs(self, pixels: PixelBatch) -> Outputs: ...


class GoldenMismatch(Exception):
    """The golden images did not give the logits or features that the manifest promises."""


class GoldenImages:
    """A bundle's golden images as pixels, with the reference's outputs."""

    def __init__(self, bundle: Bundle, prepare: Callable[[bytes], tuple[Pixels, object]]) -> None:
        """`prepare` makes pixels of an encoded image."""
        images, self._expected = bundle.golden()
        self._tolerances = bundle.tolerances
        self.pixels: PixelBatch = np.stack([prepare(image)[0] for image in images])

    def prove(self, engine: _Engine) -> float:
        """Run all of them; returns the answers' largest absolute error; raises GoldenMismatch beyond a tolerance."""
        answer, *others = self._expected
        error = self._error(answer, engine.run(self.pixels))
        if others:
            for name, given in engine.outputs(self.pixels).items():
                self._error(name, given)
        return error

    def _error(self, output: str, given: LogitBatch) -> float:
        error, tolerance = float(np.abs(given - self._expected[output]).max()), self._tolerances[output]
        if not error <= tolerance:  # a NaN fails too
            raise GoldenMismatch(f"golden {output} differ by {error:.3g}, tolerance {tolerance:.3g}")
        return error
