"""Callbacks: a Python program's own code at the usual moments of a run, and trackers that others wrote.

import podlt
from podlt.callbacks import Callback, TensorBoard

class Patience(Callback):
    def on_epoch(self, run, epoch, metrics):
        if metrics["accuracy"] > 0.97:
            raise podlt.StopTraining("good enough")

podlt.train(model, data, callbacks=[Patience(), TensorBoard()])
"""

from podlt.callbacks.base import Callback, CallbackListener, LiveRun
from podlt.callbacks.trackers import FigureTracker, MLflow, TensorBoard, WandB

__all__ = ["Callback", "CallbackListener", "FigureTracker", "LiveRun", "MLflow", "TensorBoard", "WandB"]
