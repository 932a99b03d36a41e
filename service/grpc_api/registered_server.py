"""grpcio's server with its methods registered, which no call of any other method ends."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import grpc.aio
from grpc._cython import cygrpc


class RegisteredServer(cygrpc.AioServer):  # type: ignore[misc]
    """What is inside `grpc.aio.Server`; calls of methods that have no handler are refused here.

    grpcio's own loop decodes the path of each of those, and ends for good, with every call inside, where one is
    not UTF-8 (grpcio 1.84 and 1.85): a single request of a stranger would close the door.
    """

    def __init__(
        self, handlers: Mapping[str, grpc.RpcMethodHandler], options: tuple[tuple[str, Any], ...], most_calls: int
    ) -> None:
        """`handlers` are those of all methods, by their path; beyond `most_calls` inside, calls are refused."""
        self._running = asyncio.get_running_loop()
        super().__init__(self._running, None, (), (), options, most_calls)
        self.add_registered_method_handlers(dict(handlers))

    def _make_request_call_future(self, method: bytes | None) -> Any:
        """The next call of a method, or of none that has a handler: that one never comes."""
        if method is None:
            return self._running.create_task(self._refuse_unknown())
        return super()._make_request_call_future(method)

    async def _refuse_unknown(self) -> None:
        while True:
            context = cygrpc._ServicerContext(await self._request_call(), None, None, self._running)
            with suppress(grpc.aio.AbortError, cygrpc.ExecuteBatchError):  # the latter: the client is gone
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
