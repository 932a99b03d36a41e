"""The result file's schema: what `load` and `compare` write and `plan` reads."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

Loop = Literal["closed", "open"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Latency(_Part):
    """Milliseconds, of good answers; None where too few say nothing of a quantile."""

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p99_9: float | None
    max: float | None


class GeneratorSide(_Part):
    """Whether the generator kept up."""

    lag_p50_ms: float | None  # how late queries were sent, in a closed loop how late timers went off
    lag_p99_ms: float | None
    lag_max_ms: float | None
    sent_again: int = 0  # queries whose idle connection the server closed just then
    cpu_share: float  # of one core
    sent_share: float  # of the queries that should have been sent in the window


class MemorySample(_Part):
    """What the server held at one moment of a long run."""

    second: float  # since the run's load began
    bytes: float | None  # proportional set size of all its processes
    connections: float | None  # of its clients


class ServerSpent(_Part):
    """What the server spent in the window, all its processes together; None where nothing says it."""

    cpu_seconds: float | None = None
    images_per_cpu_second: float | None = None
    peak_memory_bytes: float | None = None  # proportional set size: what processes share counts once
    memory_growth: float | None = None  # a share: the last tenth of the time over the second tenth, less 1
    memory: list[MemorySample] = []  # of a soak
    unsettled_images: float | None = None  # admitted without an outcome at the end
    mean_batch: float | None = None
    cores_allowed: float | None = None
    images_per_second_per_core_allowed: float | None = None
    images_per_engine_core_second: float | None = None
    front_seconds: float | None = None  # of the front's CPU for an image; the front has one core
    decode_seconds: float | None = None  # of one image, on one thread
    infer_seconds: float | None = None  # of an image's pass
    lane_restarts: float | None = None
    percent_of_engine_alone: float | None = None
    percent_of_gemm_peak: float | None = None


class Run(_Part):
    """One load on one target for one window of time."""

    scenario: str
    target: str
    repeat: int  # from 0
    loop: Loop
    clients: int | None = None  # of a closed loop
    images_per_query: int
    seconds: float  # the window, after the warm-up
    offered_images_per_second: float | None = None  # of an open loop
    images_per_second: float  # of good answers
    good_images_per_second: float  # of those within the objective
    objective_ms: float
    queries: int  # that fell into the window
    missed: int  # of these, how many took longer than the objective or went wrong
    latency: Latency
    refused_p99_ms: float | None
    codes: dict[str, int]  # queries by status, or by the name of what went wrong
    generator: GeneratorSide
    server: ServerSpent
    recovery_seconds: float | None = None  # after an overload, until latency is as before
    invalid: list[str] = []  # why the run says nothing of the server


class ServedModel(_Part):
    """What the server says of itself."""

    model: dict[str, str]  # mixer_model_info's labels: model, version, variant, precision, engine, sha256 of model.onnx
    build: dict[str, str]  # labels of mixer_build_info
    pass_seconds: dict[int, float]  # at the start: seconds of a pass by images in it, while every lane makes one
    gmacs: float | None  # multiply-adds of one image, in thousands of millions
    cores: float
    lanes: int
    lane_threads: int  # of a pass in a lane


class Answers(_Part):
    """What a target answered about the first images before the load, beside the first target."""

    images: int
    same_top1: int | None = None  # None where an answer has an unknown form
    largest_difference: float | None = None  # of the probability of the first target's best class


class LoadResult(_Part):
    """One command's runs."""

    schema_version: Literal[4] = 4  # what came before is of a service without lanes
    command: str
    date: str
    environment: dict[str, object]
    served: dict[str, ServedModel]  # by target, of those that have Mixer's metrics
    gemm_peak_gflops: dict[str, float] = {}  # measured before the load, by precision
    runs: list[Run]
    answers: dict[str, Answers] = {}  # by target, of those after the first
    findings: dict[str, dict[str, float | None]] = {}  # by target: what the scenarios found


class ResultError(ValueError):
    """A file that is no result of this schema."""


def read_result(path: Path) -> LoadResult:
    """Read a result file. Raises ResultError, with the cause."""
    try:
        return LoadResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ResultError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
