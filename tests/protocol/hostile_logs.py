"""Logs of n workers that cost whoever reads them as much as a log of their length can."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from podlt.crypto import HashChain, commitment, digest
from podlt.log.merkle import EMPTY_ROOT
from podlt.protocol import entries as e
from podlt.protocol.options import CLASSIC, RuleOptions
from podlt.protocol.redeal import Redealer
from podlt.protocol.rules import RunState
from podlt.protocol.verdict import judge
from podlt.recipe import ProtocolSpec

Make = Callable[[int], Iterator[e.Entry]]

CHAIN = HashChain(digest("cost/1"), 2)


def begun(examples: int, batch_size: int, options: RuleOptions = CLASSIC, epochs: int = 1) -> e.Begin:
    none = bytes(32)
    return e.Begin(
        at=1, manager=none, nonce=none, recipe=none, program=none, arithmetic=none, data=none, test=e.NO_TEST,
        parameters=none, seed=none, examples=examples, epochs=epochs, batch_size=batch_size, shard_size=0,
        local_steps=1, local_lr=None, reward=1, chain_end=CHAIN.end, chain_length=2**40,
        **msgspec.structs.asdict(options),
    )  # fmt: skip


def guarded(checked: float, own: float = 0.0, escrow: int = 2) -> RuleOptions:
    return ProtocolSpec(checked=checked, own=own, own_most=2**40, escrow=escrow).options


def name(number: int) -> bytes:
    return digest("key", number.to_bytes(8, "big"))


def joined(number: int, *, seen: int = 0, deposit: int = 0, operator: str = "") -> e.Join:
    key, nothing = name(number), bytes(64)
    return e.Join(
        at=1, worker=number, key=key, operator=operator, deposit=deposit, seen=seen, root=EMPTY_ROOT,
        signature=nothing, share=nothing,
    )  # fmt: skip


def opening(workers: int, examples: int, spares: int = 2) -> e.Open:
    shards = [bytes(32)] * min(workers - spares, examples)
    return e.Open(at=1, round=0, attempt=0, epoch=0, offset=0, examples=examples, parameters=bytes(32), shards=shards)


def all_join(n: int) -> Iterator[e.Entry]:
    yield begun(n, n)
    yield from (joined(number) for number in range(n))


def all_leave_within_a_round(n: int) -> Iterator[e.Entry]:
    """Each task in turn goes to the same worker, which is what a hostile log can say before the reveal."""
    yield from all_join(n)
    yield opening(n, n)
    for number in range(n - 3):
        yield e.Withdraw(at=1, worker=number, reason="")
        yield e.Redeal(at=1, round=0, seat=number, holder=n - 1)


def each_commits_by_itself(n: int) -> Iterator[e.Entry]:
    yield from all_join(n)
    yield opening(n, n)
    for number in range(n):
        commitment = e.Commitment(number, number, bytes(32), bytes(64))
        yield e.Commit(at=1, round=0, commitments=[commitment])


def all_come_and_go(n: int) -> Iterator[e.Entry]:
    """Half of the entries make a crowd, half are of one worker that leaves, has its deposit back, and returns."""
    yield begun(n, n, guarded(0.0, escrow=0))
    yield from (joined(number) for number in range(n))
    for i in range(n):
        yield joined(n, seen=n + 3 * i, deposit=1)
        yield e.Withdraw(at=1, worker=n, reason="")
        yield e.Release(at=1, transfers=[e.Transfer("return", n, 1)])


def a_crowd_comes_and_goes(n: int) -> Iterator[e.Entry]:
    yield begun(n, n)
    for again in range(4):
        yield from (joined(number, seen=again * 2 * n) for number in range(n))
        yield from (e.Withdraw(at=1, worker=number, reason="") for number in range(n))


def it_stops_and_goes_on(n: int) -> Iterator[e.Entry]:
    yield from all_join(n)
    for _ in range(n):
        yield e.Close(at=1, outcome="stopped", reason="")
        yield e.Resume(at=1)


def one_task_goes_round(n: int) -> Iterator[e.Entry]:
    """Each worker takes the same task in turn, and leaves: as many holders as workers."""
    yield begun(n, n, guarded(0.0))
    yield from (joined(number) for number in range(n))
    yield opening(n, n, 0)
    for number in range(n - 1):
        yield e.Redeal(at=1, round=0, seat=0, holder=number + 1)
        yield e.Withdraw(at=1, worker=number, reason="")


def everything_is_backed_up_by_one(n: int) -> Iterator[e.Entry]:
    yield begun(n, n, guarded(0.0))
    yield from (joined(number) for number in range(n))
    yield opening(n, n, 0)
    yield from (e.Redeal(at=1, round=0, seat=number, holder=n - 1) for number in range(n - 1))
    yield e.Withdraw(at=1, worker=n - 1, reason="")
    yield from (e.Redeal(at=1, round=0, seat=number, holder=n - 2) for number in range(n - 2))


def it_ends_and_goes_on(n: int) -> Iterator[e.Entry]:
    """A crowd with deposits that the end gives back, one at a time, and terms that are amended again and again."""
    yield begun(1, 1)
    yield from (joined(number, deposit=1) for number in range(n))
    for number in range(n):
        yield e.Amend(at=1, epochs=0, optimizer="", reason="")
        yield e.Release(at=1, transfers=[e.Transfer("return", number, 1)])
        yield e.Amend(at=1, epochs=1, optimizer="", reason="")


def it_is_complete_again_and_again(n: int) -> Iterator[e.Entry]:
    yield begun(1, 1)
    yield from (joined(number) for number in range(n))
    for _ in range(n):
        yield e.Amend(at=1, epochs=0, optimizer="", reason="")
        yield e.Close(at=1, outcome="complete", reason="")
        yield e.Amend(at=1, epochs=1, optimizer="", reason="")


def played(
    n: int,
    options: RuleOptions,
    operators: Callable[[int], str] = lambda number: "",
    *,
    lies: bool = False,
    lost: int = 0,
) -> Iterator[e.Entry]:
    """A whole round, whose every shard has a verdict.

    Args:
        operators: worker -> who runs it.
        lies: whether each worker finds something else, and the manager another thing again.
        lost: how many workers leave, one after another, whose tasks go to whoever is drawn.
    """
    begin, update = begun(n, 4 * n, options), digest("update/1")
    state = RunState()
    entries = [begin, *(joined(number, deposit=1, operator=operators(number)) for number in range(n))]

    def said(entry: e.Entry) -> e.Entry:
        state.apply(entry)
        return entry

    yield from map(said, entries)
    yield said(opening(n, n, state.spares(0, n)))
    roles = state.roles(CHAIN.secret(0))
    again, holders = Redealer(CHAIN.secret(0), roles, state.roster), {seat: seat for seat in roles.seats}
    held = {seat: [seat] for seat in roles.seats}
    for worker in sorted(roles.seats)[:lost]:
        yield said(e.Withdraw(at=1, worker=worker, reason=""))
        again.leave(worker)
        for seat in held.pop(worker, []):
            holder = again.deal(seat)
            assert holder is not None
            yield said(e.Redeal(at=1, round=0, seat=seat, holder=holder))
            holders[seat] = holder
            held.setdefault(holder, []).append(seat)
    commitments, openings = [], []
    for seat, holder in sorted(holders.items()):
        found = digest("update/1", name(holder)) if lies else update
        promise = commitment(state.task_digest(roles.seats[seat]), name(holder), found, bytes(16))
        commitments.append(e.Commitment(seat, holder, promise, bytes(64)))
        openings.append(e.Opening(seat, holder, found, bytes(16)))
    yield said(e.Commit(at=1, round=0, commitments=commitments))
    yield said(e.Reveal(at=1, round=0, secret=CHAIN.secret(0), openings=openings))
    round = state.revealed
    for shard in round.due():
        judgement = judge(round.answers[shard], vote=False, own=shard in round.own, executed=update)
        assert judgement is not None
        outcome, reason, accepted, convicted = msgspec.structs.astuple(judgement)
        yield said(
            e.Verdict(
                at=1, round=0, shard=shard, outcome=outcome, reason=reason, accepted=accepted, convicted=convicted
            )
        )
    yield said(e.Apply(at=1, round=0, update=update, parameters=update, loss=0.0, clipped=[]))
    yield said(e.Pay(at=1, round=0, transfers=state.dues()[1]))


def every_shard_is_checked_and_the_managers_own(n: int) -> Iterator[e.Entry]:
    yield from played(n, guarded(1.0, 1.0))


def everybody_is_convicted(n: int) -> Iterator[e.Entry]:
    yield from played(n, guarded(1.0, 1.0), lies=True)


def one_operator_runs_all(n: int) -> Iterator[e.Entry]:
    yield from played(n, guarded(0.5), lambda number: "a")


def one_operator_runs_nearly_all(n: int) -> Iterator[e.Entry]:
    """One in twenty is another's: many throws find none, and some do."""
    yield from played(n, guarded(0.5), lambda number: "a" if number % 20 else f"b{number % 100}")


def most_are_lost(n: int) -> Iterator[e.Entry]:
    """Tasks pile up at who is left."""
    yield from played(n, guarded(0.1), lambda number: "a" if number % 3 else "", lost=n * 3 // 4)


def all_leave_and_are_paid_together(n: int) -> Iterator[e.Entry]:
    """A round, and everybody leaves, joins and leaves again: as many leavers wait as entries, who are paid at once."""
    yield from played(n, guarded(0.0))
    for again in range(2):
        yield from (e.Withdraw(at=1, worker=number, reason="") for number in range(n))
        if not again:
            yield from (joined(number, seen=2 * n) for number in range(n))
    yield joined(n)
    yield e.Amend(at=1, epochs=1, optimizer="", reason="")


PLAYED = [
    every_shard_is_checked_and_the_managers_own,
    everybody_is_convicted,
    one_operator_runs_all,
    one_operator_runs_nearly_all,
    most_are_lost,
    all_leave_and_are_paid_together,
]
"""Whole rounds, with every commitment: it takes a while to make them."""

CASES = [
    one_task_goes_round,
    everything_is_backed_up_by_one,
    it_ends_and_goes_on,
    it_is_complete_again_and_again,
    all_join,
    all_leave_within_a_round,
    each_commits_by_itself,
    all_come_and_go,
    a_crowd_comes_and_goes,
    it_stops_and_goes_on,
]
