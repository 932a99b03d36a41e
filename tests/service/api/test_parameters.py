from collections.abc import Mapping

import pytest
from fastapi import Request
from fastapi.exceptions import RequestValidationError

from service.api.parameters import ClassifyParameters, InferParameters


def request(headers: Mapping[str, str] = {}, query: str = "") -> Request:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "query_string": query.encode(), "headers": pairs})


@pytest.mark.parametrize("parameters", [ClassifyParameters, InferParameters])
def test_deadline_and_priority_are_every_doors(parameters: type[ClassifyParameters | InferParameters]) -> None:
    nothing = parameters.of(request())
    assert (nothing.deadline_seconds, nothing.priority) == (None, "interactive")
    asked = parameters.of(request({"x-deadline-ms": "1500", "x-priority": "bulk"}))
    assert (asked.deadline_seconds, asked.priority) == (1.5, "bulk")


def test_the_query_is_read_where_there_is_one() -> None:
    asked = ClassifyParameters.of(request(query="top_k=3&model=m&version=2&priority=bulk&other=1"))
    assert asked == ClassifyParameters(top_k=3, model="m", version="2")
    assert InferParameters.of(request(query="json_length=3&deadline_ms=1")) == InferParameters()


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"x-deadline-ms": "0"}, ""),
        ({"x-deadline-ms": "nan"}, ""),
        ({"x-deadline-ms": "600001"}, ""),
        ({"x-priority": "urgent"}, ""),
        ({}, "top_k=0"),
        ({}, "top_k=1001"),
        ({}, "top_k=two"),
    ],
)
def test_what_is_out_of_bounds_is_named_once(headers: dict[str, str], query: str) -> None:
    with pytest.raises(RequestValidationError) as refused:
        ClassifyParameters.of(request(headers, query))
    (error,) = refused.value.errors()
    assert error["loc"] == (next(iter(headers), "top_k"),)


def test_what_may_be_left_out_is_described_by_what_it_is_if_it_is_there() -> None:
    described = {each["name"]: each for each in InferParameters.described()}
    assert {each["in"] for each in described.values()} == {"header"}
    assert described["x-deadline-ms"]["schema"] == {"type": "number", "exclusiveMinimum": 0, "maximum": 600_000}
    assert described["inference-header-content-length"]["schema"] == {"type": "string", "pattern": "^[0-9]{1,18}$"}
    priority = {"type": "string", "enum": ["interactive", "bulk"], "default": "interactive"}
    assert described["x-priority"]["schema"] == priority
