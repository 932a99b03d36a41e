"""A lane's memory: what it holds, what it may hold, and what it can do without."""

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def held_bytes(pid: int | str = "self") -> int:
    """What a process holds in memory; 0 if it is gone or there is no /proc.

    Without pages of files, such as libraries, which processes share and the kernel can have back.
    """
    with suppress(OSError):
        _, resident, of_files, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
        return (resident - of_files) * _PAGE
    return 0


def give_back() -> None:
    """Return to the kernel what loading a model took and freed: with OpenVINO more than the model itself."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no such function
            ctypes.CDLL(None).malloc_trim(0)


def bound_memory(limit: int) -> None:
    """Let an allocation fail that would take this process beyond holding `limit` bytes; 0: none does.

    The kernel bounds addresses (setrlimit(2), RLIMIT_AS), of which more are taken than are ever touched.
    """
    if limit and sys.platform == "linux":
        addresses = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
        bound = addresses + max(0, limit - held_bytes())
        resource.setrlimit(resource.RLIMIT_AS, (bound, resource.getrlimit(resource.RLIMIT_AS)[1]))


def go_first() -> None:
    """Where memory runs out in a container, have the kernel end this process rather than the front (proc(5))."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
