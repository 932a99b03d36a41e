"""deploy/kubernetes against checkov's policies, which is installed apart because it pins what the service also uses."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.debian import CACHE
from tests.deploy.kustomization import KUBERNETES, compose, render

REQUIREMENTS = KUBERNETES.parent.parent / "requirements" / "checkov.txt"


@pytest.fixture(scope="module")
def checkov() -> Path:
    """The program, as requirements/checkov.txt has it."""
    folder = CACHE / "checkov"
    installed = folder / REQUIREMENTS.name
    if not installed.exists() or installed.read_bytes() != REQUIREMENTS.read_bytes():
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
        # Of its hundred packages it imports few, and compiles those itself.
        install = ["install", "--quiet", "--no-compile", "--no-deps", "--require-hashes", "--requirement", REQUIREMENTS]
        result = subprocess.run([*pip, *install], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"checkov could not be installed: {result.stderr[-600:]}")
        shutil.copy(REQUIREMENTS, installed)
    return folder / "bin" / "checkov"


def test_checkov_finds_nothing(checkov: Path, tmp_path: Path) -> None:
    file = tmp_path / "rendered.yaml"
    chosen = (("cpu", "hpa", "api-keys", "admin-keys", "ingress"), ("gpu", "keda", "grpc", "tracing"))
    overlays = [compose(tmp_path / overlay[0], *overlay) for overlay in chosen]
    file.write_text("---\n".join(render(overlay).text for overlay in overlays))
    command = [checkov, "-f", file, "--framework", "kubernetes", "--compact", "--skip-download"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "Failed checks: 0" in result.stdout  # and not: nothing to check
