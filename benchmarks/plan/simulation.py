"""One pod as queues: images come by chance through the front, and leave in batches from whichever lane is free first.

As in docs/scheduling.md: a lane, once free, takes what waits, up to the best batch size, decodes it image by image and
passes it; at the door an image is refused that is predicted to take longer than the latency target, or to make one in
its batch do so. Passes take what they took at the service's start, or as much longer as the load was seen to make them,
decoding and HTTP what they were seen to take. What varies on a real machine besides the arrivals is not in it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heapreplace

import numpy as np
from numpy.typing import NDArray

from service.engines.curve import best_batch_size
from service.scheduling.promises import TARGET, TARGET_IMAGES
from service.scheduling.times import PassTimes

_WARM_UP = 0.1  # the share of the images that comes before the queue is as long as it will be


@dataclass(frozen=True)
class Pod:
    """What its images go through."""

    pass_seconds: dict[int, float]  # by images in it
    decode_seconds: float  # of one image
    lanes: int
    pass_stretch: float = 1.0  # times `pass_seconds` is what passes take
    front_seconds: float = 0.0  # of the front, of which there is one; all of it before a lane
    latency_target: float | None = None  # seconds; infinite: it refuses nobody; None: as the service chooses

    @cached_property
    def max_batch_size(self) -> int:
        """As the service chooses it."""
        return best_batch_size(self.pass_seconds)

    @cached_property
    def seconds(self) -> list[float]:
        """Of a batch, by images; of none: 0."""
        times = PassTimes(self.pass_seconds)
        sizes = range(1, self.max_batch_size + 1)
        return [0.0, *(size * self.decode_seconds + self.pass_stretch * times.seconds(size) for size in sizes)]

    @cached_property
    def target(self) -> float:
        """Seconds."""
        if self.latency_target is not None:
            return self.latency_target
        return max(TARGET, TARGET_IMAGES / (self.lanes * self.max_batch_size) * self.seconds[-1])


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
    lanes = [0.0] * pod.lanes  # when each is free, a heap
    waiting: deque[tuple[float, float]] = deque()  # came, is through the front
    front_free = 0.0
    latencies: list[float] = []
    warming = refused = 0  # of the uncounted, those let in; of the others, those that were not

    def run_batch() -> None:
        start = max(lanes[0], waiting[0][1])
        batch = [waiting.popleft()[0]]
        while waiting and len(batch) < largest and waiting[0][1] <= start:
            batch.append(waiting.popleft()[0])
        end = start + seconds[len(batch)]
        heapreplace(lanes, end)
        latencies.extend(end - came for came in batch)

    def is_late(now: float, received: float) -> bool:
        full, rest = divmod(len(waiting), largest)
        free = [max(now, lane) for lane in lanes]
        heapify(free)
        for _ in range(full):
            heapreplace(free, free[0] + seconds[-1])
        done = max(free[0] + seconds[rest + 1], received + seconds[1])
        first_of_batch = waiting[-rest][0] if rest else now
        return done > first_of_batch + target

    for number, now in enumerate(arrivals):
        while waiting and max(lanes[0], waiting[0][1]) < now:
            run_batch()
        received = max(now, front_free) + pod.front_seconds
        alone = not waiting and max(lanes) <= now  # an idle service tries
        if not alone and is_late(now, received):
            refused += number >= uncounted
            continue
        front_free = received
        waiting.append((now, received))
        warming += number < uncounted
    while waiting:
        run_batch()
    return Simulated(np.array(latencies[warming:]), refused / (len(arrivals) - uncounted))
