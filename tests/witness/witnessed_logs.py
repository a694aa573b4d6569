"""Logs of simulated runs, with all their heads."""

from __future__ import annotations

from pathlib import Path

from podlt.crypto import SigningKey, digest
from podlt.log.nodes import NodeTree
from podlt.store.log_store import LogStore


class Log:
    """A log that was written to the disk, and every head of it.

    Args:
        run: the directory.
    """

    def __init__(self, run: Path) -> None:
        self.run, self.tree = run, NodeTree()
        store = LogStore.at(run / "log.db", readonly=True)
        rows = list(store.entries())
        self.bodies = [body for _, _, body in rows]
        self.notes = dict(store.heads())
        store.close()
        for _, leaf, _ in rows:
            self.tree.append(leaf)
        self.sizes = sorted(self.notes)


def manager_key(seed: int) -> SigningKey:
    """The key of a simulated run's manager, which follows from its seed."""
    own = digest("simulation/1", seed.to_bytes(16, "big", signed=True), bytes(8))
    return SigningKey(digest("sim-manager/1", own))
