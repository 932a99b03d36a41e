"""BentoML: a worker process a core, batches gathered by its dispatcher, which learns how long to wait."""

import os
from pathlib import Path

import bentoml
from PIL.Image import Image

from benchmarks.servers.peers.classifier import CORES, Answer, Classifier


@bentoml.service(workers=CORES, threads=1, logging={"access": {"enabled": False}})
class Classify:
    """`POST /classify` takes an image in the multipart field `images`."""

    def __init__(self) -> None:
        self.classifier = Classifier(Path(os.environ["BUNDLE"]), threads=1)

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=60_000)
    def classify(self, images: list[Image]) -> list[Answer]:
        """One pass over a batch."""
        return self.classifier.answers([self.classifier.pixels(image) for image in images])
