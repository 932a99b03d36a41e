"""Ray Serve: a replica a core, batches gathered by `serve.batch` in each."""

import asyncio
import os
import sys
from pathlib import Path

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from starlette.requests import Request

from benchmarks.servers.peers.classifier import CORES, Answer, Classifier


@serve.deployment(num_replicas=CORES, max_ongoing_requests=16, ray_actor_options={"num_cpus": 1})
class Classify:
    """`POST /predict` takes an image as the raw body."""

    def __init__(self, bundle: str) -> None:
        self.classifier = Classifier(Path(bundle), threads=1)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.004)
    async def answers(self, images: list[bytes]) -> list[Answer]:
        """One pass over a batch of encoded images, beside the replica's event loop."""
        return await asyncio.to_thread(self._answers, images)

    def _answers(self, images: list[bytes]) -> list[Answer]:
        return self.classifier.answers([self.classifier.pixels(image) for image in images])

    async def __call__(self, request: Request) -> Answer:
        """One request."""
        return await self.answers(await request.body())


if __name__ == "__main__":
    ray.init(
        num_cpus=CORES,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
        _node_ip_address="127.0.0.1",
    )
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(sys.argv[1])))
    application = Classify.bind(os.environ["BUNDLE"])
    serve.run(application, route_prefix="/predict", blocking=True, logging_config={"enable_access_log": False})
