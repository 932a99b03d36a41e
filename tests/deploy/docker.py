"""A Docker engine for the tests: the one that runs here, or one of their own that ends with them."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.debian import package_lock

ROOT = Path(__file__).parent.parent.parent
CACHE = ROOT / ".venv" / "docker"  # images and layers outlast a run
STAND_IN = Path(__file__).parent / "stand_in"
CERTIFICATES = Path("/usr/local/share/ca-certificates")
# Without these rights an engine works as well, as far as these tests go: none of its networks reaches outside.
WITHOUT_NETWORK_RIGHTS = ("--bridge=none", "--iptables=false", "--ip6tables=false")


@dataclass
class Docker:
    """The command line of one engine."""

    environment: dict[str, str] = field(default_factory=dict)
    build_flags: tuple[str, ...] = ()

    def popen(self, *arguments: str, **options: object) -> "subprocess.Popen[str]":
        environment = os.environ | {"DOCKER_BUILDKIT": "1"} | self.environment
        return subprocess.Popen(["docker", *arguments], text=True, env=environment, **options)  # type: ignore[call-overload,no-any-return]

    def call(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        pipe = subprocess.PIPE
        process = self.popen(*arguments, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT)
        try:
            out, err = process.communicate(stdin, timeout)
        finally:
            process.kill()
        return process.returncode, out, err

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Standard output, without its last newline; what fails, fails the test."""
        status, out, err = self.call(*arguments, stdin=stdin, timeout=timeout)
        assert status == 0, f"docker {' '.join(arguments)}: {err[-3000:]}"
        return out.removesuffix("\n")

    def has_image(self, name: str) -> bool:
        return self.call("image", "inspect", name)[0] == 0

    def build(self, folder: Path, tag: str, *flags: str) -> str:
        self("build", *self.build_flags, "--tag", tag, *flags, str(folder), timeout=900)
        return tag

    def public_image(self, name: str, stand_in: str) -> str:
        """`name` from its registry; where that cannot be reached, a target of stand_in/Dockerfile."""
        tag = f"stand-in/{stand_in}"
        if self.has_image(name) or (not self.has_image(tag) and self.call("pull", "--quiet", name)[0] == 0):
            return name
        if not self.has_image("stand-in/debian"):
            _install("mmdebstrap")
            with tempfile.TemporaryDirectory() as folder:
                archive = f"{folder}/debian.tar"
                packages = "--include=ca-certificates,python3,python3-venv,python3-pip"
                options = ("--variant=minbase", "--dpkgopt=force-unsafe-io")  # what a crash leaves is made anew
                subprocess.run(["mmdebstrap", "--quiet", *options, packages, "bookworm", archive], check=True)
                self("import", archive, "stand-in/debian")
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(STAND_IN / "Dockerfile", folder)
            certificates = Path(folder, "certificates")  # a package index may need those that this machine trusts
            if CERTIFICATES.is_dir():
                shutil.copytree(CERTIFICATES, certificates, copy_function=shutil.copyfile)
            certificates.mkdir(exist_ok=True)
            return self.build(Path(folder), tag, "--target", stand_in)

    @contextmanager
    def container(self, *arguments: str) -> Iterator[str]:
        """`docker run --detach` with these flags, image and command; yields the id and removes it afterwards."""
        container = self("run", "--detach", *arguments)
        try:
            yield container
        finally:
            self("rm", "--force", "--volumes", container)

    def inspect(self, container: str, form: str) -> str:
        return self("inspect", "--format", form, container)

    def wait_for_line(self, container: str, text: str) -> None:
        """Until the container has printed it."""
        with self.popen("logs", "--follow", container, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as logs:
            assert logs.stdout
            assert any(text in line for line in logs.stdout), f"{container} ended and never printed {text!r}"
            logs.kill()

    def logs(self, container: str) -> list[str]:
        status, out, err = self.call("logs", container)
        assert status == 0, err
        return (out + err).splitlines()

    def wait_until(self, container: str, form: str, value: str) -> None:
        """Until `docker inspect --format` says so."""
        end = time.monotonic() + 60
        while (seen := self.inspect(container, form)) != value:
            running = self.inspect(container, "{{.State.Running}}") == "true"
            assert running and time.monotonic() < end, f"{form} is {seen}: {self.logs(container)}"
            time.sleep(0.2)


@contextmanager
def docker_engine() -> Iterator[Docker]:
    """The running engine, or, for root on a Debian, one that is started here; without either the test is skipped."""
    if shutil.which("docker") and Docker().call("version")[0] == 0:
        if Docker().call("buildx", "version")[0] != 0:
            pytest.skip("the Docker client that is installed here has no buildx to build images with")
        yield Docker()
        return
    if os.geteuid() != 0:
        pytest.skip("no Docker engine runs here, and only root could start one")
    if not shutil.which("dockerd") or not shutil.which("docker"):
        _install("docker.io", "iptables")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="docker-") as folder, Path(folder, "log").open("w+") as log:
        socket = f"unix://{folder}/socket"
        folders = ("--data-root", str(CACHE / "data"), "--exec-root", f"{folder}/run", "--pidfile", f"{folder}/pid")
        command = ["dockerd", "--host", socket, *folders, *WITHOUT_NETWORK_RIGHTS]
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
        docker = Docker({"DOCKER_HOST": socket, "DOCKER_CONFIG": str(_plugins())}, ("--network=host",))
        try:
            end = time.monotonic() + 30
            while docker.call("version")[0] != 0:
                if daemon.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    pytest.skip(f"dockerd does not start here: {log.read()[-600:]}")
                time.sleep(0.1)
            yield docker
        finally:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            subprocess.run(["umount", f"{folder}/run/netns/default"], stderr=subprocess.DEVNULL, check=False)


def _install(*packages: str) -> None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip(f"{' and '.join(packages)} are missing, and only root on a Debian could install them here")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    with package_lock():
        for attempt in (["apt-get", "update"], command):
            result = subprocess.run(attempt, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"{' and '.join(packages)} could not be installed: {result.stderr[-600:]}")


def _plugins() -> Path:
    """A client configuration with Compose v2 and buildx, unpacked from Debian 13's packages, since 12's are too old."""
    configuration = CACHE / "configuration"
    if (configuration / "cli-plugins" / "docker-buildx").exists():
        return configuration
    lists = CACHE / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    (CACHE / "sources").write_text("deb http://deb.debian.org/debian trixie main\n")
    options = {
        "Dir::Etc::sourcelist": CACHE / "sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": lists,
    }
    apt = " ".join(["apt-get", "-qq", *(f"-o {name}={value}" for name, value in options.items())])
    script = f"""{apt} update && {apt} download docker-compose docker-buildx \\
        && for package in *.deb; do dpkg -x $package . && rm $package; done && mkdir -p configuration/cli-plugins \\
        && mv usr/libexec/docker/cli-plugins/docker-* configuration/cli-plugins/ && rm -r usr lists"""
    result = subprocess.run(["bash", "-c", script], cwd=CACHE, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"Docker's Compose and buildx could not be fetched: {result.stderr[-600:]}")
    return configuration
