"""A service whose lanes fail on certain images, for real: `python -m tests.lane_faults FLAGS`.

An image that begins with one of these names, which no format has, does to its lane what it says. A batch hangs no
sooner than after SHORTEST_HANG_SECONDS, which is in the environment.
"""

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any

from service import serve as serving
from service.app import build_replica
from service.command_line import read_command_line
from service.images.decode import ImageInfo
from service.lanes import process, program, worker
from service.metrics import Metrics
from service.models.replica import Replica
from service.scheduling import scheduler
from service.settings import Settings

SEGFAULT, HANG, LEAK = b"SEGFAULT", b"HANG", b"LEAK"


def hoard_all_there_is() -> None:
    hoard = []
    with suppress(MemoryError):
        while True:
            hoard.append(b"x" * 2**24)
    hoard.pop()
    time.sleep(600)


def faulty_lane(connection: socket.socket) -> None:
    """A lane's program with faults in its decoder."""
    prepare_of = worker.preparation

    def preparation(*arguments: object) -> object:
        prepare = prepare_of(*arguments)  # type: ignore[arg-type]

        def faulty(data: bytes) -> tuple[object, ImageInfo]:
            if data.startswith(SEGFAULT):
                os.kill(os.getpid(), signal.SIGSEGV)
            if data.startswith(HANG):
                time.sleep(600)
            if data.startswith(LEAK):
                hoard_all_there_is()
            return prepare(data)

        return faulty

    worker.preparation = preparation  # type: ignore[assignment]
    program.main(connection)


def build(settings: Settings, metrics: Metrics, **given: Any) -> Replica:
    return build_replica(settings, metrics, partial(process.ForkedLane, run=faulty_lane), **given)


if __name__ == "__main__":
    scheduler._SHORTEST_HANG = float(os.environ["SHORTEST_HANG_SECONDS"])
    serving.build_replica = build  # type: ignore[assignment]
    serving.serve(read_command_line(sys.argv[1:]), time.monotonic())
