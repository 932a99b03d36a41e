"""`make pin-base`, against a real registry."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.debian import debian_program
from tests.deploy.docker import ROOT, Docker
from tests.deploy.processes import wait_until

NAMING = ("Dockerfile", "docker-compose.yml")
LABEL = "test.of.pin-base"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of an empty one."""
    program = debian_program("docker-registry", "docker-registry")
    configuration, log = tmp_path / "registry.yml", tmp_path / "registry.log"
    storage = f"{{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}"
    configuration.write_text(f"version: 0.1\nstorage: {storage}\nhttp: {{addr: '127.0.0.1:0'}}\n")
    with log.open("w") as output:
        process = subprocess.Popen([program, "serve", configuration], stderr=output)

    def address() -> list[str]:
        assert process.poll() is None, log.read_text()
        return re.findall(r"listening on ([\d.]+:\d+)", log.read_text())

    try:
        wait_until(lambda: bool(address()))
        yield address()[0]
    finally:
        process.kill()
        process.wait()


def named_images(folder: Path) -> set[str]:
    """What the image variables default to."""
    return {image for name in NAMING for image in re.findall(r"_IMAGE(?:=|:-)([^}\s]+)", (folder / name).read_text())}


def test_base_images_are_pinned_to_what_the_registry_has_now(docker: Docker, registry: str, tmp_path: Path) -> None:
    checkout, folder = tmp_path / "checkout", tmp_path / "image"
    checkout.mkdir()
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", checkout)
    tags = {image.partition("@")[0] for image in named_images(ROOT)}
    assert len(tags) == 3
    for name in NAMING:
        text = (ROOT / name).read_text()
        for tag in tags:
            text = text.replace(tag, f"{registry}/{tag}")
        (checkout / name).write_text(text)
    try:
        for content in ("old", "new"):
            expected = set()
            for tag in tags:
                (folder / "Dockerfile").write_text(
                    f"FROM scratch\nLABEL {LABEL}='{content} {tag}'\nCOPY Dockerfile /\n"
                )
                image = docker.build(folder, f"{registry}/{tag}")
                docker("push", "--quiet", image)
                digest = docker.inspect(image, "{{index .RepoDigests 0}}").partition("@")[2]
                expected.add(f"{image}@{digest}")
            environment = os.environ | docker.environment
            make = ["make", "--no-print-directory", "pin-base"]
            result = subprocess.run(make, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stderr
            assert named_images(checkout) == expected
    finally:
        docker("image", "prune", "--all", "--force", "--filter", f"label={LABEL}")
