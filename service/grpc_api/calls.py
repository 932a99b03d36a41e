"""Around every call: its id, timings, metrics, log line, and one rendering of every error."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import grpc
from fastapi import FastAPI, Request
from starlette.types import Scope

from service.api.deadline import deadline
from service.edge.rendering import known_error
from service.edge.request_id import request_id_of
from service.edge.request_log import RequestLog
from service.errors import SUCCEEDED, ClientGone, EngineFailure, HeadersTooLarge, NotReady, ServiceError
from service.grpc_api.arrival import Arrivals
from service.models.replica import Replica
from service.timings import StageTimings

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[bytes]]  # the call's message
Answer = Callable[[Request, Receive], Awaitable[bytes]]

_LAST_WORDS = 0.5  # seconds that a server that stops still says so, before the library ends connections without a word
# Of messages that are short, if their client means well: probes do not wait for images, nor for who sends nothing.
_SHORT_AT_ONCE, _SHORT_PATIENCE_SECONDS = 4, 0.05
# Bytes of a call's metadata, each entry as RFC 9113 counts it (section 10.5.1). The library's limit is the same, but it
# holds of clients alone that have acknowledged it: of others the compression lets a few kilobytes be many megabytes.
_MOST_METADATA, _EACH = 16 * 2**10, 32
_ON_THE_WAY = 0.005  # seconds of a call's time that are left for what we say to arrive


class Arrived(NamedTuple):
    """A message that is here: what `Visit` knows as an upload."""

    received: int
    announced: int


class Calls:
    """A call is a request of HTTP, POST with a path and headers, and so its scope is one of ASGI.

    Beyond the standard's a scope has "mixer.fits", whether its metadata is not too long, "mixer.seconds", what is left
    of the call's time or None, "mixer.upload", once the message is here, and "mixer.deadline", the loop time until
    which its client waits.
    """

    def __init__(self, api: FastAPI, request_log: RequestLog) -> None:
        self._api = api
        self._request_log = request_log
        self._replica: Replica = api.state.replica
        settings = self._replica.settings
        longest, most_waiting = settings.max_body_bytes, settings.max_inflight_images
        self._arrivals = Arrivals(settings.max_inflight_bytes, longest, 2 * most_waiting)
        self._short_arrivals = Arrivals(_SHORT_AT_ONCE * longest, longest, most_waiting, _SHORT_PATIENCE_SECONDS)
        self._inside: dict[int, Scope] = {}
        self._closed = False

    async def close(self, late_seconds: float) -> None:
        """Refuse whoever comes, and wait until everybody inside is answered, or so long after the last deadline."""
        self._closed = True
        loop = asyncio.get_running_loop()
        end = loop.time() + _LAST_WORDS
        while loop.time() < end or self._inside:
            latest = max((scope["mixer.deadline"] for scope in self._inside.values()), default=end)
            if loop.time() > latest + late_seconds:
                return
            await asyncio.sleep(0.02)

    def handler(self, path: str, answer: Answer, *, short: bool) -> Any:
        """That of a method with one message, which may be `short`, and one answer.

        The library would read the message before it asks; of one that might be a stream it leaves that to the handler.
        """

        async def serve(_: object, context: Any) -> bytes:
            return await self._serve(path, answer, context, self._short_arrivals if short else self._arrivals)

        return grpc.stream_unary_rpc_method_handler(serve)

    async def _serve(self, path: str, answer: Answer, context: Any, arrivals: Arrivals) -> bytes:
        scope = self._scope(path, context)
        state, timings = scope["state"], scope["state"]["timings"]
        self._inside[id(scope)] = scope
        error: ServiceError | None = None
        try:
            if not scope["mixer.fits"]:
                raise HeadersTooLarge(f"the metadata exceeds {_MOST_METADATA} bytes")
            if self._closed:
                raise NotReady("the service is shutting down", reason="draining")
            answered = await answer(Request(scope), partial(_receive, scope, context, arrivals))
            context.set_trailing_metadata(_trailers(state))
            return answered
        except asyncio.CancelledError:
            error = ClientGone("the client left before its answer")
            raise
        except Exception as failure:
            error = known_error(failure)
            if error is None:
                log.exception("request %s failed", state["request_id"])
                error = EngineFailure("an internal error")
        finally:
            del self._inside[id(scope)]
            status = error.status if error else SUCCEEDED
            self._replica.metrics.count_request(path, status, timings.total, timings.stages.get("receive"))
            told = {name: state.get(name) for name in ("request_id", "model", "images")}
            self._request_log.tell(f"gRPC {path}", status, timings.total, error, **told)
        message = error.message
        if isinstance(error, EngineFailure):  # a fault of ours, which the log has under this id
            message += f"; the request id is {state['request_id']}"
        await context.abort(grpc.StatusCode[error.grpc_status], message, _trailers(state, error))
        raise AssertionError  # abort does

    def _scope(self, path: str, context: Any) -> Scope:
        metadata = context.invocation_metadata() or ()
        fits = sum(len(name) + len(value) + _EACH for name, value in metadata) <= _MOST_METADATA
        if not fits:
            metadata = ()  # or every call that is refused would hold it until its client has heard so
        left = context.time_remaining()
        seconds = None if left is None else max(left - _ON_THE_WAY, _ON_THE_WAY / 100)
        usual = self._replica.settings.deadline_ms / 1000
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in metadata if isinstance(value, str)],
            "app": self._api,
            "mixer.fits": fits,
            "mixer.seconds": seconds,
            "mixer.deadline": asyncio.get_running_loop().time() + (usual if seconds is None else min(seconds, usual)),
        }
        scope["state"] = {"timings": StageTimings(), "request_id": request_id_of(scope)}
        return scope


async def _receive(scope: Scope, context: Any, arrivals: Arrivals) -> bytes:
    async with deadline(scope["mixer.deadline"]):
        message = await arrivals.receive(context)
    timings: StageTimings = scope["state"]["timings"]
    timings.stages["receive"] = timings.total
    scope["mixer.upload"] = Arrived(len(message), len(message))
    return message


def _trailers(state: dict[str, Any], error: ServiceError | None = None) -> tuple[tuple[str, str], ...]:
    """What ends the call, as an HTTP answer's headers and its error's fields do."""
    told = {"x-request-id": state["request_id"], "server-timing": state["timings"].server_timing()}
    if error:
        told |= {f"error-{name}": value for name, value in error.body().items() if name != "message"}
        if error.retry_after:
            told |= {"retry-after": str(error.retry_after), "grpc-retry-pushback-ms": str(error.retry_after * 1000)}
    return tuple(told.items())
