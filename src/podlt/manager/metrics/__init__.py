"""What is measured of a run's parameters: which figures, on which part of the data, when, and what follows from them.

No figure decides over a run: all is tried once on a few examples before the first round, where a fault is an error with
its cure; what fails later is a warning, and the figure is missing.
"""

from podlt.manager.metrics.evaluation import evaluate, load_state

__all__ = ["evaluate", "load_state"]
