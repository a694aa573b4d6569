"""Those who cheat, one class each. The numbers are those of docs/THREATS.md.

They are what the rules can meet: false results, false messages, and agreements between cheaters. What a false update
does to a model is for the engine's adversaries, which cheat with tensors.
"""

from __future__ import annotations

from podlt.crypto import SALT_BYTES, digest
from podlt.errors import UsageError
from podlt.protocol.messages import Assignment, Committed, Opened, Task
from podlt.protocol.signatures import COMMITMENT
from podlt.sim.players import Crashing, LeavingPlayer, Player, Silent


class Cheater(Player):
    """What all cheaters have: a fake of their own, that nobody else would find."""

    cheats = True
    kind = "zeros"
    """Of its fakes, where tensors are simulated (`podlt.sim.learning`)."""

    def fake(self, task: Task) -> bytes:
        """A result that is wrong, and different from every other cheater's."""
        return self.gossip.forge(task, self.key.public, self.kind)


class Always(Cheater):
    """1: the free-rider; it never works."""

    def result(self, task: Task) -> bytes:
        """A fake."""
        return self.fake(task)


class Selective(Cheater):
    """8: cheats at its rate, and works honestly otherwise."""

    default_rate = 0.1

    def result(self, task: Task) -> bytes:
        """A fake at the rate."""
        return self.fake(task) if self.strikes() else self.execute(task)


class Copycat(Cheater):
    """2: stands for the last result that it could see. Commitments let it see none of the present round's."""

    def result(self, task: Task) -> bytes:
        """What somebody found in the round before, or a fake if nobody has shown anything yet."""
        return self.gossip.revealed[-1] if self.gossip.revealed else self.fake(task)


class Thief(Cheater):
    """2: signs a commitment that it overheard. It cannot open it, as it binds the key of the one who made it."""

    def commit(self, assignment: Assignment) -> list[Committed]:
        """The last commitment that anybody sent, under the thief's own signature."""
        mine = super().commit(assignment)[0]
        if not self.gossip.commitments:
            return [mine]
        stolen = self.gossip.commitments[-1].commitment
        return [Committed(mine.seat, mine.holder, stolen, self.key.sign(COMMITMENT, stolen))]


class Coalition(Cheater):
    """10: its members always stand for the same fake, and outvote whoever is third among two of them."""

    def result(self, task: Task) -> bytes:
        """The fake that all members can compute."""
        return self.gossip.forge(task, b"", self.kind)


class Majority(Coalition):
    """10: strikes only when two members hold the same task, which they see by comparing their messages."""

    def result(self, task: Task) -> bytes:
        """The shared fake if the coalition has the majority, and honest work otherwise."""
        return super().result(task) if self.gossip.shared.get(task.digest(), 0) >= 2 else self.execute(task)


class FalseOpening(Cheater):
    """13: commits to a fake, and opens it to something else."""

    def result(self, task: Task) -> bytes:
        """A fake."""
        return self.fake(task)

    def open(self, round: int) -> list[tuple[Opened, bytes]]:
        """Another update than the one it is bound to."""
        other = digest("sim-other/1", self.key.public)
        return [(Opened(o.seat, o.holder, other, o.salt), other) for o, _ in super().open(round)]


class Equivocator(Cheater):
    """13: opens its commitment to the honest result, and uploads another update to be applied."""

    def open(self, round: int) -> list[tuple[Opened, bytes]]:
        """The right digest, and another upload."""
        return [(opened, digest("sim-upload/1", opened.update)) for opened, _ in super().open(round)]


class DoubleAnswer(Cheater):
    """13: commits twice to one task, so as to choose later what to open."""

    def commit(self, assignment: Assignment) -> list[Committed]:
        """The honest commitment, and one to a fake."""
        return [
            self.bind(assignment, self.execute(assignment.task)),
            self.bind(assignment, self.fake(assignment.task)),
        ]


class Forger(Cheater):
    """16: answers in another worker's name, so that the other is blamed."""

    def commit(self, assignment: Assignment) -> list[Committed]:
        """A commitment to its own task, in its neighbour's name."""
        mine = super().commit(assignment)[0]
        return [Committed(mine.seat, (mine.holder + 1) % 2**20, mine.commitment, mine.signature)]


class Replayer(Cheater):
    """14: sends a commitment of an earlier round again, with its opening of then."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._first: tuple[Committed, Opened] | None = None

    def commit(self, assignment: Assignment) -> list[Committed]:
        """Its first commitment, for ever; it looks valid, as it carries its own signature."""
        mine = super().commit(assignment)[0]
        if self._first is None:
            update = self.execute(assignment.task)
            salt = self.key.derive("salt/1", assignment.task.digest(), mine.seat.to_bytes(8, "big"))[:SALT_BYTES]
            self._first = mine, Opened(mine.seat, mine.holder, update, salt)
        old = self._first[0]
        return [Committed(mine.seat, mine.holder, old.commitment, old.signature)]

    def open(self, round: int) -> list[tuple[Opened, bytes]]:
        """Its first opening, for ever."""
        assert self._first is not None
        old = self._first[1]
        return [(Opened(o.seat, o.holder, old.update, old.salt), old.update) for o, _ in super().open(round)]


PLAYERS: dict[str, type[Player]] = {
    "always": Always,
    "selective": Selective,
    "copycat": Copycat,
    "thief": Thief,
    "coalition": Coalition,
    "majority": Majority,
    "false-opening": FalseOpening,
    "equivocator": Equivocator,
    "double-answer": DoubleAnswer,
    "forger": Forger,
    "replayer": Replayer,
    "silent": Silent,
    "crashing": Crashing,
    "leaving": LeavingPlayer,
}
"""Who can be named in `simulate(cheaters=...)`: cheaters, and the last three, who only fail."""


def player_named(spec: str) -> tuple[type[Player], float | None]:
    """The class and the rate that "name" or "name:rate" stands for.

    Raises:
        UsageError: no such player, or a rate outside (0, 1].
    """
    name, colon, text = spec.partition(":")
    if name not in PLAYERS:
        raise UsageError(f"unknown player {name!r}; available: {', '.join(PLAYERS)}")
    if not colon:
        return PLAYERS[name], None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1:
        raise UsageError(f"{spec!r}: expected a rate above 0, at most 1")
    return PLAYERS[name], rate
