"""Convolutions and fully connected layers on CPUs: PyTorch's functions, each product computed in the fastest way."""
