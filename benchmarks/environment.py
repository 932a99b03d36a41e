"""Where a figure was measured: machine, versions, commit."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

from service.host import allowed_cores

_PACKAGES = ("onnxruntime", "openvino", "torch", "numpy", "pillow", "fastapi", "uvicorn", "aiohttp")


def describe_environment() -> dict[str, object]:
    """CPU, cores allowed, versions of what is installed, and commit ("+changes" if the code differs from it)."""
    return {
        "cpu": _cpu_model(),
        "cores_allowed": allowed_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version_of(name))},
        "commit": _commit(),
    }


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    # Cloud machines call generations alike: family and model tell them apart.
    return "{} (family {}, model {})".format(*(values.get(key, "?") for key in ("model name", "cpu family", "model")))


def _commit() -> str:
    def git(*arguments: str) -> str:
        result = subprocess.run(  # nosec B607
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return result.stdout.strip()

    commit = git("rev-parse", "--short=10", "HEAD") or "unknown"
    changes = git("status", "--porcelain", "--untracked-files=no", ":(top,exclude)benchmarks/results")
    return commit + ("+changes" if changes else "")
