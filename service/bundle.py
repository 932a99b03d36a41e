"""Bundles on disk: find them in a model repository, verify every byte, read their parts."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from service.manifest import Manifest


class BundleError(Exception):
    """A bundle or repository that cannot be trusted or understood; the message names file and cause."""


@dataclass(frozen=True)
class Bundle:
    """One verified model version: <repository>/<name>/<version>/."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...] | None

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.path / "model.onnx"

    def golden(self) -> tuple[list[bytes], npt.NDArray[np.float32]]:
        """Encoded golden images and the reference's logits, float32 [images, classes]."""
        golden = self.manifest.golden
        images = [(self.path / name).read_bytes() for name in golden.images]
        logits: npt.NDArray[np.float32] = np.load(self.path / golden.logits, allow_pickle=False)
        expected = (len(images), self.manifest.classes)
        if logits.shape != expected:
            raise BundleError(f"{self.path / golden.logits}: shape {logits.shape}, expected {expected}")
        return images, logits


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_bundle(path: Path) -> Bundle:
    """Read and verify one bundle.

    Raises BundleError if the manifest is missing, invalid or of another schema version, if a file is missing or
    its sha256 differs, or if there are not as many labels as classes.
    """
    manifest_path = path / "manifest.json"
    try:
        manifest = Manifest.model_validate_json(manifest_path.read_bytes())
    except OSError as error:
        raise BundleError(f"{manifest_path}: {error.strerror}") from None
    except ValidationError as error:
        causes = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise BundleError(f"{manifest_path}: {causes}") from None
    for name, expected in manifest.files.items():
        try:
            actual = sha256_of(path / name)
        except OSError as error:
            raise BundleError(f"{path / name}: {error.strerror}") from None
        if actual != expected:
            raise BundleError(f"{path / name}: sha256 {actual} does not match the manifest's {expected}")
    return Bundle(path, manifest, _read_labels(path, manifest))


def _read_labels(path: Path, manifest: Manifest) -> tuple[str, ...] | None:
    if manifest.labels is None:
        return None
    labels = tuple((path / manifest.labels).read_text(encoding="utf-8").splitlines())
    if len(labels) != manifest.classes:
        raise BundleError(f"{path / manifest.labels}: {len(labels)} labels for {manifest.classes} classes")
    return labels


def find_bundles(repository: Path, models: list[str]) -> list[Path]:
    """Paths of the bundles to serve: for each of `models` ("name" or "name/version"), its latest version.

    An empty list means every model in the repository, in alphabetical order. Raises BundleError if the repository
    is missing or empty, or lacks one of `models`.
    """
    if not repository.is_dir():
        raise BundleError(f"{repository}: no such model repository")
    available = {path.name: _versions(path) for path in sorted(repository.iterdir()) if path.is_dir()}
    available = {name: versions for name, versions in available.items() if versions}
    if not available:
        raise BundleError(f"{repository}: holds no bundle (<name>/<version>/manifest.json)")
    found = []
    for model in models or available:
        name, _, version = model.partition("/")
        versions = available.get(name, {})
        if not versions or (version and version not in versions):
            raise BundleError(f"{repository}: has no model {model!r}; it has {', '.join(available)}")
        found.append(versions[version] if version else versions[max(versions, key=int)])
    if len({path.parent for path in found}) < len(found):
        raise BundleError(f"{', '.join(models)}: one version of a model is served at a time")
    return found


def _versions(model: Path) -> dict[str, Path]:
    return {path.name: path for path in model.iterdir() if path.name.isdecimal() and (path / "manifest.json").is_file()}
