"""A bundle's verified ONNX -> an engine compiled for the GPU of this machine, two ways."""
