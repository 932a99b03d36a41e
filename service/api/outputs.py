"""What a model gives, and what it says where it is asked for something else."""

from service.bundles.manifest import Manifest
from service.errors import MalformedRequest


def check_predicts(manifest: Manifest) -> None:
    """Raise MalformedRequest if the model has no head."""
    if not manifest.classes:
        told = f"{manifest.name}/{manifest.version} has no head, so it predicts nothing"
        raise MalformedRequest(f"{told}; POST /v1/features gives its features", reason="no_head")


def check_features(manifest: Manifest) -> None:
    """Raise MalformedRequest if the model's bundle is of a time when there were no features."""
    if not manifest.features:
        told = f"the bundle of {manifest.name}/{manifest.version} is of a time when there were no features"
        raise MalformedRequest(f"{told}; export it again", reason="no_features")
