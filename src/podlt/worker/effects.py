"""What a worker's session wants done: a driver does it, in order, right after the call that gave it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from podlt.engine.isolated.interface import ExecuteTask, FingerprintUpdate, FreeUpdate, StopExecution
from podlt.engine.isolated.records import AdmitCheat, HoldParameters, LoadProgram, ReleaseParameters
from podlt.network.blobs.jobs import BlobBuffer


class SendMessage(NamedTuple):
    """A message to the manager, as the identity of this public key."""

    key: bytes
    message: bytes


class DropKey(NamedTuple):
    """An identity has nothing to do with the link any more."""

    key: bytes


class UseServer(NamedTuple):
    """Large blobs go by this server from now on; without URLs there is none, and what is under way ends.

    Attributes:
        urls: of the server, by different names.
        certificate: SHA-256 of its certificate.
        moved: it is the same server at another place: what is under way goes on.
    """

    urls: Sequence[str]
    certificate: bytes
    moved: bool = False


class FetchBlob(NamedTuple):
    """A blob is to come into memory: as `BlobTransfers.fetch`; ends in `WorkerSession.transferred`."""

    key: bytes
    digest: bytes
    place: BlobBuffer
    urls: Sequence[str] = ()
    part: int = 0


class UploadBlob(NamedTuple):
    """A blob is to go to the manager: as `BlobTransfers.send`; `WorkerSession.transferred` says where that fails."""

    key: bytes
    digest: bytes
    data: np.ndarray


class CancelTransfer(NamedTuple):
    """A transfer ends, and its memory is not touched any more; a fetch has no key."""

    key: bytes
    digest: bytes


class SaveStatus(NamedTuple):
    """The status file is to say what the worker does."""

    doing: str


Effect = (
    SendMessage | DropKey | UseServer | FetchBlob | UploadBlob | CancelTransfer | SaveStatus
    | LoadProgram | AdmitCheat | HoldParameters | ReleaseParameters | ExecuteTask | FingerprintUpdate | FreeUpdate
    | StopExecution
)  # fmt: skip

Perform = Callable[[Effect], object]
"""Takes an effect, to be done when the present call is over."""
