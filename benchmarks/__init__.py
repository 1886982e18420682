"""Scripts that compare the runtime with diffusers and PyTorch, and with peers; each prints what it measured."""
