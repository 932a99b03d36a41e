"""uvicorn with a drain that loses nothing: serve on for a while, close the door, answer everybody inside."""

import asyncio
import logging
import math
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

import uvicorn

from service.edge.connection import HttpProtocol
from service.edge.connection_table import ConnectionTable
from service.edge.listener import Listener
from service.models.replica import Replica

log = logging.getLogger(__name__)

TASKS_SECONDS = 5.0  # beyond the last deadline that a request's task may take to end, while the server stops


class Neighbour(Protocol):
    """Another server of the same replica, on the same event loop."""

    async def start(self) -> int:
        """Listen; returns the port."""

    async def stop(self) -> None:
        """Let nobody else in, and answer everybody inside."""


class DrainingServer(uvicorn.Server):
    """Owns the signals. SIGTERM: not ready, serve new work for `drain_seconds`, then finish what is inside, exit 0.

    A second SIGTERM, or a SIGINT, ends the serving of new work at once; a third signal ends without answering. SIGHUP
    reads the model repository again.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        replica: Replica,
        table: ConnectionTable,
        metrics_port: int,
        started: float,
        early_hangups: Sequence[int] = (),
        grpc: Neighbour | None = None,
    ) -> None:
        """`metrics_port` and `started` (of `time.monotonic`) are for the log.

        `early_hangups` are the SIGHUPs that came while the models were loading. `grpc` begins and ends
        with this server.
        """
        super().__init__(config)
        self._replica = replica
        self._table = table
        self._listeners: list[Listener] = []
        self._metrics_port = metrics_port
        self._started = started
        self._early_hangups = early_hangups
        self._grpc = grpc
        self._grpc_stopping: asyncio.Task[None] | None = None
        self._signals = 0
        self._stopping_since = 0.0
        self._hasten = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so once it is true. From then on there is something to reload."""
        await super().startup([])  # which would listen by uvloop's own server
        for bound in sockets or []:
            listener = Listener(bound, self._protocol, self._table.make_room, self._table.ended)
            listener.open(self.config.backlog)
            self._listeners.append(listener)
        if sockets:
            ports = {"port": sockets[0].getsockname()[1], "metrics_port": self._metrics_port}
            if self._grpc:
                ports["grpc_port"] = await self._grpc.start()
            ready = ports | {"ready_seconds": round(time.monotonic() - self._started, 1)}
            also = ", gRPC on port %(grpc_port)d" if self._grpc else ""
            log.info(
                f"listening on port %(port)d, metrics on port %(metrics_port)d{also}; ready after %(ready_seconds)g s",
                ready,
                extra=ready,
            )
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
            if self._early_hangups:
                self._on_hangup()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replace uvicorn's handlers, which close the listener at the instant of the signal and re-raise it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        if self._signals > 2:
            self.force_exit = True
            if self._grpc_stopping:
                self._grpc_stopping.cancel()
            self._tell(number, "the end, whoever waits for an answer")
        elif number == signal.SIGINT or self._draining:
            self._hasten.set()
            self._tell(number, "no new work is served")
        else:
            seconds = self._replica.settings.drain_seconds
            self._tell(number, f"not ready any more, new work is served for {seconds:g} s")
        if not self._draining:
            self._stopping_since = time.monotonic()
            self._draining = asyncio.create_task(self._drain())

    def _tell(self, number: int, what_follows: str) -> None:
        told = {"signal": signal.Signals(number).name, "inflight_images": self._replica.admission.inflight}
        log.info("received %s: %s", told["signal"], what_follows, extra=told)

    def _on_hangup(self) -> None:
        self._tell(signal.SIGHUP, "the model repository is read again")
        self._replica.lifecycle.reload()

    async def _drain(self) -> None:
        self._replica.drain()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hasten.wait(), self._replica.settings.drain_seconds)
        inside = self._replica.admission.inflight
        log.info("drained: the door closes, with %d images inside", inside, extra={"inflight_images": inside})
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the door without resetting anyone who already stands in it, then let uvicorn finish.

        A connection is waited for until its request's deadline and a little longer, and then aborted; so are its tasks.
        """
        if self._grpc:
            self._grpc_stopping = asyncio.create_task(self._grpc.stop())
        await asyncio.gather(*(listener.close() for listener in self._listeners))
        await self._let_newcomers_speak()
        if self._grpc_stopping:
            await asyncio.wait([self._grpc_stopping])
        for connection in self._connections():
            connection.read_at_once()
        seconds = max((connection.seconds_left() for connection in self._connections()), default=0.0)
        self.config.timeout_graceful_shutdown = math.ceil(seconds + TASKS_SECONDS)
        await super().shutdown(sockets)
        lost = self._replica.admission.inflight  # only a forced exit leaves any
        self._replica.metrics.drain_lost_images.inc(lost)
        seconds = round(time.monotonic() - self._stopping_since, 1)
        told = {"lost_images": lost, "stopping_seconds": seconds}
        log.info("stopped with %d images unanswered, after %g s", lost, seconds, extra=told)

    def _protocol(self) -> HttpProtocol:
        make = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore[call-arg,return-value]

    def _connections(self) -> list[HttpProtocol]:
        return list(self.server_state.connections)  # type: ignore[arg-type]

    async def _let_newcomers_speak(self, seconds: float = 1.0) -> None:
        """Give accepted connections time to send their first request, which uvicorn would not wait for."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end and any(connection.cycle is None for connection in self._connections()):
            await asyncio.sleep(0.02)
