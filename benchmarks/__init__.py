"""Benchmarks that compare this project with diffusers, PyTorch and other packages, and print what they measured."""
