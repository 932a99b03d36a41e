"""What a lane is told to load, and what it says of it once it serves: the first messages on its socket."""

from dataclasses import dataclass
from typing import Any

from service.engines.curve import PassSeconds


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What to serve and how."""

    bundle: str  # path
    engine: str  # the one to serve with, or auto: the fastest
    providers: list[str]  # onnxruntime's
    threads: int  # of a pass
    wide_threads: int  # of a pass over one image while the other lanes are idle; 0: the lane makes none
    max_batch_size: int  # 0: what pays, up to 16
    max_pixels: int
    memory: int  # bytes that the lane may take; 0: as much as it likes
    measure: bool  # pass times, or only make the passes once
    warm: bool = True  # make a pass of every batch size before it serves, or let the first ones be slow


@dataclass(frozen=True, slots=True)
class Loaded:
    """A lane that is proven on its golden images."""

    engine: str  # the chosen one's name
    description: str  # library, version and how it runs
    considered: dict[str, str]  # how each engine fared
    golden_max_abs_error: float
    max_batch_size: int
    pass_seconds: PassSeconds  # by batch size; empty unless it was told to measure
    wide_seconds: float  # of a pass over one image on `wide_threads`; 0: it makes none
    decode_seconds: float  # of a photograph of ordinary size
    held_bytes: int

    @classmethod
    def of(cls, said: dict[str, Any]) -> "Loaded":
        """From JSON, whose keys are strings."""
        curve = {int(size): seconds for size, seconds in said.pop("pass_seconds").items()}
        return cls(**said, pass_seconds=curve)
