"""PyTorch networks to ONNX graphs, and what is done to the graphs."""
