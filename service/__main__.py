"""`python -m service` (console script `mixer-serve`): read the settings, build the replica, serve until SIGTERM."""

import os
import signal
import sys

from service.limits import check_limits, connections_allowed

if __name__ == "__main__":
    # Before the libraries are loaded, which takes a second: as a container's first process, which no signal ends
    # unless it asks for that, it would otherwise come up after all.
    for early in (signal.SIGTERM, signal.SIGINT):
        signal.signal(early, lambda *_: os._exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        check_limits()
    except OSError as limit:
        sys.exit(f"mixer-serve: {limit}")

import errno
import gc
import logging
import socket
import threading
from concurrent.futures import Future
from functools import partial
from types import FrameType

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from service.app import build_replica, create_app
from service.bundles.bundle import BundleError
from service.bundles.golden import GoldenMismatch
from service.edge.connection import HttpProtocol
from service.edge.connection_table import ConnectionTable
from service.edge.metrics_server import start_metrics_server
from service.edge.server import DrainingServer
from service.edge.uploads import Uploads
from service.engines.engine import EngineError
from service.logs import configure_logging
from service.metrics import Metrics
from service.models.replica import Replica
from service.settings import Settings

log = logging.getLogger(__name__)


def main() -> None:
    """Serve. Exits with 2 for unusable settings, 1 if a model or a port cannot be had, 0 after a drain or a SIGTERM."""
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
        metrics_server = start_metrics_server(settings.metrics_port, settings.host, metrics.registry)
    except (OSError, RuntimeError, UnicodeError) as error:
        sys.exit(_unbound(settings.host, f"MIXER_METRICS_PORT {settings.metrics_port}", error))
    try:
        listener = _bind(settings.host, settings.port)
    except (OSError, UnicodeError) as error:
        sys.exit(_unbound(settings.host, f"MIXER_PORT {settings.port}", error))
    try:
        replica = _build_in_thread(settings, metrics)
        app = create_app(replica)
    except (BundleError, EngineError, GoldenMismatch, MemoryError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"mixer-serve: {' '.join(str(error).split()) or type(error).__name__}")
    gc.collect()
    gc.freeze()  # a collection that looks through all of this as well stops every thread for tens of milliseconds
    uploads = Uploads(settings.max_inflight_bytes, settings.min_upload_bytes_per_second)
    table = ConnectionTable(connections_allowed(), uploads, metrics.connections_ended)
    metrics.connections.set_function(table.__len__)
    config = uvicorn.Config(
        app,
        http=partial(HttpProtocol, table=table, deadline_seconds=settings.deadline_ms / 1000),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=settings.keep_alive_seconds,
    )
    DrainingServer(config, replica, table, metrics_server.server_port, hangups).run(sockets=[listener])
    if replica.reloader.busy or replica.runner.hung:
        os._exit(0)  # the interpreter would wait for a hung pass, and be crashed by a library that builds a model


def _build_in_thread(settings: Settings, metrics: Metrics) -> Replica:
    """The built replica; this thread is free for signals, for which a library at work would not stop."""
    built: Future[Replica] = Future()

    def build() -> None:
        try:
            built.set_result(build_replica(settings, metrics))
        except BaseException as error:
            built.set_exception(error)

    threading.Thread(target=build, name="load", daemon=True).start()
    return built.result()


def _stop_loading(number: int, frame: FrameType | None) -> None:
    """Nothing is served yet and nothing can be lost: end at once, whatever the other threads do."""
    log.info("received %s while loading", signal.Signals(number).name)
    os._exit(0)


def _bind(host: str, port: int) -> socket.socket:
    """Take the port before the models are loaded; connections are refused until the server listens on it."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:  # "::" is every address, IPv4's as well
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
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


if __name__ == "__main__":
    main()
