"""Numba kernels: loops over float32 and integers, compiled once for each machine."""
