"""Who reads when, and what the event loop gets done between two turns."""

import asyncio
import time

import pytest

from service.edge.turns import TURN_SECONDS, Turns

pytestmark = pytest.mark.anyio


class Reader:
    """Takes a little of a turn, or all of it."""

    def __init__(self, name: str, read: list[str], seconds: float = 0.0) -> None:
        self.name = name
        self._read = read
        self._seconds = seconds

    def read_on(self) -> None:
        self._read.append(self.name)
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            pass


async def test_who_comes_while_there_is_time_reads_at_once() -> None:
    turns, read = Turns(), list[str]()
    for name in "ab":
        turns.take(Reader(name, read))
        assert read[-1] == name


async def test_who_comes_when_a_turn_is_over_waits_for_the_next_one_and_the_loop_comes_between() -> None:
    turns, read = Turns(), list[str]()
    for name in "abcd":
        turns.take(Reader(name, read, 2 * TURN_SECONDS))
    assert read == ["a"]
    for name in "bcd":
        await asyncio.sleep(0)
        assert read[-1] == name
    await asyncio.sleep(0)
    turns.take(Reader("e", read))
    assert read == list("abcde")


async def test_several_share_a_turn_and_nobody_overtakes() -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS))
    for name in "abc":
        turns.take(Reader(name, read))
    await asyncio.sleep(0)
    assert read == ["long", "a", "b", "c"]


async def test_who_leaves_is_not_waited_for_and_who_asks_twice_has_one_place() -> None:
    turns, read = Turns(), list[str]()
    turns.take(Reader("long", read, 2 * TURN_SECONDS))
    gone, stays = Reader("gone", read), Reader("stays", read)
    for reader in (gone, stays, stays):
        turns.take(reader)
    assert turns.leave(gone)
    assert not turns.leave(gone)
    for _ in range(3):
        await asyncio.sleep(0)
    assert read == ["long", "stays"]
