"""Serving, from the settings to the last answer."""

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
import uvloop
from prometheus_client import start_http_server
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from service.app import build_replica, create_api, with_edge
from service.bundles.bundle import BundleError
from service.edge.connection import HttpProtocol
from service.edge.server import DrainingServer
from service.lanes.lane import LaneLost, LoadFailure
from service.logs import configure_logging
from service.metrics import Metrics
from service.settings import Settings

log = logging.getLogger(__name__)


def serve() -> None:
    """Read the settings, build the replica, serve until SIGTERM; exits as `service.__main__` says."""
    hangups: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop_loading)
    try:
        settings = CliApp.run(Settings)
    except ValidationError as error:
        _explain(error)
        sys.exit(2)
    except SettingsError as error:  # flags that there are none of
        print(f"mixer-serve: {str(error).partition(': ')[2] or error}; --help lists the flags", file=sys.stderr)
        sys.exit(2)
    configure_logging(settings.log_format)
    metrics = Metrics()
    try:
        # A thread of its own, which answers while the event loop is busy.
        metrics_server, _ = start_http_server(settings.metrics_port, settings.host, metrics.registry)
    except (OSError, RuntimeError, UnicodeError) as error:
        sys.exit(_unbound(settings.host, f"MIXER_METRICS_PORT {settings.metrics_port}", error))
    try:
        listener = _bind(settings.host, settings.port)
    except (OSError, UnicodeError) as error:
        sys.exit(_unbound(settings.host, f"MIXER_PORT {settings.port}", error))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, metrics, listener, metrics_server.server_port, hangups))


async def _serve(
    settings: Settings, metrics: Metrics, listener: socket.socket, metrics_port: int, hangups: list[int]
) -> None:
    try:
        replica = build_replica(settings, metrics)
        app = with_edge(create_api(replica))
        await replica.start()
    except (BundleError, LoadFailure, LaneLost, MemoryError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"mixer-serve: {' '.join(str(error).split()) or type(error).__name__}")
    gc.collect()
    gc.freeze()  # a collection that looks through all of this as well would hold the loop for tens of milliseconds
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=75,  # longer than the 60 s of common load balancers, so that they close first
    )
    await DrainingServer(config, replica, metrics_port, hangups).serve(sockets=[listener])


def _stop_loading(number: int, frame: FrameType | None) -> None:
    """Nothing is served yet and nothing can be lost: end at once, whatever the other threads do."""
    log.info("received %s while loading", signal.Signals(number).name)
    os._exit(0)


def _bind(host: str, port: int) -> socket.socket:
    """Take the port before the models are loaded; connections are refused until the server listens on it."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.setblocking(False)
    return listener


def _unbound(host: str, port: str, error: OSError | RuntimeError | UnicodeError) -> str:
    """Which setting is to blame: an address that is nobody's, or not this machine's, or else the port."""
    if isinstance(error, RuntimeError):  # no thread can be had
        return f"mixer-serve: {error}"
    if isinstance(error, UnicodeError):
        return f"mixer-serve: MIXER_HOST {host}: not a host name"
    foreign = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
    return f"mixer-serve: {f'MIXER_HOST {host}' if foreign else port}: {error.strerror}"


def _explain(error: ValidationError) -> None:
    lines = [
        (f"MIXER_{'.'.join(map(str, e['loc'])).upper()}: " if e["loc"] else "") + e["msg"].removeprefix("Value error, ")
        for e in error.errors()
    ]
    print("\n".join(f"mixer-serve: {line}" for line in lines), file=sys.stderr)
