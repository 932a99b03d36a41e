"""What a request to classify may ask for in its query and headers."""

from typing import Annotated, Any, ClassVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from service.ticket import Priority

_HEADERS = ("x-deadline-ms", "x-priority")


class ClassifyParameters(BaseModel):
    """One model instead of a parameter each of the route: resolving those takes as long as all the rest of a route."""

    model_config = ConfigDict(frozen=True)
    query: ClassVar = ("top_k", "model", "version")

    top_k: int = Field(default=5, ge=1, le=1000, description="how many predictions to answer with")
    model: str | SkipJsonSchema[None] = Field(default=None, description="model name; the default model if left out")
    version: str | SkipJsonSchema[None] = Field(
        default=None, description="model version; the latest loaded one if left out"
    )
    deadline_ms: Annotated[float, Field(gt=0, le=600_000, allow_inf_nan=False)] | SkipJsonSchema[None] = Field(
        default=None, alias="x-deadline-ms", description="time to answer, ms"
    )
    priority: Priority = Field(default="interactive", alias="x-priority", description="bulk yields to interactive work")

    @classmethod
    def of(cls, request: Request) -> "ClassifyParameters":
        """Those of a request; raises RequestValidationError."""
        given = {name: value for name in _HEADERS if (value := request.headers.get(name)) is not None}
        if request.scope["query_string"]:
            given |= {name: value for name, value in request.query_params.items() if name in cls.query}
        if not given:
            return _DEFAULT
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
                "in": "header" if name in _HEADERS else "query",
                "description": said.pop("description"),
                "schema": {key: value for key, value in said.items() if key != "title" and value is not None},
            }
            for name, said in cls.model_json_schema()["properties"].items()
        ]


_DEFAULT = ClassifyParameters()
