"""The optimized form of a model: converted to ONNX, checked, quantized."""
