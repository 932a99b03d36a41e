"""Which upload ends, and when: on virtual time."""

import asyncio
from collections.abc import Coroutine

import pytest

from service.edge.uploads import PATIENCE_SECONDS, Upload, Uploads
from service.errors import Overloaded, RequestTimeout, ServiceError
from tests.virtual_time import run_virtually

RATE = 500.0
MOST = 1_000_000


class Body:
    """A client's upload, and what it was told."""

    def __init__(self, uploads: Uploads, address: str = "192.0.2.1", announced: float = 16 * 2**20) -> None:
        self.uploads = uploads
        self.told: list[ServiceError] = []
        self.held_back = False
        self.upload: Upload = uploads.begin(address, announced, self.told.append, lambda: self.held_back)

    def send(self, count: int) -> None:
        if not self.told:
            self.uploads.receive(self.upload, count)

    async def send_each_second(self, count: int, seconds: int) -> None:
        for _ in range(seconds):
            self.send(count)
            await asyncio.sleep(1)


def uploads() -> Uploads:
    return Uploads(MOST, RATE)


def _fail(error: ServiceError) -> None:
    raise error


def virtually(scenario: Coroutine[None, None, None]) -> None:
    run_virtually(scenario)


@pytest.mark.parametrize(
    ("rate", "ends"),
    [(0, True), (1, True), (212, True), (499, False), (500, False), (10_000, False)],
)
def test_a_steady_upload_ends_if_it_is_slower_than_the_least_rate(rate: int, ends: bool) -> None:
    async def scenario() -> None:
        body = Body(uploads())
        await body.send_each_second(rate, seconds=60)
        assert bool(body.told) == ends

    virtually(scenario())


def test_what_it_is_told_says_that_it_was_the_upload() -> None:
    async def scenario() -> None:
        body = Body(uploads(), announced=1000)
        body.send(10)
        await asyncio.sleep(60)
        (error,) = body.told
        assert isinstance(error, RequestTimeout)
        assert error.reason == "slow_upload"
        assert "the upload is too slow: 10 of 1000 bytes of the body arrived in 11." in error.message

    virtually(scenario())


def test_silence_is_borne_for_a_while_however_much_came_before() -> None:
    async def scenario() -> None:
        for silent in (PATIENCE_SECONDS - 1, PATIENCE_SECONDS + 2):
            body = Body(uploads())
            body.send(MOST // 2)
            await asyncio.sleep(silent)
            assert bool(body.told) == (silent > PATIENCE_SECONDS)

    virtually(scenario())


def test_who_waits_for_us_is_not_slow() -> None:
    async def scenario() -> None:
        body = Body(uploads())
        body.held_back = True
        await asyncio.sleep(600)
        assert not body.uploads.end_most_stalled()
        body.held_back = False
        await asyncio.sleep(PATIENCE_SECONDS - 1)
        assert not body.told

    virtually(scenario())


def test_a_process_that_stood_still_does_not_blame_its_clients() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        body = Body(uploads())
        await body.send_each_second(1000, seconds=3)
        loop._now += 3600  # type: ignore[attr-defined]
        await asyncio.sleep(2)
        assert not body.told
        await asyncio.sleep(PATIENCE_SECONDS + 2)
        assert body.told

    virtually(scenario())


def test_bytes_are_charged_as_they_come_and_until_the_request_is_answered() -> None:
    async def scenario() -> None:
        account = uploads()
        bodies = [Body(account, announced=MOST) for _ in range(50)]
        assert account.held == 0
        for body in bodies:
            body.send(10)
        account.complete(bodies[0].upload)
        assert account.held == 500
        await asyncio.sleep(2 * PATIENCE_SECONDS)
        assert not bodies[0].told, "whole, it cannot be slow"
        assert all(body.told for body in bodies[1:])
        assert account.held == 10
        account.release(bodies[0].upload)
        account.release(bodies[0].upload)
        assert account.held == 0

    virtually(scenario())


def test_where_room_runs_out_the_most_stalled_goes_first() -> None:
    async def scenario() -> None:
        account = uploads()
        stalled, slow, steady = Body(account), Body(account), Body(account)
        for body in (stalled, slow, steady):
            body.send(1000)
        for _ in range(4):
            await asyncio.sleep(1)
            slow.send(200)
            steady.send(10_000)
        newcomer = Body(account)
        newcomer.send(MOST - account.held)
        assert not stalled.told
        newcomer.send(1)
        assert isinstance(stalled.told[0], Overloaded)
        assert stalled.told[0].reason == "inflight_bytes"
        assert not slow.told
        assert account.end_most_stalled()
        assert slow.told[0].reason == "slow_upload"
        assert not account.end_most_stalled(), "nobody else stalls"
        assert not steady.told
        assert not newcomer.told

    virtually(scenario())


def test_where_nobody_stalls_the_latest_is_refused_and_raises() -> None:
    async def scenario() -> None:
        account = uploads()
        first = Body(account)
        await asyncio.sleep(0.1)
        second = Body(account)
        first.send(MOST // 2)
        second.send(MOST // 2)
        with pytest.raises(Overloaded, match="1000001 bytes are inside, of 1000000"):
            second.send(1)
        assert account.held == MOST // 2
        assert not first.told

    virtually(scenario())


@pytest.mark.parametrize("whole", [False, True])
def test_a_small_upload_does_not_go_for_large_ones(whole: bool) -> None:
    async def scenario() -> None:
        account = uploads()
        bodies = [Body(account) for _ in range(10)]
        for body in bodies:
            body.send(MOST // 10)
        await asyncio.sleep(0.1)
        if whole:
            account.begin("192.0.2.1", 700, _fail, lambda: False, received=700)
        else:
            small = Body(account, announced=700)
            small.send(600)
            assert not small.told
        assert [bool(body.told) for body in bodies].count(True) == 1

    virtually(scenario())


@pytest.mark.parametrize(
    ("greedy", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_whoever_holds_more_than_a_share_goes_first(greedy: str, other: str, same: bool) -> None:
    async def scenario() -> None:
        account = uploads()
        bodies = []
        for address in 6 * [greedy] + 4 * [other]:
            bodies.append(Body(account, address))
            bodies[-1].send(MOST // 10)
            await asyncio.sleep(0.01)
        if same:  # one network, which holds everything: the latest
            with pytest.raises(Overloaded):
                bodies[-1].send(1)
        else:  # the latest of the greedy one's
            bodies[-1].send(1)
            assert [bool(body.told) for body in bodies] == 5 * [False] + [True] + 4 * [False]

    virtually(scenario())
