"""What a real service's processes spend: the front, what its lanes are forked from, and the lanes."""

import psutil
import pytest

from benchmarks.load.server_side import ServerSide, tree
from benchmarks.load.session import Options, Session
from benchmarks.load.target import Target
from benchmarks.servers.own import own_service
from tests.e2e.processes import GOLDEN

pytestmark = pytest.mark.anyio


async def test_all_processes_count_and_what_a_lost_lane_spent_is_not_forgotten() -> None:
    image = (GOLDEN / "digit-7.png").read_bytes()
    with own_service("service", "--lanes", "2") as service:
        target = Target("mixer", service.url, "raw", service.metrics_url, service.pid)
        front = psutil.Process(service.pid)
        server = ServerSide(target)
        run = await Session(target, Options([image], seconds=1, warmup=0, quiet=True)).closed("offline", 0, clients=2)
        before = (await server.snapshot()).cpu_seconds
        lane = max(tree(front)[1:], key=lambda process: process.cpu_times().user)
        lane.kill()
        lane.wait()
        after = (await server.snapshot()).cpu_seconds
        server.close()
        alone = front.memory_full_info().pss
    assert run.server.cpu_seconds is not None
    assert run.server.peak_memory_bytes is not None
    assert run.server.front_seconds is not None
    images = run.images_per_second * run.seconds
    assert 0 < run.server.front_seconds * images < run.server.cpu_seconds
    assert run.server.peak_memory_bytes > 2 * alone
    assert before is not None
    assert after is not None
    assert after >= before
