"""`python -m service` (console script `mixer-serve`): first the signals and limits, then the settings, then serving.

Light, because every process that this one spawns imports it too: whatever takes time or memory waits for main().
"""

import os
import signal
import sys
import time

from service.host import check_limits, open_standard_streams


def main() -> None:
    """Serve. Exits with 2 for unusable settings, 1 if a model or a port cannot be had, 0 after a drain or a SIGTERM."""
    started = time.monotonic()
    open_standard_streams()
    # Before the libraries are loaded, which takes a second: as a container's first process, which no signal ends
    # unless it asks for that, it would otherwise come up after all.
    for early in (signal.SIGTERM, signal.SIGINT):
        signal.signal(early, lambda *_: os._exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nothing is loaded yet that could be reloaded
    try:
        check_limits()
    except OSError as limit:
        sys.exit(f"mixer-serve: {limit}")
    from service.command_line import read_command_line  # noqa: PLC0415 - this and the next: see above

    command_line = read_command_line()
    from service.serve import serve  # noqa: PLC0415

    serve(command_line, started)


if __name__ == "__main__":
    main()
