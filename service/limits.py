"""Whether the limits of this process (`ulimit`) let it start at all."""

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
