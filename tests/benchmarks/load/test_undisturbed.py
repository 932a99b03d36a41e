"""A generator goes first where it may, and everything is as before afterwards."""

import gc
import os

import pytest

from benchmarks.load.undisturbed import undisturbed


def test_nothing_stops_a_generator_meanwhile() -> None:
    before = os.sched_getscheduler(0)
    with undisturbed() as priority:
        assert not gc.isenabled()
        assert (priority == "real-time") == (os.sched_getscheduler(0) == os.SCHED_RR)
        with undisturbed() as inner:
            assert inner == priority
        assert not gc.isenabled()
    assert gc.isenabled()
    assert os.sched_getscheduler(0) == before


def test_one_that_may_not_go_first_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with undisturbed() as priority:
        assert priority == "ordinary"
    assert gc.isenabled()
