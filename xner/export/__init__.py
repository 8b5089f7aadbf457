"""Export a model folder: to ONNX, to int8, with a smaller vocabulary, to the hub."""
