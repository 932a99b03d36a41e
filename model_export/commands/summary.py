"""What `export` says when it is done."""

from model_export.bundles.parity import EngineCheck
from model_export.bundles.publish import Published


def summary(published: Published) -> str:
    """What the bundle is, how each engine answers and how fast, where the time went, and the next command."""
    manifest = published.manifest
    size = sum(path.stat().st_size for path in published.path.rglob("*") if path.is_file())
    model = f"{manifest.name}/{manifest.version}"
    lines = [
        f"{model}: {manifest.variant}, {manifest.precision}, {manifest.classes} classes "
        f"({manifest.labels or 'without names'}), {manifest.parameters / 1e6:.2f} M parameters, {size / 1e6:.1f} MB",
        f"against {manifest.parity.reference}, on {manifest.parity.images} images:",
        *(f"  {_of_engine(check, published.judges)}" for check in published.checks),
        f"took {sum(published.seconds.values()):.1f} s: "
        + ", ".join(f"{step} {seconds:.1f}" for step, seconds in published.seconds.items()),
        f"next: mixer-serve --model-repository {published.path.parent.parent} --models {model}",
    ]
    return "\n".join(lines)


def _of_engine(check: EngineCheck, judges: list[str]) -> str:
    parity = check.parity
    return (
        f"{parity.engine}: cosine {parity.cosine:.6f} at worst ({judges[check.worst]}), "
        f"top-1 agreement {parity.top1_agreement:.1%}, max abs error {parity.max_abs_error:.2g}, "
        f"{check.images_per_second:.1f} img/s on one core"
    )
