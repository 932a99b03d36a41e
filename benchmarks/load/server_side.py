"""What the server spent meanwhile: its own metrics, and where it runs on this machine what the kernel says of it."""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.connection import Connections
from benchmarks.load.result import ServedModel
from benchmarks.load.target import Target

Totals = dict[str, float]  # metrics summed over their labels, by name


@dataclass
class Snapshot:
    """The server's accounts at one moment."""

    metrics: str = ""  # as text: parsing waits until the run is over, it would hold the generator up
    cpu_seconds: float | None = None  # of all processes, those that have ended as well
    memory: float | None = None  # bytes that all processes hold together
    failure: str | None = None  # why there are none


@dataclass
class ServerSide:
    """Watches one server: the process that is the target's, and whatever it and its children start.

    Memory is sampled once a second, in bytes. The metrics say nothing of CPU time and memory: they have the front's.
    """

    target: Target
    memory: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._first = psutil.Process(self.target.pid) if self.target.pid else None
        self._spent: dict[psutil.Process, float] = {}  # CPU seconds, of those that have ended as last seen
        self._connections = Connections(self.target.metrics_url) if self.target.metrics_url else None

    async def snapshot(self) -> Snapshot:
        """Read the accounts now. Raises OSError if the metrics cannot be had or the process has ended."""
        metrics = await self._scrape()
        return Snapshot(metrics, *await asyncio.to_thread(self._spent_and_held)) if self._first else Snapshot(metrics)

    async def watch_memory(self) -> None:
        """Until cancelled."""
        while self._first:
            # In a thread: to walk the processes and their pages takes milliseconds, in which nothing would be sent.
            self.memory.append(await asyncio.to_thread(self._look))
            await asyncio.sleep(1)

    async def _scrape(self) -> str:
        return (await self._connections.get()).decode() if self._connections else ""

    def _spent_and_held(self) -> tuple[float, float]:
        if self._first and not _runs(self._first):
            raise OSError(f"process {self.target.pid} has ended")
        held = self._look()
        return sum(self._spent.values()), held

    def _look(self) -> float:
        """Note what each process has spent; the bytes that all hold together."""
        processes = tree(self._first) if self._first else []
        for process in processes:
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._spent[process] = times.user + times.system
        return sum(_held(process) for process in processes)

    def close(self) -> None:
        """Close the connection to the metrics."""
        if self._connections:
            self._connections.close()


def tree(first: psutil.Process) -> list[psutil.Process]:
    """It, and what it and its children started: of our service the front, what lanes are forked from, and the lanes."""
    children: list[psutil.Process] = []
    with suppress(psutil.Error):
        children = first.children(recursive=True)
    return [first, *children]


def totals(metrics: str, served: ServedModel | None = None) -> Totals:
    """Samples summed over their labels, by name; images also by outcome and stages' seconds by stage.

    Of samples that are of one model or version, only those of what is `served`, if it is given.
    """
    of = {name: served.model[name] for name in ("model", "version")} if served else {}
    sums: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if "model" in sample.labels and any(sample.labels.get(name, value) != value for name, value in of.items()):
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


def _held(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        return float(process.memory_full_info().pss)  # what processes share counts once
    return 0.0
