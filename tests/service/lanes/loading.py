"""What a lane of the tests is told to load, and one batch of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from service.lanes.lane import A_DAY, BatchAnswer, Lane, settle
from service.lanes.orders import LoadOrder
from service.lanes.wire import Item

_ORDER = LoadOrder(
    bundle="",
    engine="auto",
    providers=["CPUExecutionProvider"],
    threads=1,
    wide_threads=0,
    max_batch_size=4,
    max_pixels=1000,
    memory=0,
    measure=True,
)


def order(bundle: Path, **changes: object) -> LoadOrder:
    """To load `bundle` in a lane of one thread, with batches of up to four images."""
    return replace(_ORDER, bundle=str(bundle), **changes)


async def run(lane: Lane, items: Sequence[Item], longest: float = 60, alone: bool = False) -> BatchAnswer:
    """Raises LaneLost."""
    answered: asyncio.Future[BatchAnswer] = asyncio.get_running_loop().create_future()
    lane.send(items, partial(settle, answered), longest=longest, wide=False, alone=alone, budget=A_DAY)
    return await answered
