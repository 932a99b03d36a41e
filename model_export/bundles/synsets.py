"""synsets.txt: identifiers of the classes, line i of class i, in bundles whose labels are words."""

from model_export.checkpoints.class_names import ClassNames
from service.bundles.bundle import Bundle

SYNSETS = "synsets.txt"


def identified_labels(bundle: Bundle) -> tuple[str, ...] | None:
    """A bundle's labels, each behind its synset where the bundle has them, as in "n01440764 tench"."""
    if not bundle.labels or SYNSETS not in bundle.manifest.files:
        return bundle.labels
    synsets = tuple((bundle.path / SYNSETS).read_text(encoding="utf-8").splitlines())
    return ClassNames(bundle.labels, synsets).identified
