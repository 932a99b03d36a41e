"""The steps of an export on a progress bar, and where the time went."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class Steps:
    """Named steps, each entered once or again."""

    def __init__(self, names: list[str]) -> None:
        self.seconds = dict.fromkeys(names, 0.0)
        self._done: set[str] = set()
        self._bar = tqdm(total=len(names), desc="export", unit="step")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show the step while the block runs, and count its seconds."""
        self._bar.set_postfix_str(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start
        if name not in self._done:
            self._done.add(name)
            self._bar.update()

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items, whose making is the step."""
        iterator = iter(items)
        while True:
            with self.step(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
