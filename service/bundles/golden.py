"""Proof that a loaded engine answers as the exported model did."""

import numpy as np

from service.arrays import LogitBatch, PixelBatch
from service.bundles.bundle import Bundle
from service.engines.engine import Engine, RunPass, timed_pass
from service.images.preprocess import Prepare


class GoldenMismatch(Exception):
    """The golden images did not give the logits that the manifest promises."""


class GoldenImages:
    """A bundle's golden images as pixels, with the reference's logits."""

    def __init__(self, bundle: Bundle, prepare: Prepare) -> None:
        images, self._expected = bundle.golden()
        self._tolerance = bundle.manifest.golden.tolerance
        self.pixels: PixelBatch = np.stack([prepare(image)[0] for image in images])

    def prove(self, engine: Engine, run_pass: RunPass = timed_pass) -> float:
        """Run all of them; returns the largest absolute error, raises GoldenMismatch beyond the tolerance."""
        return self.check(run_pass(engine, self.pixels)[0])

    def check(self, logits: LogitBatch) -> float:
        """Compare logits of the first golden images; returns the largest absolute error.

        Raises GoldenMismatch if it exceeds the manifest's tolerance.
        """
        error = float(np.abs(logits - self._expected[: len(logits)]).max())
        if not error <= self._tolerance:  # a NaN fails too
            raise GoldenMismatch(f"golden logits differ by {error:.3g}, tolerance {self._tolerance:.3g}")
        return error
