"""Export stage: checkpoint -> verified bundle. Torch lives only here."""

import service  # noqa: F401 - which keeps onnxruntime and openvino from reporting
