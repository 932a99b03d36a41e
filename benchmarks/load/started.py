"""Servers that are started here because a target has no URL: ours and the plain one, both on the same bundle."""

from contextlib import ExitStack
from pathlib import Path

from benchmarks.load.target import PRESETS, Address
from benchmarks.servers.own import own_service, plain_server


def start(presets: set[str], bundle: Path, stack: ExitStack) -> dict[str, Address]:
    """Start what these stand for, one service for all of Mixer's that want the same engine, until `stack` is closed.

    Returns addresses by preset.

    Raises ValueError for a preset that is not started here or a bundle that is none, RuntimeError if a server fails.
    """
    mixers = {preset for preset in presets if preset.startswith("mixer")}
    if others := sorted(presets - mixers - {"plain"}):
        raise ValueError(f"target {others[0]} needs a URL: only mixer... and plain are started here")
    if presets and not (bundle / "manifest.json").is_file():
        raise ValueError(f"{bundle} is not a bundle (<repository>/<name>/<version>)")
    addresses: dict[str, Address] = {}
    for engine in sorted({PRESETS[preset].engine for preset in mixers}):
        flags = ["--model-repository", str(bundle.parent.parent), "--models", f"{bundle.parent.name}/{bundle.name}"]
        service = stack.enter_context(own_service("service", *flags, "--engine", engine))
        address = Address(service.url.removesuffix("/v1/classify"), service.metrics_url, service.pid)
        addresses |= {preset: address for preset in mixers if PRESETS[preset].engine == engine}
    if "plain" in presets:
        server = stack.enter_context(plain_server(bundle))
        addresses["plain"] = Address(server.url, pid=server.pid)
    return addresses
