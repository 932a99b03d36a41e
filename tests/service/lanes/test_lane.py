"""A lane as the front sees it, with threads for processes; `Scripted` ones say whatever a test wants."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from service.errors import EngineFailure, ImageTooLarge, InvalidImage
from service.lanes.lane import Answer, BatchAnswer, Fault, Lane, LaneLost, LoadFailure, Outcome
from service.lanes.orders import Loaded
from service.lanes.process import Spawn
from service.lanes.wire import Item, message, receive, send
from tests.doubles import EchoEngine, FailingEngine, GatedEngine, ThreadLanes, level_png, write_bundle
from tests.service.lanes.loading import order, run

pytestmark = pytest.mark.anyio

LOADED = Loaded("double", "a double", {}, 0.0, 4, {1: 0.1}, 0.0, 0.1, 1)


class Scripted:
    """A lane that loads and then does what a test says with its end of the connection, in a thread."""

    pid = 0

    def __init__(self, script: Callable[[socket.socket], object]) -> None:
        self._script = script
        self.killed = threading.Event()

    def __call__(self, connection: socket.socket) -> "Scripted":
        threading.Thread(target=self._run, args=(connection,), daemon=True).start()
        return self

    def _run(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            assert receive(connection)
            send(connection, {"loaded": asdict(LOADED)})
            self._script(connection)
            connection.recv(1)  # until the front hangs up

    def kill(self) -> None:
        self.killed.set()

    def ending(self) -> str:
        return "as the script says"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path)


def items(*levels: int) -> list[Item]:
    return [Item(level_png(level), 1) for level in levels]


def levels(outcomes: list[Outcome]) -> list[object]:
    """The level of each answer, or what there is instead."""
    return [
        json.loads(outcome.answer)[0]["index"] if isinstance(outcome, Answer) else type(outcome) for outcome in outcomes
    ]


@asynccontextmanager
async def started(spawn: Spawn, bundle: Path, **changes: object) -> AsyncIterator[Lane]:
    lane, _ = await Lane.start(spawn, order(bundle, **changes))
    try:
        yield lane
    finally:
        lane.close()
        await lane.lost


async def test_batch_after_batch_is_answered_in_its_order(bundle: Path) -> None:
    lane, loaded = await Lane.start(ThreadLanes(EchoEngine()), order(bundle))
    assert (loaded.engine, loaded.max_batch_size) == ("double", 4)
    assert not lane.has_wide_engine
    for batch in ([3, 1, 2], [200], [7, 7]):
        answer = await run(lane, items(*batch))
        assert levels(answer.outcomes) == batch
        assert answer.began <= answer.pass_started <= answer.pass_ended
        assert all(isinstance(each, Answer) and each.decode_seconds >= 0 for each in answer.outcomes)
    lane.close()
    await lane.lost


async def test_large_images_come_across(bundle: Path) -> None:
    async with started(ThreadLanes(EchoEngine()), bundle) as lane:
        padded = [Item(level_png(level) + bytes(3 * 2**20), 1) for level in (5, 6)]
        assert levels((await run(lane, padded)).outcomes) == [5, 6]


async def test_errors_are_those_of_the_lane(bundle: Path) -> None:
    async with started(ThreadLanes(FailingEngine()), bundle) as lane:
        batch = [Item(level_png(5, (40, 40)), 1), Item(level_png(5)[:-20], 1), *items(66, 5)]
        outcomes = (await run(lane, batch)).outcomes
    assert levels(outcomes) == [ImageTooLarge, InvalidImage, Fault, 5]
    assert isinstance(outcomes[0], ImageTooLarge)
    assert (outcomes[0].message[:26], outcomes[0].reason) == ("the image has 40x40 pixels", "pixels")


async def test_a_model_that_cannot_be_loaded(bundle: Path) -> None:
    engine = FailingEngine()
    engine.broken = True
    with pytest.raises(LoadFailure, match="poisoned"):
        await Lane.start(ThreadLanes(engine), order(bundle))
    (bundle / "golden" / "logits.npy").unlink()
    with pytest.raises(LoadFailure, match=r"logits\.npy"):
        await Lane.start(ThreadLanes(EchoEngine()), order(bundle))


async def test_a_lane_that_ends_while_it_loads_is_lost(bundle: Path) -> None:
    def spawn(connection: socket.socket) -> Scripted:
        connection.close()
        return Scripted(lambda _: None)

    with pytest.raises(LaneLost):
        await Lane.start(spawn, order(bundle))


async def test_a_process_that_cannot_be_started_leaves_no_socket_behind(bundle: Path) -> None:
    def spawn(connection: socket.socket) -> Scripted:
        with connection:
            raise OSError("no process can be had")

    with pytest.raises(OSError, match="no process"):
        await Lane.start(spawn, order(bundle))


async def test_whoever_gives_up_a_start_ends_the_lane(bundle: Path) -> None:
    class Loading(Scripted):
        told = threading.Event()

        def _run(self, connection: socket.socket) -> None:
            with connection:
                assert receive(connection)
                self.told.set()
                assert not connection.recv(1)

    process = Loading(lambda _: None)
    starting = asyncio.create_task(Lane.start(process, order(bundle)))
    assert await asyncio.to_thread(process.told.wait, 10)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert process.killed.is_set()


async def test_a_lane_that_ends_leaves_its_batch_unanswered(bundle: Path) -> None:
    engine = GatedEngine()
    engine.gate.set()
    spawn = ThreadLanes(engine)
    async with started(spawn, bundle) as lane:
        engine.gate.clear()
        engine.entered = threading.Semaphore(0)
        batch = asyncio.create_task(run(lane, items(1, 2)))
        assert await asyncio.to_thread(engine.entered.acquire, timeout=10)
        spawn.started[0].kill()
        with pytest.raises(LaneLost) as lost:
            await batch
        assert lost.value.reason == "crash"
        assert lane.lost.done()
        with pytest.raises(LaneLost):
            await run(lane, items(3))
        engine.gate.set()


async def test_a_lane_that_hangs_is_ended(bundle: Path) -> None:
    process = Scripted(receive)
    async with started(process, bundle) as lane:
        with pytest.raises(LaneLost) as lost:
            await run(lane, items(1), longest=0.01)
    assert lost.value.reason == "hang"
    assert process.killed.is_set()


async def test_the_time_of_a_batch_ends_with_its_answer(bundle: Path) -> None:
    async with started(ThreadLanes(EchoEngine()), bundle) as lane:
        await run(lane, items(1), longest=60)
        timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert all(timer.cancelled() for timer in timers)


@pytest.mark.parametrize(
    ("alone", "told", "in_decoding"), [(True, False, True), (True, True, False), (False, False, False)]
)
async def test_of_an_image_that_is_alone_it_is_known_whether_it_hung_in_decoding(
    bundle: Path, alone: bool, told: bool, in_decoding: bool
) -> None:
    asked = threading.Event()

    def script(connection: socket.socket) -> None:
        received = receive(connection)
        assert received
        assert received[0]["tell_decoded"] == alone
        if told:
            send(connection, {"decoded": True})
        asked.set()

    async with started(Scripted(script), bundle) as lane:
        batch = asyncio.create_task(run(lane, items(1), alone=alone))
        assert await asyncio.to_thread(asked.wait, 10)
        for _ in range(10):  # what was told lies in the socket
            await asyncio.sleep(0)
        lane.kill("hang")
        with pytest.raises(LaneLost) as lost:
            await batch
    assert lost.value.in_decoding == in_decoding


ONE = {"began": 1.0, "pass": [2.0, 3.0], "items": [[1, 2, 0.5]]}


async def test_an_answer_in_pieces_is_one_answer(bundle: Path) -> None:
    def script(connection: socket.socket) -> None:
        for _ in range(2):
            assert receive(connection)
            for byte in b"".join(message(ONE, [b"a", b"{}"])):
                connection.send(bytes([byte]))

    async with started(Scripted(script), bundle) as lane:
        for _ in range(2):
            assert await run(lane, items(1)) == BatchAnswer([Answer(b"a", b"{}", 0.5)], 1.0, 2.0, 3.0)


RUBBISH = {
    "no answer": {},
    "no object": [1],
    "too few": ONE | {"items": []},
    "too many": ONE | {"items": [[0, 0, 0.0], [0, 0, 0.0]]},
    "no pass": ONE | {"pass": [1.0]},
    "no times": ONE | {"pass": ["a", None]},
    "a time beyond numbers": ONE | {"pass": [2, 10**400]},
    "a time that is not a number": ONE | {"began": float("nan")},
    "decoding for no time": ONE | {"items": [[1, 2, None]]},
    "decoding for ever": ONE | {"items": [[1, 2, float("inf")]]},
    "no sizes": ONE | {"items": [["a", "b", 1]]},
    "not even begun": ONE | {"items": [{"left": True}]},
    "neither answer nor error": ONE | {"items": [{}]},
    "an error of no name": ONE | {"items": [{"error": 1, "message": "", "reason": None}]},
    "more than there is": ONE | {"items": [[100, 100, 0.5]]},
    "less than nothing": ONE | {"items": [[2, -1, 0.5]]},
}


@pytest.mark.parametrize("said", RUBBISH.values(), ids=RUBBISH)
async def test_a_lane_that_makes_no_sense_is_lost(bundle: Path, said: object) -> None:
    """A decoder that a stranger's image has taken over may say anything."""

    def script(connection: socket.socket) -> None:
        assert receive(connection)
        send(connection, said, [b"a", b"{}"])

    process = Scripted(script)
    async with started(process, bundle) as lane:
        with pytest.raises(LaneLost) as lost:
            await run(lane, items(1))
    assert lost.value.reason == "crash"
    assert process.killed.is_set()


async def test_an_error_that_there_is_not_is_a_fault_of_ours(bundle: Path) -> None:
    def script(connection: socket.socket) -> None:
        assert receive(connection)
        send(connection, ONE | {"items": [{"error": "Mapping", "message": "m", "reason": None}]})

    async with started(Scripted(script), bundle) as lane:
        assert levels((await run(lane, items(1))).outcomes) == [EngineFailure]
