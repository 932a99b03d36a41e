"""A column of the table: one engine at one precision."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from benchmarks.engine.columns.model_files import ModelFiles
from service.arrays import LogitBatch, PixelBatch
from service.engines.engine import Engine

Precision = Literal["fp32", "bf16", "int8"]
Pass = Callable[[], LogitBatch]  # what is timed
Bind = Callable[[PixelBatch], Pass]  # makes an engine's input of pixels beforehand, which is not timed


@dataclass(frozen=True)
class Column:
    """How to get from a model's files and a number of threads to passes."""

    name: str
    precision: Precision
    load: Callable[[ModelFiles, int], Bind]
    ours: bool = False


def on_pixels(engine: Engine) -> Bind:
    """Passes of an engine of the service's: it takes pixels as they are, so that all of its work is timed."""
    return lambda pixels: partial(engine.run, pixels)
