"""Bundles on disk: find them in a model repository, verify every byte, read their parts."""

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from service.arrays import FEATURES, LOGITS, FeatureBatch, LogitBatch, Outputs
from service.bundles.manifest import NAME_PATTERN, VERSION_PATTERN, Manifest

log = logging.getLogger(__name__)

Versions = dict[str, Path]  # of a model: version -> bundle, the latest last


class BundleError(Exception):
    """A bundle or repository that cannot be trusted or understood; the message names file and cause."""


@dataclass(frozen=True)
class Bundle:
    """One verified model version: <repository>/<name>/<version>/."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...] | None
    sha256: str = ""  # of manifest.json, which holds that of every other file

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.path / "model.onnx"

    @property
    def tolerances(self) -> dict[str, float]:
        """By output that the model has: how far an engine's golden answers may be from the reference's."""
        golden, features = self.manifest.golden, self.manifest.features
        of_logits = {LOGITS: golden.tolerance} if golden.tolerance else {}
        return of_logits | ({FEATURES: features.tolerance} if features else {})

    def golden(self) -> tuple[list[bytes], Outputs]:
        """Encoded golden images and the reference's outputs, those that the model has, each float32 [images, ...]."""
        manifest = self.manifest
        images = [(self.path / name).read_bytes() for name in manifest.golden.images]
        outputs: Outputs = {}
        if manifest.golden.logits:
            outputs[LOGITS] = self._read_golden(manifest.golden.logits, manifest.classes)
        if manifest.features:
            outputs[FEATURES] = self._read_golden(manifest.features.golden, manifest.features.size)
        return images, outputs

    def _read_golden(self, file: str, width: int) -> LogitBatch | FeatureBatch:
        output: LogitBatch | FeatureBatch = np.load(self.path / file, allow_pickle=False)
        expected = (len(self.manifest.golden.images), width)
        if output.shape != expected:
            raise BundleError(f"{self.path / file}: shape {output.shape}, expected {expected}")
        return output


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_bundle(path: Path, *, verified: bool = False) -> Bundle:
    """Read and verify one bundle; the files of one that is `verified` already are not looked at again.

    Raises BundleError if the manifest is missing, invalid or of another schema version, if a file is missing or
    its sha256 differs, or if there are not as many labels as classes.
    """
    manifest_path = path / "manifest.json"
    try:
        text = manifest_path.read_bytes()
        manifest = Manifest.model_validate_json(text)
    except OSError as error:
        raise BundleError(f"{manifest_path}: {error.strerror}") from None
    except ValidationError as error:
        causes = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise BundleError(f"{manifest_path}: {causes}") from None
    for name, expected in manifest.files.items() if not verified else ():
        if (path / name).is_fifo():  # to open it would wait for ever
            raise BundleError(f"{path / name}: not a file")
        try:
            actual = sha256_of(path / name)
        except OSError as error:
            raise BundleError(f"{path / name}: {error.strerror}") from None
        if actual != expected:
            raise BundleError(f"{path / name}: sha256 {actual} does not match the manifest's {expected}")
    return Bundle(path, manifest, _read_labels(path, manifest), hashlib.sha256(text).hexdigest())


def _read_labels(path: Path, manifest: Manifest) -> tuple[str, ...] | None:
    if manifest.labels is None:
        return None
    labels = tuple((path / manifest.labels).read_text(encoding="utf-8").splitlines())
    if len(labels) != manifest.classes:
        raise BundleError(f"{path / manifest.labels}: {len(labels)} labels for {manifest.classes} classes")
    return labels


def list_bundles(repository: Path) -> dict[str, Versions]:
    """Every bundle in the repository by model, in alphabetical order; raises BundleError if it cannot be listed.

    Links are followed; names that no model can have, such as the `..data` of a Kubernetes volume, are passed over.
    """
    try:
        found = {
            model.name: _versions(model)
            for model in sorted(repository.iterdir())
            if re.fullmatch(NAME_PATTERN, model.name) and model.is_dir()
        }
    except FileNotFoundError:
        raise BundleError(f"{repository}: no such model repository") from None
    except OSError as error:
        raise BundleError(f"{error.filename}: {error.strerror}") from None
    return {name: versions for name, versions in found.items() if versions}


def choose_bundles(available: dict[str, Versions], models: list[str]) -> tuple[list[Path], list[str]]:
    """The bundles of each of `models`, "name" (its latest version) or "name/version", and those that are not there.

    No `models` means all, the latest of each.
    """
    chosen: dict[Path, None] = {}  # a set that keeps the order
    missing = []
    for model in models or available:
        name, _, version = model.partition("/")
        versions = available.get(name, {})
        path = versions.get(version or next(reversed(versions), ""))
        if path:
            chosen[path] = None
        else:
            missing.append(model)
    return list(chosen), missing


def find_bundles(repository: Path, models: list[str]) -> list[Path]:
    """What `choose_bundles` chooses; raises BundleError if the repository is missing or empty, or lacks a model."""
    available = list_bundles(repository)
    if not available:
        raise BundleError(f"{repository}: holds no bundle (<name>/<version>/manifest.json)")
    chosen, missing = choose_bundles(available, models)
    if missing:
        name, _, version = missing[0].partition("/")
        if name in available:
            told = f"{name!r} has no version {version!r}; it has {', '.join(available[name])}"
            raise BundleError(f"{repository}: {told}")
        raise BundleError(f"{repository}: has no model {missing[0]!r}; it has {', '.join(available)}")
    return chosen


def _versions(model: Path) -> Versions:
    found = [path for path in model.iterdir() if re.fullmatch(VERSION_PATTERN, path.name)]
    found.sort(key=lambda path: int(path.name))
    complete = {path.name: path for path in found if (path / "manifest.json").is_file()}
    for path in found:
        if path.name not in complete:
            log.warning("%s/%s is passed over: it has no manifest.json", model.name, path.name)
    return complete
