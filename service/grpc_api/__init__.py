"""The Open Inference Protocol over gRPC: the same service by another wire."""

import logging
import os

# What clients did wrong, its library would tell standard error, past our log and in its own form, or quote in our log.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
logging.getLogger("grpc").setLevel(logging.CRITICAL)
