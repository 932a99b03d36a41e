import subprocess
import sys

import pytest

from service.lanes.memory import bound_memory, give_back, held_bytes

MIB = 2**20


def test_what_a_process_holds() -> None:
    before = held_bytes()
    block = b"x" * (64 * MIB)
    assert held_bytes() - before > 32 * MIB
    assert block[-1:] == b"x"
    assert held_bytes("self") == pytest.approx(held_bytes(), rel=0.5)


def test_a_process_that_is_gone_holds_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert held_bytes(process.pid) == 0


def test_to_give_back_what_is_free_changes_nothing_that_is_held() -> None:
    block = b"x" * MIB
    give_back()
    assert block == b"x" * MIB


def test_an_allocation_beyond_the_bound_fails_and_others_do_not() -> None:
    program = f"""
from service.lanes.memory import bound_memory, held_bytes
bound_memory(held_bytes() + 100 * {MIB})
held = bytearray(60 * {MIB})
try:
    bytearray(60 * {MIB})
except MemoryError:
    print("too much")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "too much\n"


def test_no_bound() -> None:
    bound_memory(0)
    assert bytearray(100 * MIB)
