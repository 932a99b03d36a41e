"""The Open Inference Protocol over gRPC: the same service by another wire."""

import os

# What clients did wrong, its library would tell standard error, past our log and in its own form.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
