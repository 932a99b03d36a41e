"""LitServe: a worker process a core, batches stacked by the API server's queue."""

import os
import sys
from pathlib import Path

import litserve
from fastapi import UploadFile

from benchmarks.servers.peers.classifier import CORES, Answer, Classifier, Pixels


class Api(litserve.LitAPI):
    """`POST /predict` takes an image in the multipart field `request`."""

    def setup(self, device: str) -> None:
        """Load the model, in each worker."""
        self.classifier = Classifier(Path(os.environ["BUNDLE"]), threads=1)

    def decode_request(self, request: UploadFile) -> Pixels:
        """Encoded image -> pixels."""
        return self.classifier.pixels(request.file.read())

    def predict(self, batch: Pixels) -> list[Answer]:
        """One pass over what LitServe stacked: uint8 [N, H, W, 3]."""
        return self.classifier.answers(batch)

    def encode_response(self, output: Answer) -> Answer:
        """As it is."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=8, batch_timeout=0.004), accelerator="cpu", workers_per_device=CORES, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        generate_client_file=False,
        pretty_logs=False,
        access_log=False,
    )
