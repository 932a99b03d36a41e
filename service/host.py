"""What this process may use: cores and memory, by cgroup (v1 or v2), affinity and `ulimit`; standard streams."""

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

# Below these, libraries have been seen to abort, or to raise from anywhere, while they are loaded or start threads.
_LEAST_LIMITS = (
    (resource.RLIMIT_NOFILE, 64, 1, "open files (ulimit -n) is too little: it takes 64, and one for each connection"),
    (resource.RLIMIT_AS, 2**30, 2**20, "MiB of address space (ulimit -v) is too little: it takes 1024, and the models"),
)
_MOST_CONNECTIONS = 8192  # an idle one takes some kilobytes
_FEWEST_CONNECTIONS = 8
_SPARE_FILES = 40  # for who is told that there is no room, for probes, metrics, and models that are loaded
_MEMORY_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


def allowed_cores(root: Path = Path("/")) -> float:
    """Cores this process may use: its CPU affinity, capped by every cgroup (v1 or v2) quota above it.

    May be fractional (a container limited to half a core). `root` is where /proc and /sys are looked up.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(affinity), *_cpu_quotas(root)])


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that this process and its children may use: the least of the cgroup limits above it, or None.

    Beyond it the kernel ends processes without a word. `root` is where /proc and /sys are looked up.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min((limit for limit in _memory_limits(root) if limit < machine), default=None)  # v1 has a huge one for none


def check_limits() -> None:
    """Raise OSError for a limit of open files or of address space below what the service takes without any load."""
    for kind, least, unit, told in _LEAST_LIMITS:
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and limit < least:
            raise OSError(f"the limit of {limit // unit} {told}")


def open_standard_streams() -> None:
    """Open those that this process was started without, or a file or socket of ours would take their numbers.

    What is read from standard input, or written to standard output, fails then; what is told to standard error is lost.
    """
    for name, mode, flags in (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)  # the lowest number that is free: the one that is missing
            os.set_inheritable(descriptor, True)  # the lanes', too
            setattr(sys, name, open(descriptor, mode))  # noqa: SIM115, PTH123 - for good


def connections_allowed() -> int:
    """How many connections the limit of open files leaves room for, beside those open now and some to spare."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    files = sum(1 for _ in Path("/dev/fd").iterdir())
    return max(_FEWEST_CONNECTIONS, min(_MOST_CONNECTIONS, limit - files - _SPARE_FILES))


def _cpu_quotas(root: Path) -> list[float]:
    read = {1: _quota_v1, 2: _quota_v2}
    return [quota for version, group in _groups("cpu", root) if (quota := read[version](group)) is not None]


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return None if quota <= 0 else quota / period


def _memory_limits(root: Path) -> list[int]:
    limits = []
    for version, group in _groups("memory", root):
        try:
            text = (group / _MEMORY_FILES[version]).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():  # and not v2's "max"
            limits.append(int(text))
    return limits


def _groups(controller: Literal["cpu", "memory"], root: Path) -> Iterator[tuple[int, Path]]:
    """(cgroup version, folder) of every group that may limit this process, its own first, whether or not it is there.

    `root` is where /proc and /sys are looked up.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # the v2 hierarchy
            version, base = 2, root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            version, base = 1, root / "sys/fs/cgroup" / controller
        else:
            continue
        # In a container the path may be the host's while the mount shows only our own part: try every ancestor.
        group = Path(path.lstrip("/"))
        yield from ((version, base / part) for part in (group, *group.parents))
