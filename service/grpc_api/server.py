"""The server: its port, its bounds, and its end."""

import socket
from typing import Any

import grpc.aio
from fastapi import FastAPI

from service.edge.request_log import RequestLog
from service.edge.server import TASKS_SECONDS
from service.grpc_api.calls import Calls
from service.grpc_api.methods import answers, model_infer
from service.models.replica import Replica
from service.settings import LONGEST_DEADLINE_MS, Settings

# Calls at once for each image that may be inside. Beyond, the library refuses them, and not in the service's words.
_CALLS_PER_IMAGE = 4


class GrpcServer:
    """The service on a port of its own."""

    def __init__(self, api: FastAPI, listener: socket.socket, connections: int) -> None:
        """`listener` holds the port until `start`; no more than so many `connections` are open at once."""
        replica: Replica = api.state.replica
        calls = _CALLS_PER_IMAGE * replica.settings.max_inflight_images
        self._listener = listener
        self._calls = Calls(api, RequestLog(replica.settings.log_requests))
        self._server = grpc.aio.server(
            options=_options(replica.settings, connections, calls), maximum_concurrent_rpcs=calls
        )
        for service, methods in answers().items():
            handlers = {
                name: self._calls.handler(f"/{service}/{name}", answer, short=answer is not model_infer)
                for name, answer in methods.items()
            }
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])

    async def start(self) -> int:
        """Listen; returns the port. Raises RuntimeError if it is somebody else's by now."""
        host, port = self._listener.getsockname()[:2]
        self._listener.close()
        self._server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        await self._server.start()
        return int(port)

    async def stop(self) -> None:
        """Let nobody else in, and answer everybody inside, or end whose deadline has passed."""
        await self._calls.close(TASKS_SECONDS)
        await self._server.stop(TASKS_SECONDS)


def _options(settings: Settings, connections: int, calls: int) -> list[tuple[str, Any]]:
    """The library's channel arguments (grpc/impl/channel_arg_names.h)."""
    return [
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
    ]
