"""Programs that tests need, from Debian's packages where they are not installed."""

import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

CACHE = Path(__file__).parent.parent / ".venv"


def package_lock() -> FileLock:
    """Held by who installs or unpacks packages: tests that run beside each other want the same, and apt takes turns."""
    CACHE.mkdir(exist_ok=True)
    return FileLock(CACHE / "packages.lock")


def debian_program(name: str, package: str) -> str:
    """Its path; where it is missing, it is unpacked (not installed). Skips the test where that cannot be."""
    if found := shutil.which(name):
        return found
    folder = CACHE / package
    unpacked = folder / "usr" / "bin" / name
    with package_lock():
        if unpacked.exists():
            return str(unpacked)
        if not shutil.which("apt-get"):
            pytest.skip(f"{name} is missing, and there is no apt-get to fetch Debian's {package} package with")
        folder.mkdir(parents=True, exist_ok=True)
        fetch = f"apt-get download {package} || {{ apt-get update && apt-get download {package}; }}"
        script = f"{{ {fetch}; }} && dpkg -x {package}_*.deb ."
        result = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"{name} is missing, and Debian's {package} package could not be fetched: {result.stderr}")
    return str(unpacked)
