from collections.abc import Iterator

import pytest

from tests.deploy.docker import ROOT, Docker, docker_engine


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A Docker engine."""
    with docker_engine() as docker:
        yield docker


@pytest.fixture(scope="session")
def base_image(docker: Docker) -> str:
    """Python's public image or its stand-in."""
    return docker.public_image("python:3.12-slim-bookworm", "python")


@pytest.fixture(scope="session")
def image(docker: Docker, base_image: str) -> str:
    """The service's image, built as `make image` does."""
    return docker.build(ROOT, "mixer-serving:test", "--build-arg", f"BASE_IMAGE={base_image}")
