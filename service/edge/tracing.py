"""OpenTelemetry spans of every request and its stages; imported only where MIXER_TRACING asks for it.

Exporter, sampler and resource are set with OpenTelemetry's own OTEL_* variables.
"""

import logging
import threading
import time
from http import HTTPStatus

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, format_span_id, format_trace_id
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import __version__
from service.timings import StageTimings

_PROBES = ("/healthz/", "/v2/health/")
_LAST_SPANS = 2.0  # seconds that a shutdown gives the exporter
_NANO = 1_000_000_000


def tracer_provider() -> TracerProvider:
    """What makes and sends spans, as the OTEL_* variables say; raises ValueError for those that cannot be."""
    given = OTELResourceDetector().detect()  # wins over ours
    resource = Resource.create({"service.name": "mixer", "service.version": __version__}).merge(given)
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    try:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        raise ValueError(f"MIXER_TRACING: an OTEL_* variable cannot be: {error}") from None
    return provider


class Tracing:
    """ASGI middleware around Edge, whose log lines and timings it uses.

    Spans are made after the answer, out of what was measured anyway, and sent by a thread of their own: a collector
    that is slow or down costs spans, never answers.
    """

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        self._app = app
        self._provider = provider
        self._tracer = self._provider.get_tracer("service", __version__)
        for handler in logging.getLogger().handlers:
            handler.addFilter(_with_trace_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan, whose end sends the last spans."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._closing(send))
        elif scope["type"] != "http" or scope["path"].startswith(_PROBES):
            await self._app(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = extract({name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]})
        started, status = time.time_ns(), 0
        scope.setdefault("state", {})  # shared with the copies of the scope that are made further in
        with self._tracer.start_as_current_span(scope["method"], caller, SpanKind.SERVER, start_time=started) as span:

            async def send_with_trace(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    MutableHeaders(scope=message)["traceresponse"] = _traceparent(span)
                await send(message)

            try:
                await self._app(scope, receive, send_with_trace)
            finally:
                if span.is_recording():
                    self._describe(span, scope, started, status)

    def _describe(self, span: Span, scope: Scope, started: int, status: int) -> None:
        """What is known once all is over; names are those of OpenTelemetry's conventions for HTTP."""
        method, route = scope["method"], getattr(scope.get("route"), "path", "unmatched")
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "url.path": scope["path"],
                "mixer.request_id": scope["state"]["request_id"],
            }
        )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(StatusCode.ERROR)
        timings: StageTimings = scope["state"]["timings"]
        for stage, seconds in timings.stages.items():  # durations are exact; when each began is that the last one ended
            ended = started + round(seconds * _NANO)
            self._tracer.start_span(stage, start_time=started).end(ended)
            started = ended

    def _closing(self, send: Send) -> Send:
        async def send_last(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                sending = threading.Thread(target=self._provider.shutdown, daemon=True)  # on a down collector: 30 s
                sending.start()
                sending.join(_LAST_SPANS)
            await send(message)

        return send_last


def _traceparent(span: Span) -> str:
    """As W3C Trace Context, section 3.2, writes it."""
    context = span.get_span_context()
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"


def _with_trace_id(record: logging.LogRecord) -> bool:
    """A logging filter that lets everything through, and gives lines of a request its trace's id."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        record.trace_id = format_trace_id(context.trace_id)
    return True
