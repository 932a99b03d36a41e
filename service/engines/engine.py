"""The engine's interface: a pass for the answer alone, or for everything that the model gives."""

from typing import Protocol

from service.arrays import LogitBatch, Outputs, PixelBatch


class EngineError(Exception):
    """A model that an engine cannot run as asked; the message says why."""


class Engine(Protocol):
    """Runs passes. Called from one thread at a time."""

    @property
    def name(self) -> str:
        """Library, version and how it runs, for logs and metrics."""

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> logits, float32 [N, classes]; row i answers image i alone.

        Of a model without a head its features, [N, C].
        """

    def outputs(self, pixels: PixelBatch) -> Outputs:
        """The same pass, and everything that the model gives: bundles of old have no features."""
