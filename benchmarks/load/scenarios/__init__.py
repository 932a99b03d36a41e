"""The named ways to load a server; names as in MLPerf Inference where it has the like."""

from collections.abc import Awaitable, Callable

from benchmarks.load.scenarios.closed_loop import multi_stream, offline, single_stream
from benchmarks.load.scenarios.overload import overload
from benchmarks.load.scenarios.parameters import Parameters
from benchmarks.load.scenarios.server import server
from benchmarks.load.scenarios.soak import soak
from benchmarks.load.scenarios.sweep import sweep
from benchmarks.load.session import Session

Scenario = Callable[[Session, Parameters, int], Awaitable[None]]  # a session, its parameters, which repeat it is

SCENARIOS: dict[str, Scenario] = {
    "single-stream": single_stream,
    "multi-stream": multi_stream,
    "offline": offline,
    "server": server,
    "overload": overload,
    "sweep": sweep,
    "soak": soak,
}
