import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.debian import package_lock

VENV = Path(__file__).parent.parent.parent / ".venv"
AXE = VENV / "axe-core"


@pytest.fixture(scope="session")
def chromium() -> str:
    """A browser to look at the page with; where there is none, Debian's, whose many libraries only root can install."""
    if found := shutil.which("chromium") or shutil.which("google-chrome"):
        return found
    if not shutil.which("apt-get") or os.geteuid() != 0:
        pytest.skip("chromium is missing, and only root can install Debian's package, with apt-get")
    install = "apt-get install --yes --no-install-recommends chromium"
    with package_lock():
        result = subprocess.run(
            ["bash", "-c", f"{install} || {{ apt-get update && {install}; }}"],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        pytest.skip(f"chromium is missing, and Debian's package could not be installed: {result.stderr}")
    return shutil.which("chromium") or "/usr/bin/chromium"  # whoever starts it wants its path


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which checks accessibility, unpacked from its npm package."""
    script = AXE / "package" / "axe.min.js"
    if not script.exists():
        if not shutil.which("npm"):
            pytest.skip("axe-core is missing, and there is no npm to fetch it with")
        AXE.mkdir(parents=True, exist_ok=True)
        fetch = "npm pack --silent axe-core@4 && tar -xzf axe-core-*.tgz"
        result = subprocess.run(["bash", "-c", fetch], cwd=AXE, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"axe-core is missing, and npm could not fetch it: {result.stderr}")
    return script.read_text()
