"""The Open Inference Protocol v2 over REST, with Triton's extensions; `routes` is where a request comes in."""
