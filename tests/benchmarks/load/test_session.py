"""Runs on a server whose latency is known: what they say of it, and when they say nothing."""

import asyncio
import time
from dataclasses import replace

import pytest

from benchmarks.load.session import Options, Session
from benchmarks.load.target import Target
from tests.benchmarks.load.fake_server import FakeServer, fake_server

pytestmark = pytest.mark.anyio

OPTIONS = Options([b"image"], seconds=1, warmup=0.2, objective_ms=400, quiet=True)


def _session(server: FakeServer, **changes: object) -> Session:
    target = Target("fake", server.url, "raw", f"{server.url}/metrics")
    return Session(target, replace(OPTIONS, **changes))  # type: ignore[arg-type]


async def test_a_closed_loop_of_known_latency_has_a_known_rate() -> None:
    async with fake_server() as server:
        server.seconds = 0.05
        run = await _session(server).closed("offline", 0, clients=8)
    assert run.latency.p50 is not None
    assert run.latency.p50 >= 50
    assert run.images_per_second <= 8 / 0.05 + 8  # those of the warm-up that end in the window
    assert run.codes == {"200": run.queries}
    assert (run.loop, run.clients, run.missed, run.invalid) == ("closed", 8, 0, [])


async def test_the_server_s_accounts_are_of_the_window() -> None:
    async with fake_server() as server:
        server.seconds = 0.01
        run = await _session(server).closed("offline", 0, clients=2)
    images = run.images_per_second * run.seconds
    assert run.server.mean_batch == pytest.approx(2)
    assert run.server.front_seconds == pytest.approx(0.002, rel=0.05)
    assert sum(server.received.values()) > images  # the warm-up's are not in it


async def test_an_open_loop_asks_at_its_rate_whatever_the_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.load.figures._LATE_MS", 250)  # a test's machine may be busy
    async with fake_server() as server:
        server.seconds = 0.3
        run = await _session(server).open("server", 0, 100)
    assert run.offered_images_per_second == 100
    assert run.latency.p50 is not None
    assert run.latency.p50 >= 300
    assert 60 <= run.queries <= 140  # chance: four standard deviations
    assert run.invalid == []  # the server is slow, the generator isn't


async def test_a_stall_shows_in_p99_of_an_open_loop_and_the_run_remains_valid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.load.figures._LATE_MS", 250)  # a test's machine may be busy
    async with fake_server() as server:
        session = _session(server, seconds=3)
        running = asyncio.ensure_future(session.open("server", 0, 200))
        while server.received.total() < 200:  # a second: the warm-up is over
            await asyncio.sleep(0.01)
        await server.stall(1)
        run = await running
    assert run.latency.p99 is not None
    assert run.latency.p99 > 900
    assert run.missed >= 0.5 * 200 * (1 - 0.4)  # all that were due in the first 0.6 s of it
    assert run.codes == {"200": run.queries}
    assert run.invalid == []


async def test_goodput_is_of_answers_within_the_objective() -> None:
    async with fake_server() as server:
        server.seconds = 0.1
        run = await _session(server, objective_ms=50).closed("offline", 0, clients=2)
    assert run.images_per_second > 0
    assert run.good_images_per_second == 0
    assert run.missed == run.queries > 0


async def test_what_is_refused_is_no_throughput() -> None:
    async with fake_server() as server:
        run = await _session(server, images=[b"refuse", b"image"]).closed("offline", 0, clients=1)
    assert run.codes["429"] == pytest.approx(run.codes["200"], abs=1)
    assert run.images_per_second * run.seconds == pytest.approx(run.codes["200"], abs=1)
    assert run.missed == run.codes["429"]


async def test_answers_that_come_after_the_window_are_no_throughput_of_it() -> None:
    async with fake_server() as server:
        server.one_at_a_time()
        server.seconds = 0.1  # ten a second at most
        run = await _session(server).open("overload", 0, 50)
    assert run.images_per_second <= 11
    assert run.queries >= 25
    assert run.codes == {"200": run.queries}  # they were all answered in the end


async def test_a_generator_whose_loop_is_busy_with_something_else_is_invalid() -> None:
    async with fake_server() as server:

        async def block() -> None:
            while True:
                time.sleep(0.05)  # noqa: ASYNC251
                await asyncio.sleep(0.01)

        blocking = asyncio.ensure_future(block())
        run = await _session(server).open("server", 0, 100)
        blocking.cancel()
    assert any("ms late" in reason for reason in run.invalid)


async def test_repeats_have_arrivals_of_their_own_and_seeds_repeat_them() -> None:
    received = []
    for seed, repeat in ((0, 0), (0, 1), (5, 0), (0, 0)):
        async with fake_server() as server:
            images = [b"%d" % i for i in range(10)]
            await _session(server, images=images, seed=seed).open("server", repeat, 100)
            received.append(server.received)
    first, second, seeded, again = received
    assert first == again
    assert first != second != seeded != first


async def test_a_query_of_several_images_is_one_request_where_the_form_can() -> None:
    images = [b"a", b"b"]
    async with fake_server() as server:
        raw, multipart = (
            Session(Target("fake", server.url, form, several=True), replace(OPTIONS, images=images))
            for form in ("raw", "multipart:image")
        )
        alone = Session(Target("fake", server.url, "multipart:image"), replace(OPTIONS, images=images))
        assert [len(query.requests) for query in alone.queries(3)] == [3, 3]  # it takes one image a request
        assert [len(query.requests) for query in raw.queries(3)] == [3, 3]
        assert [(len(query.requests), query.images) for query in multipart.queries(3)] == [(1, 3), (1, 3)]
        run = await multipart.closed("multi-stream", 0, clients=1, images_per_query=3)
    assert all(body.count(b"Content-Disposition") == 3 for body in server.received)
    assert run.images_per_second * run.seconds == pytest.approx(3 * run.queries, abs=6)  # one query at each edge


async def test_a_check_says_what_is_wrong() -> None:
    async with fake_server() as server:
        with pytest.raises(ValueError, match=r"answered 429: \{\}"):
            await _session(server, images=[b"refuse"]).check()
        server.seconds = 1
        with pytest.raises(ValueError, match="no answer in time"):
            await _session(server, timeout=0.1).check()


async def test_a_check_of_a_url_that_redirects_says_where_to() -> None:
    async with fake_server() as server:
        server.moved_to = "https://h/v1/classify"
        with pytest.raises(ValueError, match="answered 307, Location: https://h/v1/classify; give that URL"):
            await _session(server).check()


async def test_metrics_that_never_come_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.load.connection._PATIENCE", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with fake_server() as server, await asyncio.start_server(silent, "127.0.0.1", 0) as metrics:
        url = f"http://127.0.0.1:{metrics.sockets[0].getsockname()[1]}/metrics"
        session = _session(server)
        session.target = replace(session.target, metrics_url=url)
        with pytest.raises(OSError, match=f"{url}: no answer in time"):
            await session.closed("offline", 0, clients=1)
