"""The mathematics of every op in plain PyTorch: specification, fallback and test oracle."""
