"""Errors that are answered outside of the framework."""

import json

import pytest

from service.edge.rendering import render_error
from service.errors import MalformedRequest, Overloaded, ServiceError, Unauthorized

ERROR = MalformedRequest("this is not HTTP/1.1", reason="http")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/classify", {"error": {"code": "malformed_request", "message": "this is not HTTP/1.1", "reason": "http"}}),
        ("", {"error": {"code": "malformed_request", "message": "this is not HTTP/1.1", "reason": "http"}}),
        ("/v2", {"error": "this is not HTTP/1.1"}),
        ("/v2/models/m/infer", {"error": "this is not HTTP/1.1"}),
        ("/v22", {"error": {"code": "malformed_request", "message": "this is not HTTP/1.1", "reason": "http"}}),
    ],
)
def test_the_body_is_that_of_the_door(path: str, body: object) -> None:
    status, headers, rendered = render_error(path, ERROR, "an-id")
    assert status == 400
    assert json.loads(rendered) == body
    assert dict(headers)[b"content-length"] == str(len(rendered)).encode()


def test_every_header_of_an_answer_is_there_once() -> None:
    _, headers, _ = render_error("/", ERROR, "an-id", seconds=0.0125)
    assert len(dict(headers)) == len(headers)
    assert {name: value for name, value in headers if name != b"content-length"} == {
        b"content-type": b"application/json",
        b"cache-control": b"no-store",
        b"x-content-type-options": b"nosniff",
        b"x-request-id": b"an-id",
        b"server-timing": b"total;dur=12.50",
    }


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (Overloaded("full", reason="inflight_bytes", retry_after=2), (b"retry-after", b"2")),
        (Unauthorized("no key"), (b"www-authenticate", b"Bearer")),
    ],
)
def test_an_errors_own_headers_are_there(error: ServiceError, header: tuple[bytes, bytes]) -> None:
    assert header in render_error("/", error, "an-id")[1]
