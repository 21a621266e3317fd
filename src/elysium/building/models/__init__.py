"""Grounders and followers that are neural networks: our own model, and those of transformers."""
