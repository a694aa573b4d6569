"""A seeded world: the real manager and the real workers, with digests in the place of tensors. No PyTorch."""

from podlt.sim.simulate import SimulatedRun, SimulationResult, simulate

__all__ = ["SimulatedRun", "SimulationResult", "simulate"]
