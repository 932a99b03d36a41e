"""Whether the memory that this process may use is enough to start in."""

from pathlib import Path

from service.cgroup import limiting_groups

_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}
# Bytes: a service with a model of 0.4 MB that answers 60 requests at once; in 110 MiB the kernel ended it.
_LEAST = 120 * 2**20
_COPIES = 4  # of a model's file: L/16 took 4.3 times its own while it was loaded


def check_memory(models: list[Path], root: Path = Path("/")) -> None:
    """Raise MemoryError if a cgroup limit is below what the service and these files need at the very least.

    Otherwise the kernel would end the process without a word. `root` is where /proc and /sys are looked up.
    """
    needed = _LEAST + _COPIES * sum(model.stat().st_size for model in models if model.is_file())
    limit = min(_limits(root), default=needed)
    if limit < needed:
        raise MemoryError(
            f"the memory limit of {limit >> 20} MiB is too little: "
            f"to load the models takes {needed >> 20} MiB, and requests come on top"
        )


def _limits(root: Path) -> list[int]:
    limits = []
    for version, group in limiting_groups("memory", root):
        try:
            text = (group / _FILES[version]).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():  # and not v2's "max"
            limits.append(int(text))
    return limits
