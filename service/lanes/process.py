"""A lane as a process: forked from one that has loaded the libraries already, or started by itself."""

import multiprocessing
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Protocol


class LaneProcess(Protocol):
    """What runs a lane's program at the other end of a socket."""

    @property
    def pid(self) -> int:
        """The operating system's number for it."""

    def kill(self) -> None:
        """End it at once."""

    def ending(self) -> str:
        """How it ended, in words, once its socket is closed."""


Spawn = Callable[[socket.socket], LaneProcess]  # a lane, at the other end of this socket


def _run(connection: socket.socket) -> None:
    from service.lanes.program import main  # noqa: PLC0415 - the libraries belong to the lane, not to the front

    main(connection)


class ForkedLane:
    """A process of its own (see `LaneProcess`)."""

    def __init__(self, connection: socket.socket, run: Callable[[socket.socket], None] = _run) -> None:
        """Start it; takes milliseconds, and a second the first time, when the libraries are loaded.

        Raises OSError if it cannot be started.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["service.lanes.preload"])
        self._process = context.Process(target=run, args=(connection,), name="lane", daemon=True)
        with connection:  # the lane has its own
            try:
                self._process.start()
            except EOFError:  # it will be there again at the next attempt
                raise ChildProcessError("the process that lanes are forked from has ended") from None

    @property
    def pid(self) -> int:
        """The operating system's number for it."""
        return self._process.pid or 0

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def ending(self) -> str:
        """How it ended, in words."""
        self._process.join(1)  # its socket closes a moment before it is gone
        return _in_words(self._process.exitcode)


class StartedLane:
    """A process of its own (see `LaneProcess`) for a program that is not ours: nothing of it is imported again.

    multiprocessing would run the main module of the program anew in each lane, and its fork server is the program's.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Start it; it takes a second to load the libraries. Raises OSError if it cannot be started."""
        with connection:  # the lane has its own
            number = connection.fileno()
            command = [sys.executable, "-c", _STARTED, str(number), *sys.path]
            # In a session of its own: what a terminal sends to the program is not for the lane, even while it loads.
            self._process = subprocess.Popen(
                command, pass_fds=[number], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._end = threading.Thread(target=self._process.wait, name="lane-end", daemon=True)
        self._end.start()

    @property
    def pid(self) -> int:
        """The operating system's number for it."""
        return self._process.pid

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def ending(self) -> str:
        """How it ended, in words."""
        self._end.join(1)
        return _in_words(self._process.returncode)


_STARTED = """
import sys
number, sys.path = int(sys.argv[1]), sys.argv[2:]
from socket import socket
from service.lanes.program import main
main(socket(fileno=number))
"""


def _in_words(code: int | None) -> str:
    if code is None:
        return "it closed its connection"
    if code >= 0:
        return f"it exited with {code}"
    known = -code in set(signal.Signals)  # not those of real time
    return f"it was ended by {signal.Signals(-code).name if known else f'signal {-code}'}"
