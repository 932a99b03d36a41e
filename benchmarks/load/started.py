"""Servers that are started here because a target has no URL, all on the same bundle."""

import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.load.forms import encode
from benchmarks.load.images import read_images
from benchmarks.load.target import PRESETS, Address, make_target
from benchmarks.servers.own import own_service, plain_server
from benchmarks.servers.peer import peer_server


def start(presets: set[str], bundle: Path, stack: ExitStack) -> dict[str, Address]:
    """Start what these stand for, one service for all of Mixer's that want the same engine, until `stack` is closed.

    Returns addresses by preset.

    Raises ValueError for a preset that is not started here or a bundle that is none, RuntimeError if a server fails.
    """
    mixers = {preset for preset in presets if preset.startswith("mixer")}
    peers = sorted(preset for preset in presets if PRESETS[preset].recipe)
    if others := sorted(presets - mixers - {"plain", *peers}):
        raise ValueError(f"target {others[0]} needs a URL: there is no recipe to start it with")
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
        url, pid = stack.enter_context(plain_server(bundle))
        addresses["plain"] = Address(url, pid=pid)
    for preset in peers:
        kind = PRESETS[preset]
        answers = partial(_answers, preset, bundle)
        url, pid = stack.enter_context(peer_server(kind.recipe, kind.engine, bundle, answers))
        addresses[preset] = Address(url, pid=pid, sleeps=True)
    return addresses


def _answers(preset: str, bundle: Path, url: str) -> bool:
    """Whether it has predictions; that a port is open says little of the workers behind it."""
    target = make_target(preset, url, model=bundle.parent.name)
    headers, body = encode(target.form, read_images("digits")[:1])
    return httpx.post(target.url, headers=headers, content=body, timeout=5, trust_env=False).is_success


def _copied(bundle: Path, repository: Path) -> Path:
    """The bundle in a repository of its own, where its manifest may be changed; the large files are links."""
    copy = repository / bundle.parent.name / bundle.name
    shutil.copytree(bundle, copy, copy_function=lambda source, link: Path(link).symlink_to(source))
    manifest = copy / "manifest.json"
    manifest.unlink()
    shutil.copyfile(bundle / "manifest.json", manifest)
    return copy
