"""What `export` says when it is done."""

import shlex

from model_export.bundles.parity import EngineCheck
from model_export.bundles.publish import Published
from service.arrays import FEATURES
from service.bundles.manifest import Manifest


def summary(published: Published) -> str:
    """What the bundle is, how each engine answers and how fast, where the time went, and the next command."""
    manifest = published.manifest
    size = sum(path.stat().st_size for path in published.path.rglob("*") if path.is_file())
    parity = published.checks[0].of_answer
    model = f"{manifest.name}/{manifest.version}"
    lines = [
        f"{model}: {manifest.variant}, {manifest.precision}, {_gives(manifest)}, "
        f"{manifest.parameters / 1e6:.2f} M parameters, {size / 1e6:.1f} MB",
        f"against {parity.reference}, on {parity.images} images:",
        *(f"  {_of_engine(check, published.judges)}" for check in published.checks),
        f"took {sum(published.seconds.values()):.1f} s: "
        + ", ".join(f"{step} {seconds:.1f}" for step, seconds in published.seconds.items()),
        f"next: mixer-serve --model-repository {shlex.quote(str(published.path.parent.parent))} --models {model}",
    ]
    return "\n".join(lines)


def _gives(manifest: Manifest) -> str:
    if not manifest.classes:
        return f"no head, {manifest.outputs[FEATURES]} features"
    return f"{manifest.classes} classes ({manifest.labels or 'without names'})"


def _of_engine(check: EngineCheck, judges: list[str]) -> str:
    parity, features = check.of_answer, check.parity[FEATURES]
    top1 = "" if parity.top1_agreement is None else f"top-1 agreement {parity.top1_agreement:.1%}, "
    of_features = "" if features is parity else f"features' cosine {features.cosine:.6f} at worst, "
    return (
        f"{parity.engine}: cosine {parity.cosine:.6f} at worst ({judges[check.worst]}), {top1}"
        f"max abs error {parity.max_abs_error:.2g}, {of_features}{check.images_per_second:.1f} img/s on one core"
    )
