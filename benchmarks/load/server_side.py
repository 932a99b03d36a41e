"""What the server spent meanwhile: by its own metrics, or by the processes' accounts where they run on this machine."""

import asyncio
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.connection import Connections
from benchmarks.load.target import Target

_RESIDENT = re.compile(rb"^process_resident_memory_bytes (\S+)", re.MULTILINE)

Totals = dict[str, float]  # metrics summed over their labels, by name


@dataclass
class Snapshot:
    """The server's accounts at one moment."""

    metrics: str = ""  # as text: parsing waits until the run is over, it would hold the generator up
    cpu_seconds: float | None = None
    failure: str | None = None  # why there are none


@dataclass
class ServerSide:
    """Watches one server; memory is sampled once a second, in bytes."""

    target: Target
    memory: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._processes = [psutil.Process(self.target.pid)] if self.target.pid else []
        self._connections = Connections(self.target.metrics_url) if self.target.metrics_url else None

    async def snapshot(self) -> Snapshot:
        """Read the accounts now. Raises OSError if the metrics cannot be had or the process has ended."""
        return Snapshot(await self._scrape(), await asyncio.to_thread(self._cpu_seconds) if self._processes else None)

    async def watch_memory(self) -> None:
        """Until cancelled."""
        while self._processes or self._connections:
            if self._processes:
                # In a thread: to walk the processes and their pages takes milliseconds, in which nothing would be sent.
                self.memory.append(await asyncio.to_thread(self._resident))
            elif match := _RESIDENT.search((await self._scrape()).encode()):
                self.memory.append(float(match[1]))
            await asyncio.sleep(1)

    async def _scrape(self) -> str:
        return (await self._connections.get()).decode() if self._connections else ""

    def _tree(self) -> list[psutil.Process]:
        children: list[psutil.Process] = []
        with suppress(psutil.Error):
            children = self._processes[0].children(recursive=True)
        return [*self._processes, *children]

    def _resident(self) -> float:
        return sum(_resident(process) for process in self._tree())

    def _cpu_seconds(self) -> float:
        if not _runs(self._processes[0]):
            raise OSError(f"process {self.target.pid} has ended")
        return sum(_cpu_seconds(process) for process in self._tree())

    def close(self) -> None:
        """Close the connection to the metrics."""
        if self._connections:
            self._connections.close()


def totals(metrics: str, model: str | None = None) -> Totals:
    """Samples summed over their labels, by name; images also by outcome and stages' seconds by stage.

    Of samples that are of one model, only those of `model`, if it is given.
    """
    sums: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if model and sample.labels.get("model", model) != model:
                continue
            sums[sample.name] += sample.value  # type: ignore[assignment]
            for name, label in (("mixer_images_total", "outcome"), ("mixer_stage_duration_seconds_sum", "stage")):
                if sample.name == name:
                    sums[sample.labels[label]] += sample.value  # type: ignore[assignment]
    return dict(sums)


def _runs(process: psutil.Process) -> bool:
    """Whether it has not ended, also where nobody has waited for it."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _resident(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        return float(process.memory_full_info().pss)  # what processes share counts once
    return 0.0


def _cpu_seconds(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
