"""What is loaded: a URL, the form its images take, and where the server's own figures are found."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Preset:
    """How a kind of server is asked."""

    path: str
    form: str
    port: int
    several: bool = False  # images in one request
    engine: str = "auto"  # where it is started here
    recipe: str = ""  # of another server: its folder in benchmarks/servers/peers


PRESETS = {
    "mixer": Preset("/v1/classify", "raw", 8000),
    "mixer-onnxruntime": Preset("/v1/classify", "raw", 8000, engine="onnxruntime"),
    "mixer-openvino": Preset("/v1/classify", "raw", 8000, engine="openvino"),
    "mixer-multipart": Preset("/v1/classify", "multipart:image", 8000, several=True),
    "mixer-v2": Preset("/v2/models/{model}/infer", "v2-binary:image_bytes", 8000, several=True),
    "plain": Preset("/predict", "multipart:file", 8000),
    # As their recipes have them.
    "litserve": Preset("/predict", "multipart:request", 8000, engine="onnxruntime", recipe="litserve"),
    "litserve-openvino": Preset("/predict", "multipart:request", 8000, engine="openvino", recipe="litserve"),
    "mosec": Preset("/inference", "raw", 8000, engine="onnxruntime", recipe="mosec"),
    "mosec-openvino": Preset("/inference", "raw", 8000, engine="openvino", recipe="mosec"),
    "ray-serve": Preset("/predict", "raw", 8000, engine="onnxruntime", recipe="ray-serve"),
    "bentoml": Preset("/classify", "multipart:images", 3000, engine="onnxruntime", recipe="bentoml"),
    "mlserver": Preset("/v2/models/{model}/infer", "v2-json:image", 8080, engine="onnxruntime", recipe="mlserver"),
    "triton": Preset("/v2/models/{model}/infer", "v2-binary:image", 8000, several=True),
}


class Address(NamedTuple):
    """Where a server is, and where what it spends is found."""

    url: str  # the whole of it, or only scheme, host and port
    metrics_url: str | None = None
    pid: int | None = None
    bundle: Path | None = None
    sleeps: bool = False


@dataclass(frozen=True)
class Target:
    """One endpoint."""

    name: str
    url: str
    form: str
    metrics_url: str | None = None  # Prometheus', with Mixer's names
    pid: int | None = None  # of the server, where it runs on this machine: it and its children are watched
    headers: tuple[tuple[str, str], ...] = ()  # sent with every request
    several: bool = False  # images in one request
    bundle: Path | None = None  # a copy that may be changed, of a Mixer service that was started here
    sleeps: bool = False  # its process is stopped, but for its turn


def make_target(preset: str, url: str | None = None, *, form: str | None = None, model: str = "digits") -> Target:
    """A preset's endpoint at `url`: the whole of it, or only scheme, host and port; without one, on this machine.

    Raises ValueError for an unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"target {preset!r} is not one of {', '.join(PRESETS)}")
    kind = PRESETS[preset]
    base = url or f"http://127.0.0.1:{kind.port}"
    path = "" if urlsplit(base).path.strip("/") else kind.path.format(model=model)
    return Target(preset, base.rstrip("/") + path if path else base, form or kind.form, several=kind.several)


def parse_target(text: str) -> tuple[str, Address | None]:
    """PRESET=URL[,METRICS_URL][,PID], or PRESET alone for a server that is still to be started.

    Raises ValueError for an unknown preset.
    """
    preset, _, rest = text.partition("=")
    if preset not in PRESETS:
        raise ValueError(f"target {preset!r} is not one of {', '.join(PRESETS)}")
    url, *more = rest.split(",")
    metrics_url = next((part for part in more if not part.isdigit()), None)
    pid = next((int(part) for part in more if part.isdigit()), None)
    return preset, Address(url, metrics_url, pid) if url else None
