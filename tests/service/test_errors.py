from collections.abc import Iterator

import service.errors
from service.errors import ServiceError
from service.metrics import OUTCOMES

STATUS_OF = {
    "MalformedRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotLoaded": 409,
    "UnknownModel": 404,
    "UnknownRoute": 404,
    "NotAcceptable": 406,
    "RequestTimeout": 408,
    "PayloadTooLarge": 413,
    "ImageTooLarge": 413,
    "UnsupportedImage": 415,
    "UnsupportedEncoding": 415,
    "InvalidImage": 422,
    "Overloaded": 429,
    "RateLimited": 429,
    "HeadersTooLarge": 431,
    "ClientGone": 499,
    "EngineFailure": 500,
    "NotReady": 503,
    "DeadlineExceeded": 504,
}


def subclasses(base: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for child in base.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_error_has_its_row() -> None:
    assert {error.__name__: error.status for error in subclasses(ServiceError)} == STATUS_OF


def test_every_error_is_drawn_in_the_docstring() -> None:
    drawn = service.errors.__doc__ or ""
    for error in subclasses(ServiceError):
        assert f"{error.__name__} " in drawn
        assert str(error.status) in drawn


def test_codes_tell_errors_apart_and_outcomes_are_counted_ones() -> None:
    codes = [error.code for error in subclasses(ServiceError)]
    assert len(set(codes)) == len(codes)
    assert {error.outcome for error in subclasses(ServiceError)} - {None} <= set(OUTCOMES)


def test_body_holds_the_reason_only_if_there_is_one() -> None:
    assert service.errors.NotReady("later").body() == {"code": "not_ready", "message": "later"}
    assert service.errors.NotReady("later", reason="draining").body()["reason"] == "draining"
