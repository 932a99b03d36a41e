"""Whether the limits of this process (`ulimit`) let it start at all, and how many connections they let it have."""

import os
import resource

# Below these, libraries have been seen to abort, or to raise from anywhere, while they are loaded or start threads.
_LEAST = (
    (resource.RLIMIT_NOFILE, 64, 1, "open files (ulimit -n) is too little: it takes 64, and one for each connection"),
    (resource.RLIMIT_AS, 2**30, 2**20, "MiB of address space (ulimit -v) is too little: it takes 1024, and the models"),
)


def check_limits() -> None:
    """Raise OSError for a limit of open files or of address space below what the service takes without any load."""
    for kind, least, unit, told in _LEAST:
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and limit < least:
            raise OSError(f"the limit of {limit // unit} {told}")


_MOST_CONNECTIONS = 8192  # an idle one takes some kilobytes
_FEWEST_CONNECTIONS = 8
_SPARE_FILES = 40  # for who is told that there is no room, for probes, metrics, and models that are loaded


def connections_allowed() -> int:
    """How many connections the limit of open files leaves room for, beside those open now and some to spare."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    with os.scandir("/dev/fd") as entries:
        files = sum(1 for _ in entries)
    return max(_FEWEST_CONNECTIONS, min(_MOST_CONNECTIONS, limit - files - _SPARE_FILES))
