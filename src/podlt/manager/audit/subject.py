"""What an audit is of, put together from what is here."""

from __future__ import annotations

import msgspec

from podlt.data.dataset import Dataset
from podlt.manager.amendments import Optimizers
from podlt.manager.audit.model import Rebuilt
from podlt.protocol import entries as e
from podlt.store.run_files import RunFiles


class Subject(msgspec.Struct, frozen=True):
    """What is audited.

    Attributes:
        begin: the first entry.
        files: the run.
        convicted: who was convicted, at whatever time.
        train: the training set, None if it is not here.
        test: the test set, None if it is not here.
        validation: the validation part, None if there is none, or it is not here.
        no_data: why one of them is None.
        no_execution: why this machine cannot execute tasks as the run's did; "" if it can.
        rebuilt: the model, for figures.
        optimizers: of every training round.
    """

    begin: e.Begin
    files: RunFiles
    convicted: frozenset[int]
    train: Dataset | None
    test: Dataset | None
    validation: Dataset | None
    no_data: str
    no_execution: str
    rebuilt: Rebuilt
    optimizers: Optimizers
