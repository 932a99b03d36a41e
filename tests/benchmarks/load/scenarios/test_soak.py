from dataclasses import replace

import pytest

from benchmarks.load.images import read_images
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.scenarios.soak import soak
from benchmarks.load.session import Options, Session
from benchmarks.load.target import make_target
from benchmarks.servers.own import own_service
from tests.benchmarks.load.fake_server import fake_server


@pytest.mark.anyio
async def test_the_service_accounts_for_every_image_also_damaged_ones_and_of_those_who_leave() -> None:
    patient = ("--deadline-ms", "60000", "--latency-target-ms", "60000")  # however busy it is here
    with own_service("service", "--engine", "onnxruntime", *patient) as service:
        target = replace(make_target("mixer", service.url), metrics_url=service.metrics_url, pid=service.pid)
        session = Session(target, Options(read_images("digits"), warmup=0.5, quiet=True))
        await session.check()
        await soak(session, Parameters(rate=60, soak_seconds=6), 0)
    (run,) = session.runs
    assert run.server.unsettled_images == 0
    assert run.codes.keys() <= {"200", "422", "429", "left"}
    assert run.codes["200"] > 0.9 * run.queries
    assert run.codes["422"] > 0
    assert run.server.peak_memory_bytes is not None
    assert len(run.server.memory) > 2
    for sample in run.server.memory:
        assert sample.bytes is not None
        assert 2**20 < sample.bytes < 2 * run.server.peak_memory_bytes
    assert max(sample.connections or 0 for sample in run.server.memory) >= 8  # the slow ones


@pytest.mark.anyio
async def test_a_server_that_says_nothing_of_its_images_is_not_asked() -> None:
    async with fake_server() as fake:
        target = replace(make_target("mixer", fake.url), metrics_url=f"{fake.url}/metrics")
        session = Session(target, Options([b"x" * 100], 0.5, 0.1, quiet=True))
        await soak(session, Parameters(rate=50, soak_seconds=0.5), 0)
    assert session.runs[0].server.unsettled_images is None
