"""Settings: MIXER_* environment variables, and the flags of the same names, in one frozen object."""

import importlib.util
import os
import re
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LONGEST_DEADLINE_MS = 600_000  # that an operator may set, and a client ask for

EngineName = Literal["auto", "onnxruntime", "openvino"]
LogLevel = Literal["debug", "info", "warning", "error"]
LoggedRequests = Literal["all", "errors", "off"]
_CommaSeparated = Annotated[list[str], NoDecode]

# What Kubernetes puts into every pod for a Service called mixer or mixer-*, unless enableServiceLinks is false:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_LINK_NAME = re.compile(r"MIXER_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)")
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


def default_repository() -> Path:
    """./models where it exists, else the repository with the digits that is installed beside the package."""
    here = Path("models")
    return here.absolute() if here.is_dir() else Path(__file__).parent.parent / "models"


def export_repository() -> Path:
    """Where bundles are written: what the service is told to read, else ./models, which it reads if it is there."""
    return Path(os.environ.get("MIXER_MODEL_REPOSITORY") or "models")


def default_cache() -> Path:
    """Where the XDG base directory specification has it."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path's raises without a home
    return Path(home) / "mixer-serving"


class Settings(BaseSettings):
    """Everything an operator can choose. `--port 8001` and MIXER_PORT=8001 mean the same; the flag wins."""

    model_config = SettingsConfigDict(env_prefix="MIXER_", frozen=True)

    model_repository: Path = Field(
        default_factory=default_repository,
        description="folder of <name>/<version>/ bundles; left out: ./models where it exists, else the digits that are "
        "installed with the service",
    )
    models: _CommaSeparated = Field(
        default=[], description='comma-separated "name" or "name/version"; empty: all, latest; the first is the default'
    )
    model: str | None = Field(
        default=None,
        description="serve this alone, in place of a repository's: a bundle's folder, a checkpoint or hf:OWNER/REPO, "
        "which is exported first",
    )
    cache: Path = Field(default_factory=default_cache, description="folder of the bundles that --model exported")
    host: str = Field(default="0.0.0.0", description="address to listen on")  # nosec B104
    port: int = Field(default=8000, ge=0, le=65535, description="port of the HTTP API; 0 takes a free one")
    metrics_port: int = Field(default=9000, ge=0, le=65535, description="port of /metrics; 0 takes a free one")
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="port of the Open Inference Protocol over gRPC; 0 takes a free one; left out: there is none",
    )
    engine: EngineName = Field(
        default="auto", description="auto: the fastest that is installed and reproduces the golden images"
    )
    providers: _CommaSeparated = Field(
        default=["CPUExecutionProvider"],
        description="comma-separated onnxruntime execution providers, in order; others make onnxruntime the engine",
    )
    lanes: int = Field(default=0, ge=0, description="processes that decode and run the engine; 0: chosen")
    threads: int = Field(default=0, ge=0, description="threads of a lane's passes; 0: chosen")
    max_batch_size: int = Field(
        default=0, ge=0, le=1024, description="most images in one pass; 0: chosen from the measured passes, at most 16"
    )
    max_queue_delay_ms: float = Field(
        default=0, ge=0, le=10_000, description="time that an idle lane waits for a batch to fill"
    )
    max_inflight_images: int = Field(
        default=256, ge=1, description="images accepted and not yet answered; beyond it clients get 429 at once"
    )
    max_inflight_bytes: int = Field(
        default=256 * 2**20, ge=1, description="request bodies inside at once; beyond it clients get 429 at once"
    )
    deadline_ms: float = Field(
        default=5000,
        gt=0,
        le=LONGEST_DEADLINE_MS,
        description="time to answer unless the client's X-Deadline-Ms says otherwise",
    )
    latency_target_ms: float = Field(
        default=0,
        ge=0,
        le=LONGEST_DEADLINE_MS,
        description="requests without a deadline of their own are let in only if forecast to be answered within this; "
        "0: 350, or what the lanes need for 48 images if that is more",
    )
    keep_alive_seconds: int = Field(
        default=75, ge=1, le=86_400, description="time that an idle connection is kept; above the load balancer's own"
    )
    min_upload_bytes_per_second: float = Field(
        default=512, ge=1, description="slower request bodies get 408, once they have cost 10 s"
    )
    max_body_bytes: int = Field(default=16 * 2**20, ge=1, description="larger bodies get 413")
    max_pixels: int = Field(default=50_000_000, ge=1, description="images with more pixels get 413, undecoded")
    api_keys_file: Path | None = Field(
        default=None, description="file of sha256 hex digests of accepted keys, one a line; left out: no key needed"
    )
    admin_keys_file: Path | None = Field(
        default=None, description="the same of keys that may load and unload models; unset: nobody may"
    )
    drain_seconds: float = Field(
        default=5, ge=0, le=3600, description="time after SIGTERM to keep serving new work while not ready"
    )
    debug: bool = Field(default=False, description="serve /debug/passes")
    log_format: Literal["json", "text"] = Field(default="json", description="form of the log lines")
    log_level: LogLevel = Field(default="info", description="the least important log lines that are written")
    log_requests: LoggedRequests = Field(
        default="errors", description="requests that have a log line; errors: those that failed, without 429s"
    )
    cors_origins: _CommaSeparated = Field(
        default=[],
        description="comma-separated origins whose pages may use the API, such as https://example.org, or *",
    )
    tracing: bool = Field(default=False, description="send OpenTelemetry spans as the OTEL_* variables say")
    root_path: str = Field(
        default="", pattern=r"^(/\S*[^/\s])?$", description="path prefix that a proxy strips, such as /mixer"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _unless_a_service_link(cls, value: object, info: ValidationInfo) -> object:
        name = info.field_name or ""
        if name.endswith("port") and isinstance(value, str) and _LINK_ADDRESS.match(value):
            return cls.model_fields[name].default
        return value

    @field_validator("log_format", "log_level", "log_requests", mode="before")
    @classmethod
    def _in_lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("models", "providers", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if value and not parts:
            raise ValueError(f"{value!r} names nothing")
        return parts

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#\s@]+", origin):
                raise ValueError(f"{origin!r} is no origin: scheme://host or scheme://host:port, and nothing after it")
        return origins

    @field_validator("model_repository", "model", "cache", "api_keys_file", "admin_keys_file", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if value == "":
            raise ValueError("it is empty: give a path, or leave the setting out")
        return value

    @model_validator(mode="after")
    def _no_misspelt_variable(self) -> "Settings":
        known = [variable(name) for name in type(self).model_fields]
        for name, value in os.environ.items():
            if name.upper() in known or not name.upper().startswith("MIXER_"):
                continue
            if not _LINK_NAME.fullmatch(name) and not _LINK_ADDRESS.match(value):
                similar = get_close_matches(name.upper(), known, n=1)
                raise ValueError(f"{name} is no setting" + (f"; did you mean {similar[0]}?" if similar else ""))
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.model and (self.models or "model_repository" in self.model_fields_set):
            other = "MIXER_MODELS" if self.models else "MIXER_MODEL_REPOSITORY"
            raise ValueError(f"MIXER_MODEL is served alone: leave out {other}")
        ports = {"MIXER_PORT": self.port, "MIXER_METRICS_PORT": self.metrics_port, "MIXER_GRPC_PORT": self.grpc_port}
        for (one, port), (other, same) in combinations(ports.items(), 2):
            if port and port == same:
                raise ValueError(f"{one} and {other} are both {port}")
        if not self.providers:
            raise ValueError("MIXER_PROVIDERS names no provider")
        if self.engine == "openvino" and self.providers != ["CPUExecutionProvider"]:
            raise ValueError("MIXER_ENGINE openvino has no use for MIXER_PROVIDERS, which are onnxruntime's")
        if self.max_inflight_images < self.max_batch_size:
            raise ValueError(
                f"MIXER_MAX_INFLIGHT_IMAGES {self.max_inflight_images} is below "
                f"MIXER_MAX_BATCH_SIZE {self.max_batch_size}: full batches could never form"
            )
        if self.max_inflight_bytes < self.max_body_bytes:
            raise ValueError(
                f"MIXER_MAX_INFLIGHT_BYTES {self.max_inflight_bytes} is below "
                f"MIXER_MAX_BODY_BYTES {self.max_body_bytes}"
            )
        if self.tracing and not all(map(importlib.util.find_spec, ("opentelemetry", "opentelemetry.sdk"))):
            raise ValueError(
                "MIXER_TRACING needs OpenTelemetry: pip install 'mixer-serving[otel]', or in a checkout make setup"
            )
        if self.grpc_port is not None and not all(map(importlib.util.find_spec, ("grpc", "google", "google.protobuf"))):
            raise ValueError(
                "MIXER_GRPC_PORT needs gRPC: pip install 'mixer-serving[grpc]', or in a checkout make setup"
            )
        return self


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"MIXER_{name.upper()}"


def errors_of(error: ValidationError) -> list[str]:
    """A sentence about each thing that is wrong with the settings, by the names of their variables."""
    return [_explained(detail) for detail in error.errors()]


def _explained(detail: Any) -> str:
    """One of pydantic's errors as a sentence; those of the whole object name the settings themselves."""
    setting = variable(detail["loc"][0]) + ": " if detail["loc"] else ""
    if detail["type"] == "value_error":  # our own, which say what is wrong with the value
        return setting + str(detail["ctx"]["error"])
    given = str(detail["input"]).strip() or "''"
    return f"{setting.removesuffix(': ')} {given}: {detail['msg'].removeprefix('Input ')}"
