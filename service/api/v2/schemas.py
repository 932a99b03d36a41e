"""The protocol's JSON bodies: requests as far as they can be checked without their model, and responses.

Open Inference Protocol, specification/protocol/inference_rest.md; Triton, docs/protocol/extension_*.md.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, StrictInt, WithJsonSchema
from pydantic_core import PydanticCustomError

Scalar = bool | int | float | str


def _scalar(value: Any) -> Scalar:
    # As a union it would be refused once for each of the types, none of which the client has heard of.
    if not isinstance(value, Scalar):
        raise PydanticCustomError("scalar", "must be true, false, a number, a string or null")
    return value


def _without_nulls(value: Any) -> Any:
    """A parameter of null is left out, as clients write one that they have no value for."""
    if isinstance(value, dict):
        return {name: each for name, each in value.items() if each is not None}
    return {} if value is None else value


Parameters = Annotated[
    dict[str, Annotated[Scalar, PlainValidator(_scalar, json_schema_input_type=Scalar)]],
    BeforeValidator(_without_nulls, json_schema_input_type=dict[str, Scalar | None] | None),
]
Dimension = Annotated[StrictInt, Field(ge=0)]
_RANK = 8  # more dimensions than any tensor has that a model here takes


class _Body(BaseModel):
    # Absent fields are left out, as the protocol has them.
    model_config = ConfigDict(frozen=True)


class InputTensor(_Body):
    """One input; `data` is its elements, flat or nested, unless they follow the JSON as `binary_data_size` bytes."""

    name: str
    shape: list[Dimension] = Field(max_length=_RANK)
    datatype: str
    parameters: Parameters = Field(default_factory=dict)  # and no default in the schema: null may be sent, {} need not
    # Millions of elements at times, which whoever reads the tensor checks.
    data: Annotated[Any, WithJsonSchema({"anyOf": [{"items": {}, "type": "array"}, {"type": "null"}]})] = Field(
        default=None, description="absent if and only if the data is binary"
    )


class RequestedOutput(_Body):
    """One output that is asked for, and how: `binary_data`, `classification`."""

    name: str
    parameters: Parameters = Field(default_factory=dict)  # and no default in the schema: null may be sent, {} need not


class InferRequest(_Body):
    """A request for inference, or the JSON part of one."""

    id: str | None = None
    parameters: Parameters = Field(
        default_factory=dict, description="`timeout` in microseconds, `priority`, `binary_data_output`"
    )
    inputs: list[InputTensor] = Field(min_length=1)
    outputs: list[RequestedOutput] | None = Field(
        default=None, description="logits and probabilities if left out, or features where there is no head"
    )


class OutputTensor(_Body):
    """One output; binary data follows the JSON as `binary_data_size` bytes."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, int] | None = None
    data: list[float] | list[str] | None = None


class InferResponse(_Body):
    """The answer to a request for inference, or the JSON part of one."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class ServerMetadata(_Body):
    """The server, and the extensions of the protocol that it has."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(_Body):
    """The server lives."""

    live: bool


class ServerReady(_Body):
    """The server is ready."""

    ready: bool


class ModelReady(_Body):
    """A model is ready."""

    name: str
    ready: bool


class TensorMetadata(_Body):
    """A tensor that a model takes or gives; -1 is the number of images."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Body):
    """A model's tensors. A request has exactly one of the inputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfig(_Body):
    """A tensor in Triton's words; `dims` are of one image."""

    name: str
    data_type: str
    dims: list[int]
    optional: bool | None = None
    label_filename: str | None = None


class QueuePolicy(_Body):
    """What becomes of a request that waits."""

    timeout_action: str
    default_timeout_microseconds: int
    allow_timeout_override: bool
    max_queue_size: int


class DynamicBatching(_Body):
    """How batches form."""

    preferred_batch_size: list[int]
    max_queue_delay_microseconds: int
    priority_levels: int
    default_priority_level: int
    default_queue_policy: QueuePolicy


class ModelConfig(_Body):
    """Triton's ModelConfig, then how the model runs on this machine, as chosen and measured when it was loaded."""

    name: str
    platform: str
    backend: str
    version_policy: dict[str, dict[str, list[int]]]
    max_batch_size: int = Field(description="most images in one request")
    input: list[TensorConfig]
    output: list[TensorConfig]
    dynamic_batching: DynamicBatching
    version: str
    precision: str
    gmacs: float = Field(description="multiply-adds of one image, in thousands of millions")
    engine: str
    engines_considered: dict[str, str] = Field(description="by name: its rate, or why it cannot serve")
    lanes: int
    lane_threads: int
    engine_max_batch_size: int = Field(description="most images in one pass")
    pass_seconds: dict[int, float] = Field(description="wall time of a pass by batch size")
    images_per_second: float


class Duration(_Body):
    """How many, and the nanoseconds of all together."""

    count: int
    ns: int


class InferStatistics(_Body):
    """Requests by how they ended, and where the time of those that succeeded went."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class BatchStatistics(_Body):
    """Passes of one batch size."""

    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatistics(_Body):
    """What a model did since it was loaded."""

    name: str
    version: str
    last_inference: int = Field(description="milliseconds since the epoch, 0 if never")
    inference_count: int = Field(description="images")
    execution_count: int = Field(description="passes")
    inference_stats: InferStatistics
    batch_stats: list[BatchStatistics]


class AllStatistics(_Body):
    """The statistics of the models asked for."""

    model_stats: list[ModelStatistics]
