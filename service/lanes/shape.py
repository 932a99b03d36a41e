"""How a model's lanes share out the cores and the memory."""

from collections.abc import Sequence
from dataclasses import dataclass

CPU_PROVIDERS = ("CPUExecutionProvider",)
# Bytes, as measured with int8 models from 0.4 to 213 MB on OpenVINO, and a tenth more: a lane without its model, each
# byte of a model file in a lane, both for its second engine, and the front with the process that lanes are forked from.
LANE_BYTES, COPIES = 96 * 2**20, 6
WIDE_BYTES, WIDE_COPIES = 40 * 2**20, 2
FRONT_BYTES = 100 * 2**20
_UNLIMITED = 2**30  # beyond the model: what a lane may take where nothing limits memory


@dataclass(frozen=True, slots=True)
class Shape:
    """So many lanes with so many threads each; lanes x threads <= cores."""

    lanes: int
    threads: int
    wide_threads: int  # for an image that is alone; 0: no more than the lane's own
    lane_memory: int  # bytes that a lane may hold


def choose_shape(
    cores: float,
    model_bytes: int,
    memory: int | None,
    *,
    models: int = 1,
    lanes: int = 0,
    threads: int = 0,
    providers: Sequence[str] = CPU_PROVIDERS,
) -> Shape:
    """A lane a core, each with a pass on one thread: nothing waits for anything, and most images are answered.

    Fewer lanes with more threads each where `memory`, the container's limit, does not hold as many copies of the model,
    and none with a second engine where it does not hold that; `models` are all that share it. What an operator asks for
    of `lanes` and `threads` holds. On a GPU, for other `providers` than the CPU's, one lane, whose decoding and passes
    follow one another: "core" is one accelerator, so its threads are one.

    Raises ValueError if lanes times threads exceed the cores, MemoryError if not even one lane would fit.
    """
    whole = max(1, int(cores))
    on_gpu = tuple(providers) != CPU_PROVIDERS
    needed = LANE_BYTES + COPIES * model_bytes
    fitting = whole if memory is None else (memory - FRONT_BYTES) // models // needed
    if memory is not None and fitting < max(1, lanes):
        raise MemoryError(
            f"the memory limit of {memory >> 20} MiB is too little: the service with lanes: {max(1, lanes)} "
            f"takes {(FRONT_BYTES + models * max(1, lanes) * needed) >> 20} MiB, and requests come on top"
        )
    if not lanes:
        lanes = 1 if on_gpu else min(max(1, whole // max(1, threads)), fitting)
    threads = threads or (1 if on_gpu else max(1, whole // lanes))
    if lanes * threads > whole and lanes * threads > 1:
        raise ValueError(f"MIXER_LANES {lanes} times MIXER_THREADS {threads} exceeds the {cores:g} cores allowed")
    wide = needed + WIDE_BYTES + WIDE_COPIES * model_bytes
    share = wide + _UNLIMITED if memory is None else (memory - FRONT_BYTES) // models // lanes
    has_wide = lanes > 1 and not on_gpu and share >= wide
    return Shape(lanes, threads, whole if has_wide else 0, share)
