"""Engines on NVIDIA GPUs, where one is asked for: onnxruntime with CUDA, and models compiled by TensorRT."""
