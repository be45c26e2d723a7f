"""TensorRT and TensorRT for RTX, through pycuda."""
