"""What is read of a service that serves two models, one of them in two versions, to those who have a key."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.load.images import read_images
from benchmarks.load.served import read_served
from benchmarks.load.session import Options, Session
from benchmarks.load.target import make_target
from benchmarks.servers.own import OwnService, own_service
from tests.e2e.processes import add_digits

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnService]:
    folder = tmp_path_factory.mktemp("served")
    for name, version in (("other", "1"), ("other", "2"), ("digits", "3")):
        add_digits(folder / "models", version, name)
    (folder / "keys").write_text(hashlib.sha256(b"secret").hexdigest())
    models = "other/1,other/2,digits/3"
    flags = ["--models", models, "--model-repository", str(folder / "models"), "--api-keys-file", str(folder / "keys")]
    with own_service("service", *flags) as service:
        yield service


def _session(service: OwnService, preset: str, path: str) -> Session:
    target = make_target(preset, service.url.removesuffix("/v1/classify") + path)
    target = replace(target, metrics_url=service.metrics_url, headers=(("x-api-key", "secret"),))
    return Session(target, Options(read_images("digits"), seconds=0.5, warmup=0, quiet=True))


@pytest.mark.parametrize(
    ("preset", "path", "served"),
    [
        ("mixer", "/v1/classify", ("other", "2")),  # the default model, in its latest version
        ("mixer", "/v1/classify?model=digits", ("digits", "3")),
        ("mixer-multipart", "/v1/classify?model=other&version=1", ("other", "1")),
        ("mixer-v2", "/v2/models/digits/infer", ("digits", "3")),
        ("mixer-v2", "/v2/models/other/versions/1/infer", ("other", "1")),
    ],
)
async def test_the_model_that_answers_is_the_one_that_is_described(
    service: OwnService, preset: str, path: str, served: tuple[str, str]
) -> None:
    session = _session(service, preset, path)
    found = await read_served(session.target, (await session.check())[0])
    assert found is not None
    assert (found.model["model"], found.model["version"]) == served
    assert found.pass_seconds


@pytest.mark.parametrize("asked", ["digits", "other&version=1"])
async def test_what_is_spent_on_other_models_and_versions_does_not_count(service: OwnService, asked: str) -> None:
    idle, loaded = (_session(service, "mixer", f"/v1/classify?model={name}") for name in (asked, "other&version=2"))
    for session in (idle, loaded):
        session.served = await read_served(session.target, (await session.check())[0])
    loaded.target = replace(loaded.target, url=idle.target.url)  # the one is asked, and the other's accounts are read
    run = await loaded.closed("offline", 0, clients=2)
    assert run.images_per_second > 0
    assert run.server.mean_batch is None
    run = await idle.closed("offline", 0, clients=2)
    assert run.server.mean_batch is not None


@pytest.mark.parametrize("answer", [b"{}", b"7", b"hi", b'{"model": {"name": "strange", "version": "1"}}'])
async def test_a_model_that_the_metrics_do_not_have_is_said_to_be_so(service: OwnService, answer: bytes) -> None:
    target = _session(service, "mixer", "/v1/classify").target
    with pytest.raises(ValueError, match=r"/classify: .*, and .*/metrics has (?=.*other/1)(?=.*other/2).*digits/3"):
        await read_served(target, answer)
