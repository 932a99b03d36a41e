"""Export stage: checkpoint -> verified bundle. Torch lives only here."""

import os

# onnxruntime's Linux wheels send telemetry unless this is set before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
