"""Who reads when, and what the event loop gets done between two turns."""

import asyncio
import time
from functools import partial

import pytest

from service.edge.turns import LARGE_BYTES, LARGE_SECONDS, TASKS_AT_ONCE, TURN_SECONDS, WAITING_MOST_BYTES, Turns

pytestmark = pytest.mark.anyio


class Reader:
    """Takes a little of a turn, or all of it."""

    def __init__(self, name: str, read: list[str], seconds: float = 0.0) -> None:
        self.name = name
        self._read = read
        self._seconds = seconds

    def abort(self) -> None:
        self._read.append(f"{self.name} is aborted")

    def read_on(self, since: float | None = None) -> None:
        self.since = since
        if self.name == "fails":
            raise AssertionError("a fault of ours")
        self._read.append(self.name)
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            pass


async def test_who_comes_while_there_is_time_reads_at_once() -> None:
    turns, read = Turns(), list[str]()
    for name in "ab":
        turns.take(Reader(name, read), 1)
        assert read[-1] == name


async def test_who_comes_when_a_turn_is_over_waits_for_the_next_one_and_the_loop_comes_between() -> None:
    turns, read = Turns(), list[str]()
    for name in "abcd":
        turns.take(Reader(name, read, 2 * TURN_SECONDS), 1)
    assert read == ["a"]
    for name in "bcd":
        await asyncio.sleep(0)
        assert read[-1] == name
    await asyncio.sleep(0)
    turns.take(Reader("e", read), 1)
    assert read == list("abcde")


async def test_several_share_a_turn_and_nobody_overtakes() -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS), 1)
    for name in "abc":
        turns.take(Reader(name, read), 1)
    await asyncio.sleep(0)
    assert read == ["long", "a", "b", "c"]


async def test_who_leaves_is_not_waited_for_and_who_asks_twice_has_one_place() -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS), 1)
    gone, stays = Reader("gone", read), Reader("stays", read)
    for reader in (gone, stays, stays):
        turns.take(reader, 1)
    assert turns.leave(gone) is not None
    assert turns.leave(gone) is None
    for _ in range(3):
        await asyncio.sleep(0)
    assert read == ["long", "stays"]


async def test_who_asks_again_keeps_its_place() -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS), 1)
    first, second = Reader("first", read), Reader("second", read)
    for reader in (first, second, first):
        turns.take(reader, 1)
    await asyncio.sleep(0)
    assert read == ["long", "first", "second"]
    assert turns._bytes == 0


async def test_who_waits_is_told_since_when() -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS), 1)
    waits, behind = Reader("waits", read, 2 * TURN_SECONDS), Reader("behind", read)
    came = time.monotonic()
    turns.take(waits, 1)
    turns.take(behind, 1)
    all_here = time.monotonic()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waits.since is not None
    assert behind.since is not None
    assert came <= waits.since <= behind.since <= all_here


async def test_no_more_waits_than_there_is_memory_for() -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS), 1)
    turns.take(Reader("little", read), 1)
    for name in "abc":
        turns.take(Reader(name, read), WAITING_MOST_BYTES // 2)
    assert read == ["long", "a", "b"]
    await asyncio.sleep(0)
    assert read == ["long", "a", "b", "little", "c"]
    assert turns._bytes == 0


async def test_who_brings_much_holds_nobody_up_who_brings_little_and_is_read_all_the_same() -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS), 1)
    for name in "AB":
        turns.take(Reader(name, read, 2 * TURN_SECONDS), LARGE_BYTES + 1)
    for name in "ab":
        turns.take(Reader(name, read, 2 * TURN_SECONDS), LARGE_BYTES)
    for _ in range(2):
        await asyncio.sleep(0)
    assert read == ["long", "a", "A", "b", "B"]


async def test_who_brings_much_piece_by_piece_brings_much() -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS), 1)
    much = Reader("much", read)
    turns.take(much, LARGE_BYTES)
    came = time.monotonic()
    for _ in range(2):
        turns.take(much, 1)
    turns.take(Reader("little", read), 1)
    await asyncio.sleep(0)
    assert read == ["long", "little", "much"]
    assert much.since is not None
    assert much.since <= came
    assert turns._bytes == 0


async def test_those_who_bring_much_and_take_long_are_read_one_in_a_turn() -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS), 1)
    for name in "ABC":
        turns.take(Reader(name, read, 2 * LARGE_SECONDS), LARGE_BYTES + 1)
    for name in "ABC":
        await asyncio.sleep(0)
        assert read[-1] == name


async def test_in_a_turn_a_few_tasks_are_begun_and_what_needs_none_is_read_before_the_others() -> None:
    turns, read, begun = Turns(), list[str](), list[int]()
    for number in range(3 * TASKS_AT_ONCE):
        turns.begin_task(partial(begun.append, number))
    turns.take(Reader("needs none", read), 1)
    assert begun == list(range(TASKS_AT_ONCE))
    assert read == ["needs none"]
    for turn in (2, 3):
        await asyncio.sleep(0)
        assert begun == list(range(turn * TASKS_AT_ONCE))
    turns.begin_task(partial(begun.append, -1))
    assert begun[-1] == 3 * TASKS_AT_ONCE - 1  # of this turn's none is left
    await asyncio.sleep(0)
    assert begun[-1] == -1


async def test_a_reader_that_fails_is_ended_and_the_others_read(caplog: pytest.LogCaptureFixture) -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS), 1)
    for name in ("fails", "reads"):
        turns.take(Reader(name, read), 1)
    await asyncio.sleep(0)
    assert read == ["long", "fails is aborted", "reads"]
    assert "a connection failed" in caplog.text
