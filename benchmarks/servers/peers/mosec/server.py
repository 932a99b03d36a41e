"""mosec: one stage of a process a core, each decoding and passing the batches that the Rust front gathers."""

import os
from pathlib import Path

from mosec import Server, Worker

from benchmarks.servers.peers.classifier import CORES, Answer, Classifier


class Classify(Worker):
    """`POST /inference` takes an image as the raw body."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = Classifier(Path(os.environ["BUNDLE"]), threads=1)

    def deserialize(self, data: bytes) -> bytes:
        """As it is, instead of JSON."""
        return data

    def forward(self, data: list[bytes]) -> list[Answer]:
        """One pass over a batch of encoded images."""
        return self.classifier.answers([self.classifier.pixels(image) for image in data])


if __name__ == "__main__":
    server = Server()
    server.append_worker(Classify, num=CORES, max_batch_size=8, max_wait_time=4)
    server.run()
