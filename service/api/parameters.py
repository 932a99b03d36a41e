"""What a request may ask for in its query and headers."""

from typing import Any, ClassVar, Self

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.scheduling.ticket import Priority

_SAID = {"title", "description"}  # beside a parameter's schema


class _Parameters(BaseModel):
    """One model instead of a parameter each of the route: resolving those takes as long as all the rest of a route."""

    model_config = ConfigDict(frozen=True)
    query: ClassVar[tuple[str, ...]] = ()
    headers: ClassVar[tuple[str, ...]] = ("x-deadline-ms", "x-priority")

    deadline_ms: float | None = Field(
        default=None, alias="x-deadline-ms", gt=0, le=600_000, allow_inf_nan=False, description="time to answer, ms"
    )
    priority: Priority = Field(default="interactive", alias="x-priority", description="bulk yields to interactive work")

    @property
    def deadline_seconds(self) -> float | None:
        """`deadline_ms` in seconds."""
        return self.deadline_ms / 1000 if self.deadline_ms else None

    @classmethod
    def of(cls, request: Request) -> Self:
        """Those of a request; raises RequestValidationError."""
        given = {name: value for name in cls.headers if (value := request.headers.get(name)) is not None}
        if cls.query and request.scope["query_string"]:
            given |= {name: value for name, value in request.query_params.items() if name in cls.query}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from None

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


class ClassifyParameters(_Parameters):
    """Those of /v1/classify."""

    query = ("top_k", "model", "version")

    top_k: int = Field(default=5, ge=1, le=1000, description="how many predictions to answer with")
    model: str | None = Field(default=None, description="model name; the default model if left out")
    version: str | None = Field(default=None, description="model version; the latest loaded one if left out")


class InferParameters(_Parameters):
    """Those of the Open Inference Protocol's infer, whose body may have its own and whose path names the model."""

    headers = ("inference-header-content-length", *_Parameters.headers)

    json_length: str | None = Field(
        default=None,
        alias="inference-header-content-length",
        pattern="^[0-9]{1,18}$",
        description="bytes of JSON before the tensors; 0: the body is an image",
    )
