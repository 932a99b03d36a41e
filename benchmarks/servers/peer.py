"""The servers of others, started by their recipes in `peers`, and stopped while it is not their turn."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.servers.own import free_port, running

PEERS = Path(__file__).parent / "peers"


@contextmanager
def peer_server(recipe: str, engine: str, bundle: Path, answers: Callable[[str], bool]) -> Iterator[tuple[str, int]]:
    """`peers/RECIPE/start.sh` on a free port, which is stopped once `answers` is true of its URL: see `awake`.

    Yields that URL and its process. Raises ValueError if the recipe's environment is missing, and RuntimeError as
    `own_service` does.
    """
    folder = PEERS / recipe
    if not (folder / ".venv").exists():
        raise ValueError(f"{folder} has no .venv: its README has the command; or give {recipe} a URL")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(folder / "start.sh"), str(bundle), str(port)]
    with running(command, lambda: answers(url), _kill, {"ENGINE": engine}, process_group=0) as pid:
        _signal(pid, signal.SIGSTOP)
        yield url, pid


@contextmanager
def awake(pid: int) -> Iterator[None]:
    """Let it run for the length of the block. Idle ones take up to a quarter of a core from those who are loaded."""
    _signal(pid, signal.SIGCONT)
    try:
        yield
    finally:
        _signal(pid, signal.SIGSTOP)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Its workers as well, of which some outlive their parent, and some are in groups of their own."""
    _signal(process.pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    """The parent first, so that it starts no child meanwhile."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
