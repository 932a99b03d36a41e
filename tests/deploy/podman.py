"""Podman as a stand-in for a kubelet: it runs the pods of a Deployment's own YAML, in a storage of these tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.debian import package_lock
from tests.deploy.kustomization import Manifest

ROOT = Path(__file__).parent.parent.parent
STORAGE = ROOT / ".venv" / "podman"
RUNTIME = Path(__file__).parent / "runc_without_limits.py"
PACKAGES = ("podman", "runc", "catatonit", "netavark", "aardvark-dns", "iptables")


@dataclass
class Podman:
    environment: dict[str, str]

    def __call__(self, *arguments: str, timeout: float = 120) -> str:
        """Standard output, without its last newline; what fails, fails the test."""
        result = self._run(arguments, timeout)
        assert result.returncode == 0, f"podman {' '.join(arguments)}: {result.stderr[-3000:]}"
        return result.stdout.removesuffix("\n")

    def inspect(self, container: str, form: str) -> str:
        return self("inspect", "--format", form, container)

    def logs(self, container: str) -> list[str]:
        return self._run(("logs", container), timeout=60).stderr.splitlines()

    def _run(self, arguments: tuple[str, ...], timeout: float) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["podman", *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    @contextmanager
    def pod(self, folder: Path, *manifests: Manifest) -> Iterator[str]:
        """`podman play kube` on a ConfigMap and a Deployment of one replica; yields its container and removes it."""
        pod = f"{manifests[-1]['metadata']['name']}-pod-0"
        file = folder / f"{pod}.yaml"
        file.write_text(yaml.safe_dump_all(manifests))
        try:
            self("play", "kube", str(file))
            yield f"{pod}-mixer"
        except BaseException:
            print(*self.logs(f"{pod}-mixer"), sep="\n")
            raise
        finally:
            self("pod", "rm", "--force", "--ignore", "--time", "0", pod)


@contextmanager
def podman_engine(folder: Path) -> Iterator[Podman]:
    """Podman with a storage and a runtime of its own; the test is skipped where it cannot be had."""
    if os.geteuid() != 0:
        pytest.skip("pods are run by Podman as root, which this is not")
    if not shutil.which("podman") or not shutil.which("runc"):
        _install()
    STORAGE.mkdir(parents=True, exist_ok=True)
    (folder / "containers.conf").write_text(f"""[engine]
runtime = "without-limits"
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.runtimes]
without-limits = ["{folder}/runc"]
""")
    (folder / "runc").write_text(f'#!/bin/sh\nexec {sys.executable} -IS {RUNTIME} "$@"\n')
    (folder / "runc").chmod(0o755)
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{STORAGE}/graph"\nrunroot = "{STORAGE}/run"\n'
    )
    yield Podman(
        {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }
    )


def _install() -> None:
    if not shutil.which("apt-get"):
        pytest.skip("podman and runc are missing, and there is no apt-get to install Debian's with")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with package_lock():
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            result = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"podman is missing, and could not be installed: {result.stderr[-600:]}")
