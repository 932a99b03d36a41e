"""`python -m service.offline` (console script `mixer-classify`): image files in, rows with their predictions out.

Light, so that a signal ends it at once while the libraries load.
"""

import os
import signal

from service.host import open_standard_streams


def main() -> None:
    """Classify. Exits with 0 if every image has predictions, with 1 if some have none, with 2 for bad arguments."""
    for early in (signal.SIGTERM, signal.SIGINT):
        signal.signal(early, lambda number, _: os._exit(128 + number))
    open_standard_streams()
    from service.offline.command import run  # noqa: PLC0415 - see above

    run()


if __name__ == "__main__":
    main()
