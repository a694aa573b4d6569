"""A run as a reproducible build: trained again from its recipe, data and program, and compared round by round."""

from podlt.manager.reproduction.report import Difference, FakedRound, Reproduction, TensorDeviation
from podlt.manager.reproduction.reproducer import reproduce

__all__ = ["Difference", "FakedRound", "Reproduction", "TensorDeviation", "reproduce"]
