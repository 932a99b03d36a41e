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
    go_first()
    os.nice(5)
    logging.disable()  # it speaks to the front alone, which has the log
    with suppress(ConnectionError):  # the front is gone before its answer
        serve(connection, on_loaded=lambda order: bound_memory(order.memory))
    os._exit(0)  # no library's own end can hold it up


def serve(
    connection: socket,
    find_engines: FindEngines = candidates,
    on_loaded: Callable[[LoadOrder], object] = lambda _: None,
) -> None:
    """Do as the front says until it closes the connection; `on_loaded` is called before the first batch.

    What goes wrong while loading is told as `{"failed": message}`, and ends the lane.
    """
    first = receive(connection)
    if first is None:
        return
    order = LoadOrder(**first[0])
    try:
        worker = Worker(order, find_engines)
        on_loaded(order)
    except Exception as error:
        send(connection, {"failed": str(error) or type(error).__name__})
        return
    send(connection, {"loaded": asdict(worker.loaded)})
    while worker.works and (batch := receive(connection)):
        send(connection, *worker.answer(*batch, lambda: send(connection, {"decoded": True})))
        worker.tidy()
