"""How far a run is, on one line of a terminal."""

import shutil
import threading
import time
from typing import TextIO

from service.offline.paths import ImagePaths

_EVERY = 0.25  # seconds


class Progress:
    """Images done and failed, img/s, and the time that the rest will take once it is known how many there are."""

    def __init__(self, terminal: TextIO, paths: list[str] | None) -> None:
        """Nothing is written unless it is a terminal. What is in `paths` is counted meanwhile."""
        self._terminal = terminal if terminal.isatty() else None
        self._total: int | None = None
        self._started = self._shown = time.monotonic()
        self._length = 0
        if self._terminal and paths:
            threading.Thread(target=self._count, args=(paths,), name="count", daemon=True).start()

    def show(self, images: int, earlier: int, failed: int) -> None:
        """So many were done by now, and so many in earlier runs."""
        now = time.monotonic()
        if not self._terminal or now < self._shown + _EVERY:
            return
        self._shown = now
        rate = images / (now - self._started)
        of = f" of {self._total:,}" if self._total else ""
        left = max(0, (self._total or 0) - images - earlier)
        eta = f", {_clock(left / rate)} left" if self._total and rate else ""
        told = f", {failed:,} failed" if failed else ""
        self._write(f"{images + earlier:,}{of} images, {rate:,.0f} img/s{told}{eta}")

    def close(self) -> None:
        """Leave the line to others."""
        if self._terminal and self._length:
            self._write("")

    def _write(self, text: str) -> None:
        assert self._terminal
        text = text[: shutil.get_terminal_size().columns - 1]
        print(f"\r{text.ljust(self._length)}" + ("" if text else "\r"), end="", file=self._terminal, flush=True)
        self._length = len(text)

    def _count(self, paths: list[str]) -> None:
        self._total = sum(1 for _ in ImagePaths(paths, ()))


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
