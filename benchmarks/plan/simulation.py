"""One pod as queues: images come by chance through the event loop, are decoded, and leave in passes as measured.

As in docs/scheduling.md: the engine, once free, takes what waits, up to the best batch size; at the door an image is
refused that is predicted to take longer than the latency target. Passes take what they took at the service's start, or
as much longer as the load was seen to make them, decoding what it was seen to take on a thread, HTTP what it costs of
CPU on the event loop, one image after the other. What varies on a real machine besides the arrivals is not in it.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapreplace

import numpy as np
from numpy.typing import NDArray

from service.engines.curve import best_batch_size
from service.scheduling.times import PassTimes

_TARGET, _TARGET_IMAGES = 0.35, 48  # the service's own latency target, as MIXER_LATENCY_TARGET_MS 0 means it
_WARM_UP = 0.1  # the share of the images that comes before the queue is as long as it will be


@dataclass(frozen=True)
class Pod:
    """What its images go through."""

    pass_seconds: dict[int, float]  # by images in it
    decode_seconds: float  # on one thread
    decode_threads: int  # 0: decoding takes turns with the engine, on the engine's threads
    engine_threads: int
    pass_stretch: float = 1.0  # times `pass_seconds` is what passes take
    loop_seconds: float = 0.0  # of the event loop, of which there is one; all of it before the decoding
    latency_target: float | None = None  # seconds; infinite: it refuses nobody; None: as the service chooses

    @cached_property
    def max_batch_size(self) -> int:
        """As the service chooses it."""
        return best_batch_size(self.pass_seconds)

    @cached_property
    def seconds(self) -> list[float]:
        """From the start of a pass to the next that can follow it, by images; of none: 0."""
        times = PassTimes(self.pass_seconds)
        seconds = [0.0]
        for size in range(1, self.max_batch_size + 1):
            turns = 0 if self.decode_threads else math.ceil(size / self.engine_threads)
            seconds.append(self.pass_stretch * times.seconds(size) + turns * self.decode_seconds)
        return seconds

    @cached_property
    def target(self) -> float:
        """Seconds."""
        if self.latency_target is not None:
            return self.latency_target
        return max(_TARGET, _TARGET_IMAGES / self.max_batch_size * self.seconds[-1])


@dataclass(frozen=True)
class Simulated:
    """What became of the images."""

    latencies: NDArray[np.float64]  # seconds, of those let in, in the order of their coming
    refused: float  # the share of all


def simulate(pod: Pod, rate: float, images: int = 20_000, seed: int = 0) -> Simulated:
    """`rate` images a second by chance (Poisson), so many in all; the first tenth warms the queue up."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, images))
    return play(pod, arrivals.tolist(), int(_WARM_UP * images))


def play(pod: Pod, arrivals: Sequence[float], uncounted: int = 0) -> Simulated:
    """Images that come at these seconds, in order; the first `uncounted` only warm the queue up."""
    seconds, largest, target = pod.seconds, pod.max_batch_size, pod.target
    decode_seconds = pod.decode_seconds if pod.decode_threads else 0.0
    decoders = [0.0] * max(1, pod.decode_threads)  # when each is free
    waiting: deque[tuple[float, float]] = deque()  # came, is decoded
    loop_free = engine_free = 0.0
    latencies: list[float] = []
    warming = refused = 0  # of the uncounted, those let in; of the others, those that were not

    def run_pass() -> float:
        start = max(engine_free, waiting[0][1])
        batch = [waiting.popleft()[0]]
        while waiting and len(batch) < largest and waiting[0][1] <= start:
            batch.append(waiting.popleft()[0])
        end = start + seconds[len(batch)]
        latencies.extend(end - came for came in batch)
        return end

    for number, now in enumerate(arrivals):
        while waiting and max(engine_free, waiting[0][1]) < now:
            engine_free = run_pass()
        received = max(now, loop_free) + pod.loop_seconds
        decoded = max(received, decoders[0]) + decode_seconds
        full, rest = divmod(len(waiting), largest)
        in_line = max(now, engine_free) + full * seconds[-1] + seconds[rest + 1]
        if max(in_line, decoded + seconds[1]) > now + target:
            refused += number >= uncounted
            continue
        loop_free = received
        heapreplace(decoders, decoded)
        waiting.append((now, decoded))
        warming += number < uncounted
    while waiting:
        engine_free = run_pass()
    return Simulated(np.array(latencies[warming:]), refused / (len(arrivals) - uncounted))
