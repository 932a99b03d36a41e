"""What the OpenAPI document says beyond what the routes' types do: bodies, errors with examples, headers."""

from typing import Any

from pydantic.json_schema import models_json_schema

from service.api.parameters import ClassifyParameters, FeaturesParameters
from service.api.schemas import ErrorResponse
from service.api.v2.schemas import InferRequest
from service.errors import (
    DeadlineExceeded,
    EngineFailure,
    HeadersTooLarge,
    ImageTooLarge,
    InvalidImage,
    MalformedRequest,
    NotAcceptable,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    ServiceError,
    Unauthorized,
    UnknownModel,
    UnsupportedEncoding,
    UnsupportedImage,
)

Responses = dict[int | str, dict[str, Any]]

HEADERS = {
    "X-Request-Id": {"description": "the request's own, or a new one", "schema": {"type": "string"}},
    "Server-Timing": {"description": "milliseconds by stage (W3C Server Timing)", "schema": {"type": "string"}},
}
_MORE_HEADERS: dict[type[ServiceError], dict[str, Any]] = {
    Overloaded: {"Retry-After": {"description": "seconds", "required": True, "schema": {"type": "integer"}}},
}


def answers(*errors: ServiceError) -> Responses:
    """The responses of a route that can fail with `errors`, whose messages are the examples; 200 has its headers."""
    responses: Responses = {200: {"headers": HEADERS}}
    for error in (*errors, *_OF_EVERY_ROUTE):
        response = responses.setdefault(
            error.status,
            {
                "model": ErrorResponse,
                "description": "",
                "headers": {},
                "content": {"application/json": {"examples": {}}},
            },
        )
        name = f"{error.code}: {error.reason}" if error.reason else error.code
        sentence = (type(error).__doc__ or "").partition("\n")[0]
        if sentence not in response["description"]:
            response["description"] = f"{response['description']} {sentence}".strip()
        response["headers"] |= HEADERS | _MORE_HEADERS.get(type(error), {})
        response["headers"] |= {name.title(): {"schema": {"type": "string"}} for name in error.headers}
        response["content"]["application/json"]["examples"][name] = {"value": {"error": error.body()}}
    return responses


def completed(document: dict[str, Any], *, key_needed: bool) -> dict[str, Any]:
    """The framework's document with what it does not know of: the bodies that it does not read, and how keys are sent.

    Without its 422, for our parameters are refused with 400. The operations that can answer 401 ask for a key. Unless
    it is needed it may be left out; an admin's (403) may not.
    """
    components = document["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["schemas"] |= _BODIES
    components["securitySchemes"] = {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
        "Bearer": {"type": "http", "scheme": "bearer", "description": "the same key"},
    }
    sent: list[dict[str, list[str]]] = [{"ApiKey": []}, {"Bearer": []}]
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            if "401" in operation["responses"]:
                operation["security"] = sent if key_needed or "403" in operation["responses"] else [{}, *sent]
    return document


_OF_EVERY_ROUTE = (
    MalformedRequest("this is not HTTP/1.1", reason="http"),
    RequestTimeout("the headers were not complete after 10 s"),
    HeadersTooLarge("the headers exceed 65536 bytes"),
    EngineFailure("an internal error; the request id is 5f3c"),
)
HEALTH_ANSWERS = answers(NotReady("the service is shutting down", reason="draining"))


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    """A JSON object that has all of `properties`."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BASE64 = {"type": "string", "description": "the file in base64, as it is or as a data: URL"}
_IMAGES = {"type": "array", "minItems": 1, "maxItems": 64}
_BODIES = models_json_schema([(InferRequest, "validation")], ref_template=_reference("{model}")["$ref"])[1]["$defs"] | {
    "ImageForm": _object(image={**_IMAGES, "items": _BINARY["schema"]}),
    "OneImage": _object(image=_BASE64),
    "SeveralImages": _object(images={**_IMAGES, "items": _BASE64}),
}
_REQUEST_BODY = {
    "required": True,
    "description": "One image, or up to 64 in a form or JSON: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC. A body of "
    "any other type, such as image/png, is an image too.",
    # image/* is left out: openapi-python-client knows no ranges.
    "content": {
        "application/octet-stream": _BINARY,
        "multipart/form-data": {"schema": _reference("ImageForm")},
        "application/json": {"schema": {"oneOf": [_reference("OneImage"), _reference("SeveralImages")]}},
    },
}
_CONTENT_ENCODING = {
    "name": "Content-Encoding",
    "in": "header",
    "description": "how the body is compressed",
    "schema": {"type": "string", "enum": ["gzip", "deflate", "identity"]},
}
_REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "comes back with the answer and is logged; up to 64 letters, digits and ._- (others are replaced)",
    "schema": {"type": "string"},
}


def _request(parameters: type[FeaturesParameters]) -> dict[str, Any]:
    return {"requestBody": _REQUEST_BODY, "parameters": [*parameters.described(), _CONTENT_ENCODING, _REQUEST_ID]}


CLASSIFY_REQUEST, FEATURES_REQUEST = _request(ClassifyParameters), _request(FeaturesParameters)
_ONE = {
    "model": {"name": "digits", "version": "1"},
    "predictions": [{"index": 7, "label": "7", "probability": 0.94148}],
    "image": {
        "width": 128,
        "height": 128,
        "format": "PNG",
        "orientation_applied": False,
        "stored_as": "gray",
        "alpha_flattened": False,
        "icc_ignored": False,
    },
    "timing_ms": {"receive": 0.1, "decode": 0.5, "queue": 0.2, "infer": 1.4, "post": 0.1, "total": 3.4},
}
_NO_IMAGE = UnsupportedImage("not an accepted image format; accepted: JPEG, PNG, WEBP, GIF, BMP, TIFF")
_OF_ANY_IMAGE = (
    MalformedRequest("the body is empty; send an image", reason="empty_body"),
    Unauthorized("an accepted API key is needed in X-Api-Key or Authorization: Bearer"),
    UnknownModel("no such model or version is loaded"),
    NotAcceptable("the answer is application/json, which Accept leaves out"),
    PayloadTooLarge("the body exceeds 16777216 bytes", reason="body_bytes"),
    ImageTooLarge("the image has 9000x9000 pixels; at most 50000000 are accepted"),
    _NO_IMAGE,
    UnsupportedEncoding("Content-Encoding can be gzip or deflate, once"),
    InvalidImage("the PNG data is truncated or damaged"),
    Overloaded("a deadline would be missed by 120 ms", reason="deadline", retry_after=1),
    NotReady("no lane serves this model", reason="no_lane"),
    DeadlineExceeded("the deadline passed before the answer was ready"),
)


def _of_images(one: dict[str, Any], *errors: ServiceError) -> Responses:
    """The responses of a route that answers to one image so, and to several likewise."""
    result = {name: value for name, value in one.items() if name not in ("model", "timing_ms")}
    many = {
        "model": one["model"],
        "results": [result, {"error": _NO_IMAGE.body()}],
        "timing_ms": one["timing_ms"],
    }
    responses = answers(*_OF_ANY_IMAGE, *errors)
    examples = {"one image": {"value": one}, "several images": {"value": many}}
    responses[200]["content"] = {"application/json": {"examples": examples}}
    return responses


CLASSIFY_ANSWERS = _of_images(_ONE, MalformedRequest("backbone/1 has no head", reason="no_head"))
FEATURES_ANSWERS = _of_images(
    {"features": [0.318, -1.204]} | {name: value for name, value in _ONE.items() if name != "predictions"},
    MalformedRequest("the bundle of digits/1 is of a time when there were no features", reason="no_features"),
)
