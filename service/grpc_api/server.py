"""The server: its port, its bounds, and its end."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from service.edge.request_log import RequestLog
from service.edge.server import TASKS_SECONDS
from service.grpc_api.calls import Calls
from service.grpc_api.methods import answers, model_infer
from service.grpc_api.registered_server import RegisteredServer
from service.models.replica import Replica
from service.settings import LONGEST_DEADLINE_MS, Settings

# Calls at once for each image that may be inside. Beyond, the library refuses them, and not in the service's words.
_CALLS_PER_IMAGE = 4

# How much lower the priority of the library's threads is than the event loop's, and as low as the lanes': frames by the
# hundred thousand, of which nothing comes, keep them busy.
_LATER, _LIBRARY_THREADS = 5, ("event_engine", "lifeguard")


class GrpcServer:
    """The service on a port of its own."""

    def __init__(self, api: FastAPI, listener: socket.socket, connections: int) -> None:
        """`listener` holds the port until `start`; no more than so many `connections` are open at once."""
        replica: Replica = api.state.replica
        calls = _CALLS_PER_IMAGE * replica.settings.max_inflight_images
        self._listener = listener
        self._calls = Calls(api, RequestLog(replica.settings.log_requests))
        handlers = {
            path: self._calls.handler(path, answer, short=answer is not model_infer)
            for path, answer in answers().items()
        }
        self._server = RegisteredServer(handlers, _options(replica.settings, connections, calls), calls)

    async def start(self) -> int:
        """Listen; returns the port. Raises RuntimeError if it is somebody else's by now."""
        host, port = self._listener.getsockname()[:2]
        self._listener.close()
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if not self._server.add_insecure_port(address.encode()):
            raise RuntimeError(f"{address} is somebody else's")
        await self._server.start()
        _put_behind(_LATER)
        return int(port)

    async def stop(self) -> None:
        """Let nobody else in, and answer everybody inside, or end whose deadline has passed."""
        await self._calls.close(TASKS_SECONDS)
        await self._server.shutdown(TASKS_SECONDS)


def _put_behind(by: int) -> None:
    """Lower the priority of the library's threads, which those that they start will have as well."""
    for thread in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # it has ended meanwhile
            if (thread / "comm").read_text().strip() in _LIBRARY_THREADS:
                os.setpriority(os.PRIO_PROCESS, int(thread.name), os.getpriority(os.PRIO_PROCESS, 0) + by)


def _options(settings: Settings, connections: int, calls: int) -> tuple[tuple[str, Any], ...]:
    """The library's channel arguments (grpc/impl/channel_arg_names.h)."""
    return (
        ("grpc.so_reuseport", 0),  # or two services would share a port, and each have half of the calls
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_concurrent_streams", calls),
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.http2.bdp_probe", 0),  # which would buffer megabytes of each call that is not read yet
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", settings.keep_alive_seconds * 1000),
        ("grpc.max_connection_age_ms", 300_000),
        ("grpc.max_connection_age_grace_ms", LONGEST_DEADLINE_MS),  # then it is closed on whoever reads no answer
        ("grpc.keepalive_time_ms", 60_000),  # whoever is gone without a word
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # whoever asks more often has to go
    )
