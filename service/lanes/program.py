"""A lane's own program: load one model, then answer batch after batch until the front hangs up."""

import faulthandler
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from socket import socket

from service.engines.choice import candidates
from service.lanes.memory import bound_memory, go_first
from service.lanes.orders import LoadOrder
from service.lanes.wire import receive, send
from service.lanes.worker import FindEngines, Worker


def main(connection: socket) -> None:
    """Serve as a process of its own. It ends when the front closes the connection, or is no more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # to a whole group; the front decides
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    logging.disable()  # a lane speaks to the front alone, which has the log
    go_first()
    with suppress(ConnectionError):  # the front is gone before its answer
        serve(connection, bound=bound_memory)
    os._exit(0)  # no library's own end can hold it up


def serve(
    connection: socket,
    find_engines: FindEngines = candidates,
    bound: Callable[[int], None] = lambda limit: None,
) -> None:
    """Do as the front says until it closes the connection; `bound` limits the memory that is taken from then on.

    What goes wrong while loading is told as `{"failed": message, "kind": class}`, and ends the lane.
    """
    order = receive(connection)
    if order is None:
        return
    try:
        load = LoadOrder(**order[0])
        worker = Worker(load, find_engines)
        bound(load.memory)
    except Exception as error:
        send(connection, {"failed": str(error) or type(error).__name__, "kind": type(error).__name__})
        return
    send(connection, {"loaded": asdict(worker.loaded)})
    while worker.works and (order := receive(connection)):
        send(connection, *worker.answer(*order, lambda: send(connection, {"decoded": True})))
