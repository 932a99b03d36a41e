"""Timing in interleaved rounds, so that whatever slows the machine for a while slows all alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from tqdm import tqdm

Key = TypeVar("Key", bound=Hashable)


def interleaved_rates(
    passes: Mapping[Key, Callable[[], object]], rounds: int, seconds: float, name: str
) -> dict[Key, list[float]]:
    """Passes per second by key, one figure a round, of a run that lasts `seconds`, or one pass if that is longer.

    Every other round goes backwards, so that none always follows the same one.
    """
    rates: dict[Key, list[float]] = {key: [] for key in passes}
    with tqdm(total=rounds * len(passes), desc=name, unit="run") as progress:
        for number in range(rounds):
            order = list(passes)
            for key in order if number % 2 == 0 else reversed(order):
                rates[key].append(passes_per_second(passes[key], seconds))
                progress.update()
    return rates


def passes_per_second(run: Callable[[], object], seconds: float) -> float:
    """Rate of back-to-back passes over at least `seconds`, after one that is not counted.

    In that one caches fill, buffers take the batch's size, and the previous engine's threads stop spinning.
    """
    run()
    passes = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        run()
        passes += 1
    return passes / elapsed
