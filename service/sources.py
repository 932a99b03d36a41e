"""What `--model` names -> a bundle: one that is there, or one that a process of the export stage makes in a cache."""

import fcntl
import hashlib
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import FrameType

from service import __version__
from service.bundles.bundle import BundleError, choose_bundles, list_bundles, load_bundle, sha256_of
from service.bundles.manifest import SCHEMA_VERSION
from service.settings import Settings

log = logging.getLogger(__name__)

_HUB = "hf:"
_COMMIT = re.compile(r"@[0-9a-f]{40}$")
_EXPORT = [sys.executable, "-m", "model_export"]


class ExportFailed(Exception):
    """The export stage has said on standard error why there is no bundle."""


def settings_for(settings: Settings) -> Settings:
    """The same, with the repository and the model that `settings.model` stands for, if it is given.

    A checkpoint is exported once: as long as it is unchanged, later starts find its bundle, and those that come
    meanwhile wait for it. A SIGTERM or SIGINT ends the export, and then this process with 0.

    Raises BundleError if there is no export stage here, the cache cannot be written or a bundle is not as its folder
    says, ExportFailed if a source becomes no bundle.
    """
    if settings.model is None:
        return settings
    bundle = _bundle(settings.model, settings.cache)
    return settings.model_copy(
        update={"model_repository": bundle.parent.parent, "models": [f"{bundle.parent.name}/{bundle.name}"]}
    )


def _bundle(source: str, cache: Path) -> Path:
    path = Path(source).absolute()
    if any(path.glob("*/manifest.json")):  # a model's folder: its latest version
        latest, _ = choose_bundles(list_bundles(path.parent), [path.name])
        if not latest:
            told = "its folders with a manifest.json are no versions (1, 2, ...) of a model, or its name is no model's"
            raise BundleError(f"MIXER_MODEL {source}: {told}")
        (path,) = latest
    if (path / "manifest.json").is_file():
        manifest = load_bundle(path, verified=True).manifest  # its files are verified when it is loaded
        if (manifest.name, manifest.version) != (path.parent.name, path.name):
            told = f"its manifest calls it {manifest.name}/{manifest.version}"
            raise BundleError(f"MIXER_MODEL {source}: {told}, and its folder has to be called so")
        return path
    if source.startswith(_HUB) and not _COMMIT.search(source):
        # Which commit it is today is the Hub's to say, or its cache's where the Hub is not reached.
        source = f"{source.partition('@')[0]}@{Path(_export('download', source)).name}"
    repository = cache / _key(source)
    name = _name(source)
    bundle = repository / name / "1"
    if not (bundle / "manifest.json").is_file():
        try:
            repository.mkdir(parents=True, exist_ok=True)
            lock = FileIO(repository / ".lock", "a")
        except OSError as error:
            raise BundleError(f"MIXER_CACHE {cache}: {error.strerror}") from None
        with lock:
            _acquire(lock, source)
            if not (bundle / "manifest.json").is_file():
                arguments = ("--name", name, "--version", "1", "--repository", str(repository))
                _export("export", source, *arguments, lock=lock)
    return bundle


def _acquire(lock: FileIO, source: str) -> None:
    """Wait until no other process has it; the kernel takes it from whoever ends. Not where there are no locks."""
    with suppress(OSError):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another start, which exports %s into %s", source, Path(os.fsdecode(lock.name)).parent)
            fcntl.flock(lock, fcntl.LOCK_EX)


def _key(source: str) -> str:
    """What a bundle depends on: the source's bytes, or its commit, and who exports it."""
    path = Path(source)
    told = "" if path.exists() else source
    digest = hashlib.sha256(f"{__version__} {SCHEMA_VERSION} {told}".encode())
    if path.name.endswith(".index.json"):  # the weights are in the files beside it
        path = path.parent
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(f"{file.name} {sha256_of(file)}".encode())
    return digest.hexdigest()[:16]


def _name(source: str) -> str:
    """A model's name after the file, the folder or the repository."""
    path = Path(source.partition("@")[0].removeprefix(_HUB) if source.startswith(_HUB) else Path(source).absolute())
    stem = path.stem if path.is_file() else path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-") or "model"


def _export(*arguments: str, lock: FileIO | None = None) -> str:
    """Run a command of the export stage, whose progress goes to the terminal; what it prints.

    It has the lock too: if this process is killed, others wait until that one has ended.
    """
    source = arguments[1]
    if not all(map(importlib.util.find_spec, ("model_export", "torch", "onnx"))):
        if not source.startswith(_HUB) and not Path(source).exists():
            raise BundleError(f"MIXER_MODEL {source}: no such file or folder")
        told = "pip install 'mixer-serving[export]', or in a checkout make setup"
        raise BundleError(f"MIXER_MODEL {source} is to be exported first: {told}")
    ended: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        ended.append(number)
        process.terminate()

    # In a session of its own, so that Ctrl-C reaches it once.
    process = subprocess.Popen(
        [*_EXPORT, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        pass_fds=[lock.fileno()] if lock else (),
    )
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        printed, _ = process.communicate()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if ended:
        os._exit(0)
    if process.returncode:
        raise ExportFailed
    return printed.strip()
