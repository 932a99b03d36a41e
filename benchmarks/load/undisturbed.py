"""What keeps a generator in time while it loads: no collections of garbage, and real-time priority if permitted."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[str]:
    """For this thread, and threads and processes that it starts; yields the priority: "real-time" or "ordinary".

    A server that shares its cores would let it wait for a time slice, some milliseconds, and a collection stops it for
    as long. It takes little, and what it takes is reported.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with _real_time() as permitted:
            yield "real-time" if permitted else "ordinary"
    finally:
        if enabled:
            gc.enable()


def priority() -> str:
    """That a generator gets here."""
    with undisturbed() as here:
        return here


@contextmanager
def _real_time() -> Iterator[bool]:
    try:
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, OSError):  # another system than Linux; or the process may not
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, *before)
