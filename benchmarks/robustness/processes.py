"""A local service's processes, by the id of its front, and what can befall its lanes."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil


def lanes(front: int) -> list[psutil.Process]:
    """Its lanes: the front starts the process that they are forked from. Raises OSError if the front has ended."""
    try:
        process = psutil.Process(front)
        return [child for child in process.children(recursive=True) if child.ppid() != front]
    except psutil.Error as error:
        raise OSError(f"process {front}: {error}") from None


def hit_a_lane(front: int, number: signal.Signals) -> bool:
    """Send a lane a signal; whether there was one. It is the one that has worked the most."""
    found = [(spent, lane.pid) for lane in lanes(front) if (spent := cpu_seconds(lane)) is not None]
    if not found:
        return False
    with suppress(ProcessLookupError):
        os.kill(max(found)[1], number)
    return True


def cpu_seconds(process: psutil.Process) -> float | None:
    """What it has spent so far; None if it has ended."""
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return None


def forget_peak(process: psutil.Process) -> None:
    """Let its peak of resident memory be what it holds now (proc(5), clear_refs)."""
    with suppress(OSError):
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_bytes(process: psutil.Process) -> int:
    """The most that it held since; 0 if it has ended or there is no /proc."""
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0
