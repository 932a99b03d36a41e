"""MLServer: a worker process a core, batches gathered in front of them."""

import os
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.servers.peers.classifier import Classifier


class Classify(MLModel):
    """`POST /v2/models/NAME/infer` takes images in the BYTES input `image`, as base64 in JSON."""

    async def load(self) -> bool:
        """Load the model, in each worker."""
        self.classifier = Classifier(Path(os.environ["BUNDLE"]), threads=1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One pass over a batch: the best classes' `index` and `probability`, [N, 5] each."""
        images = Base64Codec.decode_input(payload.inputs[0])
        answers = self.classifier.answers([self.classifier.pixels(image) for image in images])
        outputs = [
            NumpyCodec.encode_output(name, np.array([[it[name] for it in answer["predictions"]] for answer in answers]))
            for name in ("index", "probability")
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
