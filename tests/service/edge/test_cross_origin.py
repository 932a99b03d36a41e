from pathlib import Path

import pytest

from tests.doubles import EchoEngine, level_png, replica_around
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio

ORIGIN = "https://example.org"
ASKED = {"origin": ORIGIN, "access-control-request-method": "POST"}
PRIVATE = {"access-control-request-private-network": "true"}


@pytest.mark.parametrize(
    "headers",
    [
        "traceparent, tracestate, baggage",  # OpenTelemetry
        "sentry-trace,baggage",
        "b3,x-b3-flags,x-b3-parentspanid,x-b3-sampled,x-b3-spanid,x-b3-traceid",  # Zipkin
        "x-datadog-origin,x-datadog-parent-id,x-datadog-sampling-priority,x-datadog-trace-id",
        "newrelic,traceparent,tracestate",
        "elastic-apm-traceparent",
        "request-context,request-id",  # Application Insights
        "x-requested-with",
        "cache-control,expires,pragma",
        "X-Api-Key, X-Deadline-Ms, Content-Type, Traceparent",
    ],
)
async def test_pages_may_send_what_their_libraries_add(tmp_path: Path, headers: str) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", cors_origins=ORIGIN)) as client:
        preflight = ASKED | {"access-control-request-headers": headers}
        response = await client.options("/v1/classify", headers=preflight)
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, ORIGIN)
        allowed = response.headers["access-control-allow-headers"].lower().split(", ")
        assert {header.strip().lower() for header in headers.split(",")} <= set(allowed)
        refused = await client.options("/v1/classify", headers=ASKED | {"access-control-request-headers": "x-surprise"})
        assert refused.status_code == 400


@pytest.mark.parametrize(("origins", "allowed"), [("*", "*"), (ORIGIN, ORIGIN)])
async def test_pages_of_a_wider_network_may_use_a_service_of_a_narrower_one(
    tmp_path: Path, origins: str, allowed: str
) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", cors_origins=origins)) as client:
        response = await client.options("/v1/classify", headers=ASKED | PRIVATE)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == allowed
        assert response.headers["access-control-allow-private-network"] == "true"
        unasked = await client.options("/v1/classify", headers=ASKED)
        assert "access-control-allow-private-network" not in unasked.headers
        posted = await client.post("/v1/classify", content=level_png(7), headers={"origin": ORIGIN})
        assert posted.headers["access-control-allow-origin"] == allowed


async def test_origins_that_are_not_named_may_not_either(tmp_path: Path) -> None:
    async with client_of(replica_around(EchoEngine(), tmp_path / "models", cors_origins=ORIGIN)) as client:
        stranger = ASKED | PRIVATE | {"origin": "https://stranger.org"}
        response = await client.options("/v1/classify", headers=stranger)
        assert response.status_code == 400
        assert "access-control-allow-origin" not in response.headers
