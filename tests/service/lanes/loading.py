"""What a lane of the doubles is told to load."""

from dataclasses import replace
from pathlib import Path

from service.lanes.orders import LoadOrder

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
