import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import EngineFailure
from service.lanes.shared_cores import Turns
from tests.virtual_time import run_virtually


class Cores:
    """Notices whoever is on the cores at the wrong time."""

    def __init__(self, images: int = 4) -> None:
        self.turns, self.decoding, self.passing = Turns(images), 0, 0
        self.log: list[str] = []

    async def decode(self, seconds: float = 1) -> None:
        await self.turns.begin_decoding()
        self.decoding += 1
        assert not self.passing
        self.log.append("decode")
        await asyncio.sleep(seconds)
        self.decoding -= 1
        self.turns.end_decoding()

    async def run_pass(self, seconds: float = 1) -> None:
        async with self.turns.passing():
            self.passing += 1
            assert self.passing == 1
            assert not self.decoding
            self.log.append("pass")
            await asyncio.sleep(seconds)
            self.passing -= 1


def play(*work: Coroutine[Any, Any, None]) -> None:
    async def all_of_it() -> None:
        await asyncio.gather(*work)

    run_virtually(all_of_it())


def test_decoding_goes_side_by_side() -> None:
    async def three() -> float:
        cores = Cores()
        await asyncio.gather(*(cores.decode() for _ in range(3)))
        return asyncio.get_running_loop().time()

    assert run_virtually(three()) == 1


def test_a_waiting_pass_lets_a_batch_be_decoded_first_and_no_more() -> None:
    cores = Cores(images=4)
    play(cores.decode(), cores.run_pass(), *(cores.decode() for _ in range(9)), cores.run_pass())
    assert cores.log == ["decode"] * 4 + ["pass"] + ["decode"] * 4 + ["pass"] + ["decode"] * 2


def test_without_a_pass_decoding_never_waits() -> None:
    cores = Cores(images=2)
    play(*(cores.decode() for _ in range(7)))
    assert cores.log == ["decode"] * 7


Step = tuple[str, int, int, int | None]  # kind, starts at, takes, cancelled after
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.sampled_from(["decode", "pass"]), st.integers(0, 9), st.integers(0, 5), st.none() | st.integers(0, 9)),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_whoever_comes_and_goes_everybody_has_a_turn(plan: list[Step]) -> None:
    """A lost turn would leave somebody waiting for ever, which the loop reports."""
    cores = Cores()

    async def one(kind: str, at: int, takes: int, cancelled_after: int | None) -> None:
        await asyncio.sleep(at)
        work = asyncio.ensure_future(cores.decode(takes) if kind == "decode" else cores.run_pass(takes))
        if cancelled_after is not None:
            asyncio.get_running_loop().call_later(cancelled_after, work.cancel)
        await asyncio.gather(work, return_exceptions=True)
        if work.cancelled():
            return
        assert work.exception() is None

    # A cancelled one leaves the cores' books open: only turns are looked at then.
    if any(step[3] is not None for step in plan):
        cores.decode, cores.run_pass = _bare_decode(cores), _bare_pass(cores)  # type: ignore[method-assign]
    play(*(one(*step) for step in plan))


def _bare_decode(cores: Cores):  # type: ignore[no-untyped-def]
    async def decode(seconds: float) -> None:
        await cores.turns.begin_decoding()
        try:
            await asyncio.sleep(seconds)
        finally:
            cores.turns.end_decoding()

    return decode


def _bare_pass(cores: Cores):  # type: ignore[no-untyped-def]
    async def run_pass(seconds: float) -> None:
        async with cores.turns.passing():
            await asyncio.sleep(seconds)

    return run_pass


def test_nobody_waits_to_decode_behind_a_pass_that_does_not_come_back() -> None:
    async def hang() -> list[str]:
        cores, seen = Cores(), []

        async def decode() -> None:
            try:
                await cores.decode()
                seen.append("decoded")
            except EngineFailure:
                seen.append("told")

        hanging = asyncio.create_task(cores.run_pass(60))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(decode()) for _ in range(2)]
        await asyncio.sleep(1)
        cores.turns.give_up()
        await asyncio.gather(*waiting)
        await decode()
        assert asyncio.get_running_loop().time() < 60
        await hanging  # it came back after all
        await decode()
        return seen

    assert run_virtually(hang()) == ["told", "told", "told", "decoded"]
