"""Servers that are started here because a target has no URL: ours and the plain one, both on the same bundle."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

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
        copy = _copied(bundle, Path(stack.enter_context(TemporaryDirectory())))
        flags = ["--model-repository", str(copy.parent.parent), "--engine", engine]
        service = stack.enter_context(own_service("service", *flags))
        address = Address(service.url.removesuffix("/v1/classify"), service.metrics_url, service.pid, copy)
        addresses |= {preset: address for preset in mixers if PRESETS[preset].engine == engine}
    if "plain" in presets:
        server = stack.enter_context(plain_server(bundle))
        addresses["plain"] = Address(server.url, pid=server.pid)
    return addresses


def _copied(bundle: Path, repository: Path) -> Path:
    """The bundle in a repository of its own, where its manifest may be changed; the large files are links."""
    copy = repository / bundle.parent.name / bundle.name
    shutil.copytree(bundle, copy, copy_function=lambda source, link: Path(link).symlink_to(source))
    manifest = copy / "manifest.json"
    manifest.unlink()
    shutil.copyfile(bundle / "manifest.json", manifest)
    return copy
