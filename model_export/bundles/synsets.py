"""synsets.txt: identifiers of the classes, line i of class i, in bundles whose labels are words."""

from model_export.checkpoints.class_names import ClassNames
from service.bundles.bundle import Bundle

SYNSETS = "synsets.txt"


def names_of(bundle: Bundle) -> ClassNames | None:
    """What a bundle's classes are called: its labels, and its synsets where it has them."""
    if not bundle.labels:
        return None
    if SYNSETS not in bundle.manifest.files:
        return ClassNames(bundle.labels)
    return ClassNames(bundle.labels, tuple((bundle.path / SYNSETS).read_text(encoding="utf-8").splitlines()))
