"""Exact arithmetic on the CPU: PyTorch and Numba kernels that return the bits of the definition."""
