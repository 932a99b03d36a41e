"""Where the kernel keeps the limits, cgroup v1 or v2, that hold for this process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal


def limiting_groups(controller: Literal["cpu", "memory"], root: Path) -> Iterator[tuple[int, Path]]:
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
