"""What a soak has beside its load, on a service that is started for it."""

import asyncio
from contextlib import ExitStack

import pytest

from benchmarks.load.connection import Connections
from benchmarks.load.images import read_images
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.scenarios.soak import soak
from benchmarks.load.server_side import ServerSide, totals
from benchmarks.load.session import Options, Session
from benchmarks.load.started import start
from benchmarks.load.target import Target
from benchmarks.robustness.disturbances import disturbed
from tests.e2e.processes import GOLDEN

pytestmark = pytest.mark.anyio

BUNDLE = GOLDEN.parent


def _target(stack: ExitStack) -> Target:
    preset = "mixer-onnxruntime"  # on one engine it starts sooner
    address = start({preset}, BUNDLE, stack)[preset]
    url = f"{address.url}/v1/classify"
    return Target("mixer", url, "raw", address.metrics_url, address.pid, bundle=address.bundle)


async def test_slow_clients_are_answered_while_lanes_are_lost_and_the_model_is_loaded_anew() -> None:
    before = (BUNDLE / "manifest.json").read_bytes()
    with ExitStack() as stack:
        target = _target(stack)
        request = Connections(target.url).request("POST", {}, read_images("digits")[0])
        server = ServerSide(target)
        async with disturbed(target, request, every=2) as seen, asyncio.timeout(120):
            while True:
                counted = totals((await server.snapshot()).metrics)
                happened = counted["mixer_lane_restarts_total"] and counted["mixer_model_loads_total"]
                if happened and seen["slow readers: 200"] and seen["slow writers: 200"]:
                    break
                await asyncio.sleep(0.1)
        server.close()
    assert seen["lanes killed"]
    assert seen["reloads asked for"]
    assert not seen["slow readers: lost"]
    assert not seen["slow writers: lost"]
    assert (BUNDLE / "manifest.json").read_bytes() == before  # it was a copy's that changed


async def test_a_soak_loses_nothing() -> None:
    with ExitStack() as stack:
        session = Session(_target(stack), Options(read_images("digits"), seconds=1, warmup=0, quiet=True))
        await soak(session, Parameters(rate=30, soak_seconds=4), 0)
    (run,) = session.runs
    assert run.server.unsettled_images == 0
    assert run.codes["200"] > 0
    assert session.findings["lanes killed"]
    assert session.findings["reloads asked for"]
    assert session.findings["reloads"] is not None


async def test_a_service_that_was_not_started_here_keeps_its_lanes() -> None:
    with ExitStack() as stack:
        target = _target(stack)
        far = Target("mixer", target.url, "raw")
        async with disturbed(far, Connections(far.url).request("POST", {}, b"no image"), every=0.01) as seen:
            while not seen["slow readers: 415"]:
                await asyncio.sleep(0.1)
    assert not seen["lanes killed"]
    assert not seen["reloads asked for"]


async def test_a_status_of_which_half_is_read_is_read_on() -> None:
    ordinary, last = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 429 Too Many Requests\r\n\r\n"
    half = len(b"HTTP/1.1 4")
    answers = (7 * ordinary).ljust(2 * 256 - half) + last  # slow readers take 256 bytes at once

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server, asyncio.timeout(60):
        port = server.sockets[0].getsockname()[1]
        async with disturbed(Target("far", f"http://127.0.0.1:{port}/", "raw"), b"a request", every=60) as seen:
            while not (read := {what for what in seen if what.startswith("slow readers")}):
                await asyncio.sleep(0.01)
    assert read == {"slow readers: 200", "slow readers: 429"}
