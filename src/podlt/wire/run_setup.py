"""The setup of a run, which a worker gets before it joins: signed by the manager, and checked first.

All that the run's first entry says is taken from the entry itself: a worker joins the run whose identity it worked out.
"""

from __future__ import annotations

import msgspec

from podlt.canonical import encode
from podlt.crypto import SigningKey, is_signed
from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.wire import messages as m

_DOMAIN = "setup/2"


class RunSetup(msgspec.Struct, frozen=True):
    """A setup whose signature and first entry were checked.

    Attributes:
        message: as the manager sent it.
        begin: the run's first entry.
        run: the run's identity, which follows from it.
    """

    message: m.Setup
    begin: e.Begin
    run: bytes

    @property
    def most_examples(self) -> int:
        """How many examples a task can have."""
        return min(self.begin.batch_size, self.begin.examples)

    @property
    def task_examples(self) -> int:
        """How many examples a task has at most if the plan says so; 0 if it depends on how many workers share a
        batch."""
        return min(self.begin.shard_size, self.begin.examples)


def sign_setup(setup: m.Setup, key: SigningKey) -> m.Setup:
    """A setup with the manager's signature over everything else in it."""
    return msgspec.structs.replace(setup, signature=key.sign(_DOMAIN, _bare(setup)))


def open_setup(setup: m.Setup, manager: bytes) -> RunSetup:
    """Checks what a manager says there is to do.

    Args:
        manager: the public key that the invitation names.

    Raises:
        InvalidProofError: another version, another manager, or no first entry of a run.
        NotCheckedError: a newer podlt wrote the entry.
    """
    if setup.version != m.VERSION or not is_signed(manager, _DOMAIN, _bare(setup), setup.signature):
        raise InvalidProofError("setup not signed by the manager of the invitation")
    begin = e.decode(setup.begin)
    if not isinstance(begin, e.Begin):
        raise InvalidProofError("setup without the first entry of a run", actual=e.tag_of(type(begin)))
    if begin.manager != manager:
        raise InvalidProofError("run of another manager", expected=manager, actual=begin.manager)
    return RunSetup(setup, begin, e.identity(begin))


def _bare(setup: m.Setup) -> bytes:
    """What is signed."""
    return encode(msgspec.structs.replace(setup, signature=b""))
