"""What a request may ask for in its query and headers."""

import re
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Scope

from service.errors import MalformedRequest
from service.scheduling.ticket import Priority
from service.settings import LONGEST_DEADLINE_MS

_LONGEST_QUERY = 16 * 2**10  # bytes
_MOST_IN_A_QUERY = 32  # parameters
_SAID = {"title", "description"}  # beside a parameter's schema


class _Parameters(BaseModel):
    """One model instead of a parameter each of the route: resolving those takes as long as all the rest of a route."""

    model_config = ConfigDict(frozen=True)
    query: ClassVar[tuple[str, ...]] = ()
    headers: ClassVar[tuple[str, ...]] = ("x-deadline-ms", "x-priority")
    wanted: ClassVar[frozenset[bytes]]  # the same, as they come

    deadline_ms: float | None = Field(
        default=None,
        alias="x-deadline-ms",
        gt=0,
        le=LONGEST_DEADLINE_MS,
        allow_inf_nan=False,
        description="time to answer, ms",
    )
    priority: Priority = Field(default="interactive", alias="x-priority", description="bulk yields to interactive work")

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.wanted = frozenset(name.encode() for name in cls.headers)

    @property
    def deadline_seconds(self) -> float | None:
        """`deadline_ms` in seconds."""
        return self.deadline_ms / 1000 if self.deadline_ms else None

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """Those of a request; raises RequestValidationError, or MalformedRequest for a query that has others."""
        query = scope["query_string"]
        given: dict[str, str] = {}
        for header, value in scope["headers"]:
            if header in cls.wanted:
                name = header.decode()
                if name in given:
                    raise _malformed(f"the header {name.title()} is given twice")
                given[name] = value.decode("latin-1")
        if not given and not query:
            return cls.unasked()
        if query:
            given |= cls._read(query)
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from None

    @classmethod
    @cache
    def unasked(cls) -> Self:
        """Those of a request that asks for nothing."""
        return cls.model_validate({})

    @classmethod
    def _read(cls, query: bytes) -> dict[str, str]:
        if len(query) > _LONGEST_QUERY:
            raise _malformed(f"the query is longer than {_LONGEST_QUERY} bytes")
        try:
            pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_IN_A_QUERY)
        except ValueError:
            raise _malformed(f"the query has more than {_MOST_IN_A_QUERY} parameters") from None
        given: dict[str, str] = {}
        for name, value in pairs:
            if name not in cls.query:
                raise _malformed(cls._unknown(name[:64]))
            if name in given:
                raise _malformed(f"the query parameter {name} is given twice")
            given[name] = value
        return given

    @classmethod
    def _unknown(cls, name: str) -> str:
        unknown = f"unknown query parameter {name!r}"
        if similar := get_close_matches(name.lower().replace("-", "_"), cls.query, n=1):
            return f"{unknown}; did you mean {similar[0]}?"
        if similar := get_close_matches(name.lower().replace("_", "-"), cls.headers, n=1):
            return f"{unknown}; did you mean the header {similar[0].title()}?"
        return f"{unknown}; " + (f"there are {', '.join(cls.query)}" if cls.query else "this route has none")

    @classmethod
    def described(cls) -> list[dict[str, Any]]:
        """As the parameters of an OpenAPI operation."""
        return [
            {
                "name": name,
                "in": "header" if name in cls.headers else "query",
                "description": said["description"],
                # What may be left out may not be null.
                "schema": said.get("anyOf", [{key: said[key] for key in said if key not in _SAID}])[0],
            }
            for name, said in cls.model_json_schema()["properties"].items()
        ]


class FeaturesParameters(_Parameters):
    """Those of /v1/features."""

    query: ClassVar[tuple[str, ...]] = ("model", "version")

    model: str | None = Field(default=None, description="model name; the default model if left out")
    version: str | None = Field(default=None, description="model version; the latest loaded one if left out")


class ClassifyParameters(FeaturesParameters):
    """Those of /v1/classify."""

    query = ("top_k", "model", "version")

    top_k: int = Field(default=5, ge=1, le=1000, description="how many predictions to answer with")

    @classmethod
    def refuse_in_body(cls, *names: str) -> None:
        """Raise MalformedRequest if a field of the body has a parameter's name: it would be silently left out.

        However it is spelt: `topK` and `top-k` as well.
        """
        spelt = {name.replace("_", ""): name for name in cls.query}
        if misplaced := {spelt.get(re.sub("[-_]", "", name[:64]).lower()) for name in names} - {None}:
            raise _malformed(
                f"{', '.join(sorted(map(str, misplaced)))} in the body: it goes into the query, as ?top_k=3 does"
            )


class NoParameters(_Parameters):
    """Those of a route that has none: any query is refused."""

    headers = ()


class InferParameters(_Parameters):
    """Those of the Open Inference Protocol's infer, whose body may have its own and whose path names the model."""

    headers = ("inference-header-content-length", *_Parameters.headers)

    json_length: str | None = Field(
        default=None,
        alias="inference-header-content-length",
        pattern="^[0-9]{1,18}$",
        description="bytes of JSON before the tensors; 0: the body is an image",
    )


def _malformed(message: str) -> MalformedRequest:
    return MalformedRequest(message, reason="parameter")
