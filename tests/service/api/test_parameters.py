from collections.abc import Mapping

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.types import Scope

from service.api.parameters import ClassifyParameters, InferParameters
from service.errors import MalformedRequest


def request(headers: Mapping[str, str] = {}, query: str = "") -> Scope:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "query_string": query.encode(), "headers": pairs}


@pytest.mark.parametrize("parameters", [ClassifyParameters, InferParameters])
def test_deadline_and_priority_are_every_doors(parameters: type[ClassifyParameters | InferParameters]) -> None:
    nothing = parameters.of(request())
    assert (nothing.deadline_seconds, nothing.priority) == (None, "interactive")
    asked = parameters.of(request({"x-deadline-ms": "1500", "x-priority": "bulk"}))
    assert (asked.deadline_seconds, asked.priority) == (1.5, "bulk")


def test_the_query_is_read_where_there_is_one() -> None:
    asked = ClassifyParameters.of(request(query="top_k=3&model=m%C3%BC&version=2"))
    assert asked == ClassifyParameters(top_k=3, model="mü", version="2")
    assert ClassifyParameters.of(request(query="&")) == ClassifyParameters()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("topk=3", "unknown query parameter 'topk'; did you mean top_k?"),
        ("TopK=3", "did you mean top_k?"),
        ("top-k=3", "did you mean top_k?"),
        ("top_k=3&modell=m", "unknown query parameter 'modell'; did you mean model?"),
        ("model_version=1", "did you mean version?"),
        ("deadline_ms=3", "did you mean the header X-Deadline-Ms?"),
        ("x-priority=bulk", "did you mean the header X-Priority?"),
        ("%74opk=3", "'topk'"),
        ("colour", "unknown query parameter 'colour'; there are top_k, model, version"),
        ("=3", "unknown query parameter ''"),
        ("a" * 1000, f"'{'a' * 64}'"),
        ("top_k=3&top_k=4", "top_k is given twice"),
        ("&".join(["a=1"] * 40), "more than 32 parameters"),
        ("model=" + "a" * 17_000, "longer than 16384 bytes"),
    ],
)
def test_a_query_that_asks_for_something_else_is_refused_by_name(query: str, says: str) -> None:
    with pytest.raises(MalformedRequest) as refused:
        ClassifyParameters.of(request(query=query))
    assert says in refused.value.message
    assert refused.value.reason == "parameter"
    assert len(refused.value.message) < 200


def test_a_header_that_is_given_twice_is_refused_by_name() -> None:
    for name in (b"x-deadline-ms", b"x-priority"):
        twice = {"type": "http", "query_string": b"", "headers": [(name, b"5"), (b"accept", b"*/*"), (name, b"5")]}
        with pytest.raises(MalformedRequest, match=f"the header {name.decode().title()} is given twice"):
            ClassifyParameters.of(twice)
    others = {"type": "http", "query_string": b"", "headers": [(b"accept", b"*/*"), (b"accept", b"text/html")]}
    assert ClassifyParameters.of(others) == ClassifyParameters()


@pytest.mark.parametrize(
    ("query", "says"),
    [("version=2", "this route has none"), ("priority=bulk", "X-Priority"), ("timeout=5", "this route has none")],
)
def test_the_protocols_infer_has_no_query(query: str, says: str) -> None:
    with pytest.raises(MalformedRequest, match=says):
        InferParameters.of(request(query=query))


def test_without_a_query_nothing_looks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("service.api.parameters.parse_qsl")
    assert ClassifyParameters.of(request()) == ClassifyParameters()


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
