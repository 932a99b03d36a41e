"""Open and closed loops against a server whose latency is known."""

import asyncio
import itertools
import time

import pytest

from benchmarks.load.arrivals import poisson
from benchmarks.load.connection import Connections
from benchmarks.load.generator import Generator, Query
from tests.benchmarks.load.fake_server import FakeServer, fake_server

pytestmark = pytest.mark.anyio


def _query(connections: Connections, *bodies: bytes, patience: float | None = None) -> Query:
    requests = tuple(connections.request("POST", {}, body) for body in bodies or (b"image",))
    return Query(requests, len(requests), patience)


def _generator(server: FakeServer, timeout: float = 10.0) -> tuple[Generator, Connections]:
    connections = Connections(server.url)
    return Generator(connections, timeout), connections


async def test_no_answer_comes_sooner_than_the_server_gives_it() -> None:
    async with fake_server() as server:
        server.seconds = 0.05
        generator, connections = _generator(server)
        await generator.closed_loop([_query(connections)], clients=4, seconds=0.5)
        connections.close()
    assert min(generator.samples.latencies()) >= 0.05
    assert server.most_inside == 4
    assert 4 <= len(generator.samples) == server.received[b"image"] <= 4 * 11


async def test_the_images_of_a_closed_loop_come_in_turn() -> None:
    async with fake_server() as server:
        server.seconds = 0.01
        generator, connections = _generator(server)
        await generator.closed_loop([_query(connections, b"%d" % i) for i in range(3)], clients=3, seconds=0.2)
        connections.close()
    assert max(server.received.values()) - min(server.received.values()) <= 1
    assert len(server.received) == 3


async def test_an_open_loop_waits_for_nobody() -> None:
    async with fake_server() as server:
        server.seconds = 0.3
        generator, connections = _generator(server)
        query = _query(connections)
        await generator.open_loop(((i / 100, query) for i in range(30)), seconds=0.2)
        connections.close()
    # Those that are due before its end, all answered, and each by the time that it was due.
    assert sorted(sample.intended for sample in generator.samples.all) == [i / 100 for i in range(20)]
    assert server.most_inside == 20
    assert generator.over.is_set()
    assert not generator.unanswered


async def test_a_stall_delays_all_who_would_have_come_in_it() -> None:
    """Coordinated omission: they are sent, and each waits for the rest of the stall."""
    rate, seconds, stall = 200, 3.0, 1.0
    async with fake_server() as server:
        generator, connections = _generator(server)
        query = _query(connections)
        loading = asyncio.ensure_future(
            generator.open_loop(((i / rate, query) for i in itertools.count()), seconds=seconds)
        )
        await asyncio.sleep(1)
        began = generator.clock.now()
        await server.stall(stall)
        ended = generator.clock.now()
        await loading
        connections.close()
    assert len(generator.samples) == rate * seconds
    assert generator.samples.codes() == {"200": rate * seconds}
    in_it = generator.samples.intended_in(began, ended)
    assert len(in_it) >= rate * stall - 1
    # The server goes on between these two readings of its clock and ours.
    assert all(sample.latency >= ended - sample.intended - 0.05 for sample in in_it.all)
    assert sorted(generator.samples.latencies())[-6] > 0.9 * stall  # p99 of 600


async def test_a_client_that_waits_sees_the_same_stall_once() -> None:
    async with fake_server() as server:
        server.seconds = 0.005
        generator, connections = _generator(server)
        loading = asyncio.ensure_future(generator.closed_loop([_query(connections)], clients=1, seconds=2))
        await asyncio.sleep(0.5)
        await server.stall(1)
        await loading
        connections.close()
    assert sum(generator.samples.latencies() > 0.5) == 1


async def test_queries_that_are_late_are_sent_all_the_same_and_their_lag_is_known() -> None:
    async with fake_server() as server:
        generator, connections = _generator(server)
        query = _query(connections)

        async def block() -> None:
            await asyncio.sleep(0.1)
            time.sleep(0.3)  # noqa: ASYNC251 - the generator's loop is busy with something else

        blocking = asyncio.ensure_future(block())
        await generator.open_loop(((i / 100, query) for i in range(60)), seconds=10)
        await blocking
        connections.close()
    lags = generator.samples.lags()
    assert len(lags) == 60
    assert sum(lags > 0.1) >= 15
    assert all(generator.samples.latencies() >= lags[[s.code == "200" for s in generator.samples.all]])


async def test_it_ends_when_it_is_enough() -> None:
    async with fake_server() as server:
        generator, connections = _generator(server)
        query = _query(connections)
        endless = ((i / 100, query) for i in itertools.count())
        await generator.open_loop(endless, seconds=600, enough=lambda: len(generator.samples) >= 5)
        connections.close()
    assert 5 <= len(generator.samples) <= 100


async def test_a_run_that_is_given_up_sends_nothing_more() -> None:
    wrong: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    async with fake_server() as server:
        generator, connections = _generator(server)
        query = _query(connections)
        running = asyncio.ensure_future(generator.open_loop(((i * 0.2, query) for i in range(100)), seconds=60))
        await asyncio.sleep(0.3)
        running.cancel()
        await asyncio.wait([running])
        sent = sum(server.received.values())
        await asyncio.sleep(0.4)
        connections.close()
    assert sum(server.received.values()) == sent == 2
    assert wrong == []


async def test_what_becomes_of_queries() -> None:
    async with fake_server() as server:
        server.seconds = 0.2
        generator, connections = _generator(server, timeout=0.1)
        timeout = await generator.send(_query(connections), generator.clock.now())
        left = await generator.send(_query(connections, patience=0.01), generator.clock.now())
        too_late = await generator.send(_query(connections), generator.clock.now() - 1)
        server.seconds = 0
        refused = await generator.send(_query(connections, b"refuse"), generator.clock.now())
        good = await generator.send(_query(connections), generator.clock.now())
        connections.close()
    gone = await generator.send(_query(connections), generator.clock.now())
    codes = [sample.code for sample in (timeout, left, too_late, refused, good, gone)]
    assert codes == ["timeout", "left", "timeout", "429", "200", "ConnectionRefusedError"]
    assert generator.samples.codes().keys() == set(codes)
    assert timeout.latency >= 0.1
    assert too_late.latency >= 1


async def test_a_query_of_several_requests_is_done_with_the_last_and_as_good_as_the_worst() -> None:
    async with fake_server() as server:
        server.seconds = 0.05
        generator, connections = _generator(server)
        good = await generator.send(_query(connections, b"a", b"b", b"c"), generator.clock.now())
        at_once = server.most_inside
        server.one_at_a_time()
        in_turn = await generator.send(_query(connections, b"a", b"b", b"c"), generator.clock.now())
        bad = await generator.send(_query(connections, b"a", b"refuse", b"c"), generator.clock.now())
        connections.close()
    assert (good.code, good.images, at_once) == ("200", 3, 3)
    assert in_turn.latency >= 3 * 0.05
    assert bad.code == "429"


async def test_arrivals_by_chance_have_their_rate_and_their_seed() -> None:
    queries = [Query((b"%d" % i,)) for i in range(4)]

    def first(number: int, seed: int) -> list[tuple[float, Query]]:
        return list(itertools.islice(poisson(queries, 50, seed), number))

    arrivals = first(10_000, seed=0)
    assert arrivals == first(10_000, seed=0) != first(10_000, seed=1)
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 50, rel=0.05)
    assert spread == pytest.approx(mean, rel=0.05)  # an exponential distribution's
    assert {query for _, query in arrivals} == set(queries)
