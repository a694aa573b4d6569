"""Functions and modules of PyTorch, one by one: what of them programs hold."""

from . import losses, modules, pointwise, tensors

PROBES = (*modules.PROBES, *losses.PROBES, *pointwise.PROBES, *tensors.PROBES)
"""All of them, by group."""
