"""A classifier around an engine with an obvious answer: an image's label is its level."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.bundles.bundle import load_bundle
from service.lanes.process import Spawn
from service.offline.batches import Batches
from service.offline.classifier import Classification, Classifier, Outcome
from tests.doubles import EchoEngine, ThreadLanes, write_bundle
from tests.service.lanes.loading import order


@contextmanager
def classifier_around(
    folder: Path, spawn: Spawn | None = None, lanes: int = 2, *, features: bool = False, head: bool = True
) -> Iterator[Classifier]:
    """In batches of four."""
    bundle = load_bundle(write_bundle(folder / "models", features=features, head=head))
    batches = Batches(bundle, spawn or ThreadLanes(EchoEngine()))
    try:
        batches.start(order(bundle.path, measure=False, warm=False), lanes)
        yield Classifier(bundle, batches, 4)
    finally:
        batches.close()


def label(outcome: Outcome) -> str:
    assert isinstance(outcome, Classification), outcome
    return outcome.predictions[0].label
