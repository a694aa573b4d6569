"""The names of the files of a run's directory: here, and nowhere else."""

from __future__ import annotations

RECIPE, PROGRAM = "recipe.json", "program.json"
"""What is trained, and the training step; canonical JSON, named by the first entry."""

LOG = "log.db"
"""Entries and tree heads, where no database has them."""

LOG_PARTS = (f"{LOG}-wal", f"{LOG}-shm")
"""What SQLite keeps with the log while it is open."""

RUN = "run.json"
"""What a run needs in addition and is no part of the proof: `store.run_json`."""

MANAGER_KEY, WORKERS_KEY = "manager.key", "workers.key"
"""The manager's secrets, and the keys of this machine's workers; for their owner's eyes only."""

ROUNDS = "rounds.jsonl"
"""Seconds and simulated fakes, a line a round."""

CHECKPOINTS, UPDATES = "checkpoints", "updates"
"""Folders: parameters and optimiser, every so many rounds; the averaged update of each round."""

MODEL, BUFFERS = "model.safetensors", "buffers.safetensors"
"""The trained module's state_dict(), and buffers that it leaves out."""

BEST = "best.safetensors"
"""The best parameters by the recipe's figure; run.json says which they are."""

INFERENCE, CONFIGURATION = "inference.json", "config.json"
"""What predicting new lines takes; and the configuration of a model of transformers."""

AGGREGATES = "aggregates"
"""A folder: the sum of each round with its workers' fingerprints, where they are kept."""

COSIGNATURES = "cosignatures"
"""Of witnesses over tree heads, a line each."""

LOCK = "lock"
"""Held by the process that works on the run."""

FINISH = "finish.txt"
"""A request to end the run after its round, from another process."""

INVITATION = "invitation.txt"
"""The first invitation, for copying."""

ACCESS, ACCESS_LOCK = "admission.json", "admission.lock"
"""Who may work for the run, and the lock of who changes it."""

SERVER, BLOBS = "server", "blobs"
"""Folders: the server's certificate and its key; what workers fetch and bring in the round in progress."""

REPORT = "report.html"
"""What `podlt report` writes unless told otherwise."""

EARLY = {
    LOG,
    *LOG_PARTS,
    RUN,
    RECIPE,
    PROGRAM,
    MANAGER_KEY,
    WORKERS_KEY,
    CHECKPOINTS,
    UPDATES,
    LOCK,
    SERVER,
    INVITATION,
    ACCESS,
    ACCESS_LOCK,
    BLOBS,
    FINISH,
}
"""What a run that was killed before its first entry may have left."""


def update(round: int) -> str:
    """The file of a round's averaged update."""
    return f"{UPDATES}/{round:08d}.bin"


def checkpoint(rounds: int) -> str:
    """The file of parameters and optimiser after so many training rounds."""
    return f"{CHECKPOINTS}/{rounds:08d}.safetensors"
