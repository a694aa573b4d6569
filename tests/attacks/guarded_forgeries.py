"""A manager that edits the log of a guarded run, and signs all tree heads anew: and which claim then fails.

The run is the eventful one of the tests of the protocol: hidden spares, the manager's own shards, backups,
operators, convictions of each kind, a worker that is suspended and one that is evicted, and others that left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from scripted import eventful_run

from podlt.canonical import encode
from podlt.crypto import digest
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.redeal import Redealer

from .forging import ForgedRun, Forgery, Make

RUN = ForgedRun(*eventful_run())
ENTRIES, BODIES = RUN.entries, RUN.bodies
place, places, edited, without, inserted = RUN.place, RUN.places, RUN.edited, RUN.without, RUN.inserted
cut, transfers, joining, document = RUN.cut, RUN.transfers, RUN.joining, RUN.document


def forgeries() -> Iterator[Forgery]:
    """All of them, by what they are about."""
    yield from _options()
    yield from _spares()
    yield from _own()
    yield from _verdicts()
    yield from _backups()
    yield from _escrow()
    yield from _returning()
    yield from _clipping()


def _options() -> Iterator[Forgery]:
    both = (Claim.TERMS, Claim.SIGNATURES)
    for what, fields in {
        "checks nothing, by its first entry": {"checked": 0},
        "has no share of its own, by its first entry": {"own": 0, "own_most": 0},
        "clips nothing, by its first entry": {"clip": 0},
        "holds back less pay, by its first entry": {"escrow": 1},
        "evicts at once, by its first entry": {"first_fault": "evict"},
    }.items():
        yield Forgery(what, edited(0, **fields), both)
    rules = (Claim.TERMS, Claim.PROGRESS)
    yield Forgery("begins with two spares a shard", edited(0, spares=2), rules)
    yield Forgery("begins with a share above one", edited(0, checked=10**6 + 1), rules)
    yield Forgery("calls a guarded run classic", edited(0, preset="classic"), rules)


def _opens(at: int, spares: int) -> Make:
    """The round that is opened there, as if it had so many spares."""
    state, opened = RUN.state_before(at), ENTRIES[at]
    assert state.begin is not None and isinstance(opened, e.Open)
    plan = state.begin.cut.upcoming(opened.epoch, opened.offset, state.active_count - spares)
    shards = [*opened.shards, *(digest("x/1", bytes([n])) for n in range(9))][: plan.shards]
    return edited(at, examples=plan.examples, shards=shards)


def _spares() -> Iterator[Forgery]:
    at = place(e.Open, 1)
    state = RUN.state_before(at)
    active, opened = state.active_count, ENTRIES[at]
    assert isinstance(opened, e.Open)
    least, most = state.options.least_spares(active), state.options.most_spares(active)
    drawn = active - len(opened.shards)
    other = least + most - drawn
    yield Forgery(
        "opens a round for another number of spares than the seed gives", _opens(at, other), (Claim.PROGRESS,)
    )
    yield Forgery("opens a round for no spare", _opens(at, 0), (Claim.PROGRESS,))
    yield Forgery("opens a round for one spare more than can be", _opens(at, most + 1), (Claim.PROGRESS,))
    yield Forgery("opens a round with one shard less", edited(at, shards=opened.shards[1:]), (Claim.PROGRESS,))
    commit = next(i for i in places(e.Commit) if i > place(e.Open, 2))
    committed, reveal = ENTRIES[commit], next(i for i in places(e.Reveal) if i > commit)
    assert isinstance(committed, e.Commit)
    roles = RUN.state_before(reveal + 1).revealed.roles
    spare = max(roles.group(roles.checked[0]))
    kept = [c for c in committed.commitments if c.seat != spare]
    yield Forgery("leaves out the commitment of a spare", edited(commit, commitments=kept), (Claim.DRAWS,))
    leave = e.Withdraw(at=committed.at, worker=spare, reason="gone")
    yield Forgery("says that a spare is gone", inserted(commit + 1, leave), (Claim.DRAWS,))
    join = places(e.Join, lambda x: x.operator == "anna")[0]
    signed = (Claim.SIGNATURES,)
    yield Forgery("says that a worker is nobody else's", edited(join, operator=""), signed)
    yield Forgery("says that a worker is another operator's", edited(join, operator="carl"), signed)


def _own() -> Iterator[Forgery]:
    own = places(e.Verdict, lambda x: (x.outcome, x.reason) == ("agree", "own"))[0]
    compared = places(e.Verdict, lambda x: (x.outcome, x.reason) == ("agree", "compared"))[0]
    named = places(e.Verdict, lambda x: (x.outcome, x.reason) == ("referee", "own"))[0]
    claims = (Claim.VERDICTS,)
    yield Forgery("has no verdict on a shard of its own", without(own, own + 1), claims)
    yield Forgery("calls what it executed only compared", edited(own, reason="compared"), claims)
    yield Forgery("says that it executed what is not its own", edited(compared, reason="own"), claims)
    yield Forgery("accepts what nobody found, and calls it agreement", edited(own, accepted=bytes(32)), claims)
    yield Forgery("lets off whom it found by itself", edited(named, convicted=[]), claims)
    everybody = sorted(_answers(own))
    yield Forgery(
        "convicts by a task that it did not execute, and pays as if not",
        edited(own, outcome="referee", accepted=bytes(32), convicted=everybody),
        (Claim.PAYMENTS,),
    )
    elsewhere = edited(compared, outcome="referee", reason="own", accepted=bytes(32), convicted=_all(compared))
    yield Forgery("convicts by a task that was not its own", elsewhere, claims)


def _answers(at: int) -> dict[int, bytes]:
    """Who answered for the shard that a verdict is about, and what."""
    verdict = ENTRIES[at]
    assert isinstance(verdict, e.Verdict)
    return RUN.state_before(at).revealed.answers[verdict.shard]


def _all(at: int) -> list[int]:
    return sorted(_answers(at))


def _verdicts() -> Iterator[Forgery]:
    differ = places(e.Verdict, lambda x: x.reason == "differ")[0]
    agreed = places(e.Verdict, lambda x: (x.outcome, x.reason) == ("agree", "compared"))[0]
    suspect = places(e.Verdict, lambda x: x.reason == "suspect")[0]
    answers, said = _answers(differ), ENTRIES[differ]
    assert isinstance(said, e.Verdict)
    fake = next(update for worker, update in answers.items() if worker in said.convicted)
    honest = sorted(set(answers) - set(said.convicted))
    claims = (Claim.VERDICTS,)
    yield Forgery("convicts one that agreed with it, too", edited(differ, convicted=_all(differ)), claims)
    yield Forgery("convicts nobody where two differ", edited(differ, convicted=[]), claims)
    yield Forgery("decides a dispute by vote", edited(differ, outcome="vote", reason="compared"), claims)
    yield Forgery("calls a dispute an agreement", edited(differ, outcome="agree", reason="compared"), claims)
    yield Forgery("says that it executed a dispute as its own", edited(differ, reason="own"), claims)
    framed = edited(differ, accepted=fake, convicted=honest)
    yield Forgery("sides with the fake, and pays as if not", framed, (Claim.PAYMENTS,))
    yield Forgery("calls agreement a dispute", edited(agreed, outcome="referee", reason="differ"), claims)
    spared = edited(suspect, accepted=bytes(32), convicted=[])
    yield Forgery("suspects, and spares who differs from what it found", spared, claims)
    yield Forgery(
        "suspects a result in order to convict, and pays as if not",
        edited(agreed, outcome="referee", reason="suspect", accepted=bytes(32), convicted=_all(agreed)),
        (Claim.PAYMENTS,),
    )
    yield Forgery("does not suspect any more", without(suspect, suspect + 1), (Claim.PAYMENTS,))


def _backups() -> Iterator[Forgery]:
    slow, late = _backup(both=True), _backup(both=False)
    opening, claims = (Claim.OPENINGS,), (Claim.PROGRESS,)
    said = ENTRIES[slow]
    assert isinstance(said, e.Redeal)
    commit = next(i for i in places(e.Commit) if i > slow)
    committed = ENTRIES[commit]
    assert isinstance(committed, e.Commit)
    yield Forgery("leaves out a backup that answered", without(slow, slow + 1), opening)
    yield Forgery("says that another was the backup", edited(slow, holder=(said.holder + 1) % 5), opening)
    second = msgspec.structs.replace(said, holder=said.holder + 1)
    yield Forgery("deals a task to a second backup while the first is there", inserted(slow + 1, second), claims)
    yield Forgery("backs up a task to its own holder", inserted(slow, _to(said, said.seat)), claims)
    answered = next(c for c in committed.commitments if c.seat != said.seat)
    after = msgspec.structs.replace(_to(said, said.holder), seat=answered.seat, at=committed.at)
    yield Forgery("backs up a task that was answered", inserted(commit + 1, after), claims)
    opened = next(i for i in places(e.Open) if i > place(e.Join, -1))  # whoever joins signs what was there before
    drawn, other = _extra(opened)
    yield Forgery("backs up a task to one that was not drawn", inserted(opened + 1, other), (Claim.DRAWS,))
    yield Forgery(
        "says that it asked one for a backup that never came",
        inserted(opened + 1, drawn),
        (),
        "nothing: it was drawn, and neither paid nor blamed",
    )
    forgotten = without(late, late + 1)
    yield Forgery("leaves out a backup that answered in place of who was late", forgotten, opening)
    lost = next(i for i in places(e.Redeal) if isinstance(ENTRIES[i - 1], e.Withdraw))
    yield Forgery("does not deal a lost task again", without(lost, lost + 1), opening)
    missing = [c for c in committed.commitments if (c.seat, c.holder) != (said.seat, said.seat)]
    yield Forgery("drops the answer of who was slow", edited(commit, commitments=missing), opening)


def _backup(*, both: bool) -> int:
    """Where a task is backed up, and both answer, or only the backup."""
    for at in places(e.Redeal):
        entry = ENTRIES[at]
        assert isinstance(entry, e.Redeal)
        if not isinstance(ENTRIES[at - 1], e.Withdraw):
            reveal = next(i for i in places(e.Reveal) if i > at)
            answers = {holder for seat, holder in RUN.state_before(reveal + 1).revealed.results if seat == entry.seat}
            if answers == ({entry.seat, entry.holder} if both else {entry.holder}):
                return at
    raise LookupError("no such backup")


def _to(entry: e.Redeal, holder: int) -> e.Redeal:
    return msgspec.structs.replace(entry, holder=holder)


def _extra(opened: int) -> tuple[e.Redeal, e.Redeal]:
    """A backup that nobody needed at the beginning of a round, to the worker drawn, and to another one."""
    reveal = next(i for i in places(e.Reveal) if i > opened)
    round, secret = RUN.state_before(reveal + 1).revealed, ENTRIES[reveal]
    assert isinstance(secret, e.Reveal)
    redealt = {move.seat for move in round.moves if hasattr(move, "seat")}
    seat = next(seat for seat in sorted(round.roles.seats) if seat not in redealt)
    found = Redealer(secret.secret, round.roles, RUN.state_before(opened).roster).deal(seat)
    assert found is not None
    group = round.roles.group(round.roles.seats[seat])
    other = next(worker for worker in sorted(round.roles.seats) if worker not in (found, seat, *group))
    entry = e.Redeal(at=ENTRIES[opened].at, round=round.open.round, seat=seat, holder=found)
    return entry, _to(entry, other)


Change = Callable[[list[e.Transfer]], list[e.Transfer]]


def _escrow() -> Iterator[Forgery]:
    left = places(e.Withdraw, lambda x: x.worker == 8)[-1]
    paid, leaver = next(
        (i, transfer)
        for i in places(e.Pay)
        for transfer in ENTRIES[i].transfers  # type: ignore[union-attr]
        if i > left and (transfer.kind, transfer.worker) == ("vest", 8)
    )
    fault = places(e.Pay, lambda x: {"forfeit", "seize"} <= {t.kind for t in x.transfers})[0]
    owing = places(e.Pay, _pays_what_is_owed)[0]
    vested = places(e.Pay, lambda x: any(t.kind == "vest" for t in x.transfers))[-1]
    claims = (Claim.PAYMENTS,)
    early = next(i for i in places(e.Pay) if i > left)
    changes: dict[str, tuple[int, Change]] = {
        "pays one that left before its time": (early, lambda t: [x for x in t if x.kind == "earn"] + [leaver]),
        "does not pay one that left, after its time": (paid, lambda t: [x for x in t if x != leaver]),
        "pays one that left in part": (
            paid, lambda t: [msgspec.structs.replace(x, amount=x.amount - 1) if x == leaver else x for x in t]
        ),
        "vests one credit more than is old enough": (
            vested, lambda t: [_more(x) if x.kind == "vest" else x for x in t]
        ),
        "vests the youngest credits in place of the oldest": (
            vested, lambda t: [msgspec.structs.replace(x, amount=2) if x.kind == "vest" else x for x in t]
        ),
        "pays whom it convicts": (fault, lambda t: [e.Transfer("earn", 0, 3), *t]),
        "lets whom it convicts keep its escrow": (fault, lambda t: [x for x in t if x.kind != "forfeit"]),
        "lets who came back keep what it owes": (owing, lambda t: [x for x in t if x.kind != "forfeit"]),
        "lets whom it convicts keep its deposit": (fault, lambda t: [x for x in t if x.kind != "seize"]),
    }  # fmt: skip
    for what, (at, change) in changes.items():
        yield Forgery(what, transfers(at, change), claims)
    given = place(e.Release)
    back = ENTRIES[given]
    assert isinstance(back, e.Release)
    moved = msgspec.structs.replace(back, at=ENTRIES[early].at)
    yield Forgery("gives a deposit back before its time", inserted(early + 1, moved), claims)
    bonus = e.Release(at=ENTRIES[early].at, transfers=[e.Transfer("vest", 1, 3)])
    yield Forgery("releases pay before the end", inserted(early + 1, bonus), claims)
    working = e.Release(at=ENTRIES[early].at, transfers=[e.Transfer("return", 1, 40)])
    yield Forgery("gives the deposit of one that works back", inserted(early + 1, working), claims)
    within = msgspec.structs.replace(back, at=ENTRIES[given + 1].at)
    yield Forgery("releases within a round", inserted(given + 2, within), (Claim.PROGRESS,))
    at = max(places(e.Pay, lambda x: x.round == 9))
    ended = e.Amend(at=ENTRIES[at].at, epochs=1, optimizer="", reason="")
    accounts = RUN.state_before(at + 1).ledger.accounts
    pending, worker = max((account.pending, number) for number, account in accounts.items())
    vest = e.Release(at=ENTRIES[at].at, transfers=[e.Transfer("vest", worker, pending)])
    goes_on = msgspec.structs.replace(ended, epochs=2)
    yield Forgery(
        "ends training to release one worker's pay early, goes on, and cuts the log",
        cut(at + 1, ended, vest, goes_on),
        (),
        "the entries themselves: an end that was none, and a release to one",
    )


def _pays_what_is_owed(pay: e.Pay) -> bool:
    earning = {t.worker for t in pay.transfers if t.kind == "earn"}
    return any(t.kind == "forfeit" and t.worker in earning for t in pay.transfers)


def _more(transfer: e.Transfer) -> e.Transfer:
    return msgspec.structs.replace(transfer, amount=transfer.amount + 1)


def _returning() -> Iterator[Forgery]:
    fault = places(e.Pay, lambda x: any(t.kind == "seize" for t in x.transfers))[0]
    again = next(i for i in places(e.Join, lambda x: x.worker == 0) if i > fault)
    first = ENTRIES[1]
    assert isinstance(first, e.Join) and first.worker == 0
    key = RUN.world.players[0].key
    now = ENTRIES[again].at
    old = msgspec.structs.replace(first, at=now)
    replayed = RUN.with_body(again, lambda _: encode(old))
    yield Forgery("lets a suspended worker in by its first signature", replayed, (Claim.SIGNATURES,))
    other = joining(0, key, again, seen=RUN.last_head(again), operator="anna")
    yield Forgery("lets it in as another operator's", RUN.with_body(again, lambda _: encode(other)), (Claim.PROGRESS,))
    working = e.Withdraw(at=now, worker=0, reason="gone")
    yield Forgery("says that a suspended worker leaves", inserted(again, working), (Claim.PROGRESS,))
    evicted = places(e.Pay, lambda x: any((t.kind, t.worker) == ("seize", 0) for t in x.transfers))[1]
    back = joining(0, key, evicted + 1, seen=RUN.last_head(evicted + 1))
    yield Forgery("lets one in that was convicted twice", inserted(evicted + 1, back), (Claim.PROGRESS,))
    yield Forgery("leaves out that a suspended worker came back", without(again, again + 1), (Claim.PROGRESS,))


def _clipping() -> Iterator[Forgery]:
    at = places(e.Apply, lambda x: bool(x.clipped))[0]
    entry = ENTRIES[at]
    assert isinstance(entry, e.Apply)
    first, second = entry.clipped
    claims, form = (Claim.PROGRESS,), (Claim.FORM,)
    yield Forgery("clips in another order", edited(at, clipped=[second, first]), claims)
    yield Forgery("clips a part twice", edited(at, clipped=[first, first]), claims)
    yield Forgery("clips a shard that is none", edited(at, clipped=[e.ClippedPart(99, 0, 1)]), claims)
    yield Forgery("clips a third part", document(at, lambda d: d.update(clipped=[[0, 2, 1]])), form)
    yield Forgery("clips by nothing", document(at, lambda d: d.update(clipped=[[0, 0, 0]])), form)
    yield Forgery("clips another update than it says", edited(at, clipped=[second]), (), "`audit`: AVERAGES")
    yield Forgery("says that it clipped nothing", edited(at, clipped=[]), (), "`audit`: AVERAGES")


FORGERIES: dict[str, Forgery] = {forgery.what: forgery for forgery in forgeries()}
