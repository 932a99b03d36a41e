import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(__file__).parent.parent.parent / ".venv" / "prometheus"


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's own checker; where it is missing, unpacked (not installed) from Debian's package."""
    if found := shutil.which("promtool"):
        return found
    unpacked = CACHE / "usr" / "bin" / "promtool"
    if not unpacked.exists():
        if not shutil.which("apt-get"):
            pytest.skip("promtool is missing, and there is no apt-get to fetch Debian's prometheus package with")
        CACHE.mkdir(exist_ok=True)
        fetch = "apt-get download prometheus || { apt-get update && apt-get download prometheus; }"
        script = f"{{ {fetch}; }} && dpkg -x prometheus_*.deb ."
        result = subprocess.run(["bash", "-c", script], cwd=CACHE, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"promtool is missing, and Debian's prometheus package could not be fetched: {result.stderr}")
    return str(unpacked)
