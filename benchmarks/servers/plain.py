"""The server that an hour with FastAPI and onnxruntime gives: one image and one pass a request, defaults for the rest.

`python -m benchmarks.servers.plain` serves a bundle, so that beside our service on the same one the weights, their
precision and the preprocessing are the same; `--model` takes another export of these weights.
"""

import argparse
from pathlib import Path

import uvicorn
from fastapi import FastAPI, UploadFile

from benchmarks.servers.peers.classifier import Answer, Classifier


def build_app(classifier: Classifier) -> FastAPI:
    """`POST /predict` takes an image in the multipart field `file`; `GET /health` answers once the model is loaded."""
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/predict", response_model=None)
    def predict(file: UploadFile) -> Answer:
        return classifier.answers([classifier.pixels(file.file.read())])[0]

    return app


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="benchmarks.servers.plain", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder: <repository>/<name>/<version>")
    parser.add_argument(
        "--model", type=Path, help="an ONNX file instead of the bundle's: uint8 [N, H, W, 3] or float32 [N, 3, H, W]"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    options = parser.parse_args()
    app = build_app(Classifier(options.bundle, model=options.model))
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
