"""Adversaries that know the options and their own accounts: when to fake, when to leave, and under which key to return.

Before each round a strategist looks at its account (`before_round`), and may act between rounds as any worker may.
"""

from __future__ import annotations

from functools import cache

from podlt.economics.options import ProofOptions
from podlt.economics.plan import detection
from podlt.economics.response import BestResponse, Situation, Stakes
from podlt.economics.seats import Seating
from podlt.protocol.messages import Assignment, Task
from podlt.protocol.options import MILLION, RuleOptions
from podlt.sim.adversaries import Cheater
from podlt.sim.players import Player
from podlt.sim.world import World, make_player

COST = 0.9
"""What a true result costs, for each credit of its reward."""


def proof_options(options: RuleOptions, reward: int = 1, deposit: int = 0) -> ProofOptions:
    """A run's options, as a plan has them.

    Args:
        options: those of the first entry.
        reward: credits a task.
        deposit: credits that a worker brings.
    """
    return ProofOptions(
        preset=options.preset,
        checked=options.checked / MILLION,
        own=options.own / MILLION,
        own_most=options.own_most,
        clip=options.clip,
        escrow=options.escrow,
        deposit=deposit,
        first_fault=options.first_fault,
        reward=reward,
    )


class Strategist(Cheater):
    """A cheater that looks at its account before each round.

    Attributes:
        world: the run that it is in; set before it joins.
        owner: who gains by it: its own number, or that of its first key.
        held: its credits in escrow, in tasks.
    """

    world: World
    owner = -1
    held = 0

    def before_round(self) -> None:
        """Looks at its account; may leave or join."""
        self.held = len(self.world.state.ledger.credits(self.number))

    @property
    def status(self) -> str:
        """Active, withdrawn, suspended or evicted."""
        return self.world.state.workers[self.number].status

    def leave(self) -> None:
        """Leaves between rounds."""
        self.world.depart(self)

    def come_back_as_another(self) -> None:
        """Joins under a key that nobody knows."""
        number = len(self.world.players)
        other = make_player(type(self), number, self.world.seed, self.gossip, self.rate)
        assert isinstance(other, Strategist)
        other.kind, other.world, other.owner = self.kind, self.world, self.owner if self.owner >= 0 else self.number
        self.world.players.append(other)
        self.world.admit(other)


class Sleeper(Strategist):
    """Honest until its escrow is full, then fakes always."""

    def result(self, task: Task) -> bytes:
        """A fake, once it was honest for long enough."""
        awake = self.held >= self.world.state.options.escrow
        return self.fake(task) if awake else self.execute(task)


class Newcomer(Strategist):
    """Fakes only while it has next to nothing to lose."""

    most = 3
    """Credits in escrow, in tasks."""

    def result(self, task: Task) -> bytes:
        """A fake while little is in escrow."""
        return self.fake(task) if self.held <= self.most else self.execute(task)


class EndGame(Strategist):
    """Fakes in its last `escrow` tasks, or the last 50 where there is no escrow."""

    def result(self, task: Task) -> bytes:
        """A fake near the end."""
        last = self.gossip.left <= (self.world.state.options.escrow or 50)
        return self.fake(task) if last else self.execute(task)


class Once(Strategist):
    """Fakes a single time, at a task that it draws."""

    first, last = 30, 60
    done = False

    def result(self, task: Task) -> bytes:
        """A fake, once."""
        if self.done or self.world.state.round < self.first + self.dice.below(self.last - self.first):
            return self.execute(task)
        self.done = True
        return self.fake(task)


class Comparing(Strategist):
    """A coalition that fakes only where no friend has the same shard."""

    def result(self, task: Task) -> bytes:
        """The shared fake where only strangers can contradict, and honest work elsewhere."""
        alone = self.gossip.shared.get(task.digest(), 0) < 2
        return self.gossip.forge(task, b"", self.kind) if alone else self.execute(task)


class Leaver(Strategist):
    """Fakes, leaves once it has something in escrow, and returns when that is paid."""

    returns = False
    enough = 8
    """Credits in escrow, in tasks, with which it leaves."""

    def before_round(self) -> None:
        """Leaves, or returns."""
        super().before_round()
        state = self.world.state
        if self.status == "active" and self.held >= self.enough:
            self.leave()
        elif self.status == "withdrawn" and state.round >= state.workers[self.number].left + state.options.escrow:
            self.world.admit(self)

    def result(self, task: Task) -> bytes:
        """A fake."""
        return self.fake(task)


class Sybil(Strategist):
    """Fakes always, and is back under a new key as soon as it is convicted."""

    returned = False

    def before_round(self) -> None:
        """Comes back as another, once."""
        super().before_round()
        if self.status in ("suspended", "evicted") and not self.returned:
            self.returned = True
            self.come_back_as_another()

    def result(self, task: Task) -> bytes:
        """A fake."""
        return self.fake(task)


class Rational(Strategist):
    """Does what pays most, as `podlt plan` works it out for a lone worker. It cannot get another key."""

    returns = False
    new_key: float | None = None
    gone = False
    action = "honest"

    def before_round(self) -> None:
        """Looks up what to do, and does what is not work."""
        super().before_round()
        if self.gone:
            return
        state, known = self.world.state, self.world.state.workers[self.number]
        best = self.best()
        rounds = self.gossip.left - 1 if self.gossip.left else best.tasks
        left = max(1, min(rounds * self.seats, best.tasks))
        lives, owes = best.stakes.convictions - known.convictions, state.ledger.owes(self.number)
        if known.status in ("suspended", "evicted"):
            self._start_anew(best.after_conviction(left, max(0, lives), -owes))
        elif known.status == "withdrawn" and state.round >= known.left + state.options.escrow:
            self.world.admit(self)
        if self.status == "active":
            self.action = best.action(left, -owes if owes else self.held, max(1, lives))
            self._move()

    def _move(self) -> None:
        """Leaves, where that is what pays."""
        if self.action in ("honest", "fake"):
            return
        self.leave()
        self.gone = self.action != "return"
        if self.action == "new_key":
            self.come_back_as_another()

    def _start_anew(self, way: str) -> None:
        """What follows a conviction."""
        if way == "return":
            self.world.admit(self)
            return
        self.gone = True
        if way == "new_key":
            self.come_back_as_another()

    @property
    def seats(self) -> int:
        """How many tasks a round it has, or would have."""
        return self.world.state.roster.weight(self.number)

    def _seating(self) -> Seating | None:
        """Who has how many tasks a round, where they are not equal; it is alone."""
        state = self.world.state
        others = sorted(state.roster.weight(worker) for worker in state.active() if worker != self.number)
        seating = Seating((self.seats,), tuple(others))
        return seating if others and seating.total > seating.workers else None

    def best(self) -> BestResponse:
        """The best response in this run."""
        scenario, state = self.world.scenario, self.world.state
        size = scenario.shard_size or 1
        reward = scenario.protocol.reward * size
        rounds = scenario.epochs * scenario.examples // scenario.batch_size
        options, seating = proof_options(state.options, reward, scenario.deposit), self._seating()
        began = min(scenario.batch_size // size, len(self.world.players))
        workers = began if seating is None else seating.workers
        return _best(options, workers, rounds * self.seats, self.new_key, seating)

    def result(self, task: Task) -> bytes:
        """A fake where it pays."""
        return self.fake(task) if self.action == "fake" else self.execute(task)


class FreeKeys(Rational):
    """Does what pays most where a new key costs nothing."""

    new_key = 0.0


@cache
def _best(
    options: ProofOptions, workers: int, tasks: int, new_key: float | None, seating: Seating | None
) -> BestResponse:
    hazard = detection(options, workers, seating=seating).lone
    stakes = Stakes(
        reward=float(options.reward),
        escrow=options.escrow,
        deposit=float(options.deposit),
        convictions=options.convictions,
        new_key=new_key,
    )
    return BestResponse(stakes, [Situation(1.0, hazard, COST * options.reward)], tasks).work_out()


class Late(Player):
    """Answers after its task was dealt to a backup as well, at its rate: no fraud, and it is paid for what it did."""

    default_rate = 0.2


class Accomplice(Strategist):
    """Fakes always: the manager has promised to withdraw it in each round that would compare it."""

    def result(self, task: Task) -> bytes:
        """A fake."""
        return self.fake(task)


def late_backup(world: World, assignment: Assignment) -> Assignment | None:
    """The backup of a task whose holder is late this time, if it is one that may be."""
    player = world.players[assignment.holder]
    own = isinstance(player, Late) and assignment.seat == assignment.holder
    return world.manager.back_up(assignment.seat) if own and player.strikes() else None
