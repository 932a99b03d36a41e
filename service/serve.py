"""Serving, from settings that are read to the last answer."""

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
from functools import partial
from types import FrameType

import uvicorn
import uvloop

from service import __version__
from service.app import build_replica, create_api, with_edge
from service.bundles.bundle import BundleError
from service.command_line import CommandLine
from service.edge.connection import HttpProtocol
from service.edge.connection_table import ConnectionTable
from service.edge.metrics_server import start_metrics_server
from service.edge.request_log import RequestLog
from service.edge.server import DrainingServer
from service.edge.uploads import Uploads
from service.host import allowed_cores, connections_allowed
from service.lanes.lane import LaneLost, LoadFailure
from service.logs import configure_logging
from service.metrics import Metrics
from service.settings import Settings
from service.sources import ExportFailed, settings_for

log = logging.getLogger(__name__)

# Objects more than before, at which a collection pays: of each request some hundred are young at once.
_GARBAGE = 20_000
_OF_GRPC = 4  # one connection in so many is gRPC's where it is served: each carries many calls


def serve(command_line: CommandLine, started: float) -> None:
    """Build the replica and serve until SIGTERM; exits as `service.__main__` says.

    `started` is when the program did, of `time.monotonic`.
    """
    settings = command_line.settings
    metrics = Metrics()
    lines = configure_logging(settings.log_format, settings.log_level, metrics.log_lines_dropped.inc)
    hangups: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))

    def stop_loading(number: int, frame: FrameType | None) -> None:
        """Nothing is served yet and nothing can be lost: end at once, whatever the other threads do."""
        log.info("received %s while loading", signal.Signals(number).name)
        lines.flush()
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop_loading)
    cores = allowed_cores()
    told: dict[str, object] = {"version": __version__, "cores": cores}
    told |= {"model": settings.model} if settings.model else {"model_repository": str(settings.model_repository)}
    models = settings.model or f"the models of {settings.model_repository}"
    log.info("mixer-serve %s starts on %g cores, with %s", __version__, cores, models, extra=told)
    try:
        metrics_port = _serve_metrics(settings, metrics)
        listener = _bind(settings.host, settings.port, "MIXER_PORT")
        grpc_listener = None
        if settings.grpc_port is not None:
            grpc_listener = _bind(settings.host, settings.grpc_port, "MIXER_GRPC_PORT")
        settings = settings_for(settings)
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        server = runner.run(_loaded(settings, metrics, metrics_port, grpc_listener, started, hangups))
        runner.run(server.serve(sockets=[listener]))
    except ExportFailed:
        os._exit(1)
    except (BundleError, LoadFailure, LaneLost, MemoryError, OSError, RuntimeError, ValueError) as error:
        lines.flush()  # so that the reason comes last
        print(
            f"mixer-serve: {command_line.named(' '.join(str(error).split()) or type(error).__name__)}", file=sys.stderr
        )
        os._exit(1)
    lines.flush()
    os._exit(0)  # everybody is answered; the interpreter would wait for threads that read a file which never comes


async def _loaded(
    settings: Settings,
    metrics: Metrics,
    metrics_port: int,
    grpc_listener: socket.socket | None,
    started: float,
    hangups: list[int],
) -> DrainingServer:
    """The server, once every model is loaded."""
    uploads = Uploads(settings.max_inflight_bytes, settings.min_upload_bytes_per_second)
    replica = build_replica(settings, metrics, make_room=uploads.end_most_stalled)
    api = create_api(replica)
    app = with_edge(api)
    await replica.start()
    connections, grpc = connections_allowed(), None
    if grpc_listener:
        from service.grpc_api.server import GrpcServer  # noqa: PLC0415 - an optional dependency

        of_grpc = max(1, connections // _OF_GRPC)
        connections, grpc = connections - of_grpc, GrpcServer(api, grpc_listener, of_grpc)
    gc.collect()
    gc.freeze()  # a collection that looks through all of this as well would hold the loop for tens of milliseconds
    gc.set_threshold(_GARBAGE)
    table = ConnectionTable(connections, uploads, metrics.connections_ended)
    metrics.connections.set_function(table.__len__)
    config = uvicorn.Config(
        app,
        http=partial(  # type: ignore[arg-type]
            HttpProtocol,
            table=table,
            deadline_seconds=settings.deadline_ms / 1000,
            request_log=RequestLog(settings.log_requests),
        ),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        proxy_headers=False,  # nothing here depends on who the client is
        timeout_keep_alive=settings.keep_alive_seconds,
    )
    return DrainingServer(config, replica, table, metrics_port, started, hangups, grpc)


def _serve_metrics(settings: Settings, metrics: Metrics) -> int:
    """Answer on the metrics' port, on a thread of its own, which answers while the event loop is busy; the port."""
    try:
        server = start_metrics_server(settings.metrics_port, settings.host, metrics.registry)
    except (OSError, UnicodeError) as error:
        raise _unbound(settings.host, f"MIXER_METRICS_PORT {settings.metrics_port}", error) from None
    return server.server_port


def _bind(host: str, port: int, setting: str) -> socket.socket:
    """Take a port before the models are loaded; connections are refused until the server listens on it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # "::" is every address, IPv4's as well
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
    except (OSError, UnicodeError) as error:
        raise _unbound(host, f"{setting} {port}", error) from None
    listener.setblocking(False)
    return listener


def _unbound(host: str, port: str, error: OSError | UnicodeError) -> OSError:
    """Which setting is to blame: an address that is nobody's, or not this machine's, or else the port."""
    if isinstance(error, UnicodeError):
        return OSError(f"MIXER_HOST {host}: not a host name")
    foreign = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
    return OSError(f"{f'MIXER_HOST {host}' if foreign else port}: {error.strerror}")
