"""ONNX Runtime: CPU, CUDA, and the INT8 graph."""
