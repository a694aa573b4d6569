"""A manager that edits the log of a classic run, and signs all tree heads anew: and which claim then fails.

The log is a simulated run's, so everybody's keys are at hand. Where no claim of `verify` fails, the table says what
would tell.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from podlt.canonical import encode
from podlt.crypto import SigningKey, digest
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import TreeSize
from podlt.protocol.signatures import COMMITMENT
from podlt.recipe import ProtocolSpec
from podlt.sim.adversaries import Always
from podlt.sim.players import Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.units import MAX_INT

from .forging import ForgedRun, Forgery

WORKERS, CHEATER = 8, 7
CLASSIC = ProtocolSpec("classic", escrow=3)
SEED = digest("forged/1")


def honest_run() -> tuple[World, MemoryLog]:
    """Twenty rounds in two epochs, classic, with figures, deposits, and one cheater that is evicted."""
    log = MemoryLog()

    def players(gossip: Any) -> list[Player]:
        return [make_player(Always if i == CHEATER else Player, i, SEED, gossip) for i in range(WORKERS)]

    world = World(
        Scenario(examples=60, epochs=2, batch_size=6, deposit=5, tested=True, protocol=CLASSIC), players, SEED, log
    )
    world.begin()
    world.play()
    return world, log


RUN = ForgedRun(*honest_run())
WORLD, ENTRIES, BODIES = RUN.world, RUN.entries, RUN.bodies
place, edited, with_body, without, inserted = RUN.place, RUN.edited, RUN.with_body, RUN.without, RUN.inserted
cut, swapped, document, transfers, joining = RUN.cut, RUN.swapped, RUN.document, RUN.transfers, RUN.joining


def _verdict_of(outcome: str) -> int:
    return next(i for i, x in enumerate(ENTRIES) if isinstance(x, e.Verdict) and x.outcome == outcome)


def forgeries() -> Iterator[Forgery]:
    """All of them, by what they are about."""
    yield from _payments()
    yield from _order()
    yield from _ends()
    yield from _verdicts()
    yield from _draws()
    yield from _joins()
    yield from _values()
    yield from _encodings()


def _payments() -> Iterator[Forgery]:
    pay, last = place(e.Pay, 3), place(e.Release)
    convicted = next(
        i for i, x in enumerate(ENTRIES) if isinstance(x, e.Pay) and any(t.kind == "seize" for t in x.transfers)
    )
    claims = (Claim.PAYMENTS,)
    for what, change in {
        "pays a worker a credit too much": lambda t: [e.Transfer(t[0].kind, t[0].worker, t[0].amount + 1), *t[1:]],
        "leaves out what a worker earned": lambda t: t[1:],
        "pays a worker that does not exist": lambda t: [*t, e.Transfer("earn", 99, 5)],
        "pays a worker twice": lambda t: [t[0], *t],
        "does not vest what is old enough": lambda t: [x for x in t if x.kind != "vest"],
        "vests a credit early": lambda t: [*t, e.Transfer("vest", t[0].worker, 1)],
        "seizes the deposit of an honest worker": lambda t: [*t, e.Transfer("seize", 0, 5)],
        "pays in another order": lambda t: [t[1], t[0], *t[2:]],
        "pays nobody": lambda t: [],
    }.items():
        yield Forgery(what, transfers(pay, change), claims)
    spared = transfers(convicted, lambda t: [x for x in t if x.kind not in ("forfeit", "seize")])
    yield Forgery("spares a cheater that it evicts its deposit and pending pay", spared, claims)
    part = [e.Transfer("return", 0, 1)]
    whole = transfers(last, lambda t: [part[0] if (x.kind, x.worker) == ("return", 0) else x for x in t])
    yield Forgery("returns a deposit in part", whole, claims)
    kept = (Claim.OUTCOME,)
    yield Forgery("keeps a deposit at the end", transfers(last, lambda t: t[:-1]), kept)
    yield Forgery("keeps pay at the end", transfers(last, lambda t: t[1:]), kept)
    yield Forgery("returns deposits before it pays", transfers(last, lambda t: [*t[-2:], *t[:-2]]), claims)
    yield Forgery("keeps all pay and deposits at the end", without(last, last + 1), kept)
    yield Forgery(
        "returns the deposit of the cheater",
        transfers(last, lambda t: [*t, e.Transfer("return", CHEATER, 5)]),
        claims,
    )


def _order() -> Iterator[Forgery]:
    left_out = {
        e.Join: Claim.PROGRESS,
        e.Open: Claim.PROGRESS,
        e.Commit: Claim.DRAWS,
        e.Reveal: Claim.PROGRESS,
        e.Verdict: Claim.VERDICTS,
        e.Apply: Claim.PROGRESS,
        e.Pay: Claim.PROGRESS,
        e.Measure: Claim.PROGRESS,
    }
    for kind, claim in left_out.items():
        at = place(kind, {e.Join: 3, e.Measure: 0}.get(kind, 1))
        yield Forgery(f"leaves out an entry: {e.kind_of(kind)}", without(at, at + 1), (claim,))
    yield Forgery("leaves out the first entry", without(0, 1), (Claim.PROGRESS,))
    first = place(e.Open, 2)
    for at in range(first, first + 6):
        names = [e.kind_of(type(ENTRIES[i])) for i in (at, at + 1)]
        claim = {"reveal": Claim.DRAWS, "apply": Claim.VERDICTS}.get(names[1], Claim.PROGRESS)
        yield Forgery(f"swaps two entries: {' and '.join(names)}", swapped(at), (claim,))
    yield Forgery("swaps two joins", swapped(1), (Claim.PROGRESS,))
    o5, o6, o7 = (place(e.Open, n) for n in (5, 6, 7))
    yield Forgery("leaves out a whole round", without(o5, o6), (Claim.PROGRESS,))
    exchanged = lambda: BODIES[:o5] + BODIES[o6:o7] + BODIES[o5:o6] + BODIES[o7:]  # noqa: E731
    yield Forgery("exchanges two rounds", exchanged, (Claim.PROGRESS,))
    for kind, claim in ((e.Apply, Claim.PROGRESS), (e.Commit, Claim.OPENINGS), (e.Verdict, Claim.VERDICTS)):
        at = place(kind, 4)
        yield Forgery(f"writes an entry twice: {e.kind_of(kind)}", inserted(at, BODIES[at]), (claim,))
    yield Forgery("turns the clock back", edited(o5, at=ENTRIES[o5].at - 10), (Claim.PROGRESS,))
    late = edited(o5, at=ENTRIES[o5 + 1].at)
    yield Forgery("says another time, in order", late, (), "nothing: times are the manager's word")


def _ends() -> Iterator[Forgery]:
    o10, commit, release = place(e.Open, 10), place(e.Commit, 10), place(e.Release)
    kept = "a head that somebody kept: `verify --head`"
    stopped = e.Close(at=ENTRIES[o10].at, outcome="stopped", reason="the disk was full")
    complete = e.Close(at=ENTRIES[o10].at, outcome="complete", reason="")
    yield Forgery("cuts the log between rounds", cut(o10), (), kept)
    yield Forgery("cuts the log within a round", cut(commit + 1), (), kept)
    yield Forgery("cuts it and closes it as stopped", cut(o10, stopped), (), kept)
    yield Forgery("cuts it and closes it as complete", cut(o10, complete), (Claim.OUTCOME,))
    within = msgspec.structs.replace(stopped, at=ENTRIES[commit].at)
    yield Forgery("cuts it within a round and closes it", cut(commit + 1, within), (Claim.OUTCOME,))
    end = msgspec.structs.replace(complete, at=ENTRIES[release].at)
    yield Forgery("leaves out the last release", cut(release, end), (Claim.OUTCOME,))
    gone = [e.Withdraw(at=ENTRIES[release].at, worker=n, reason="gone") for n in range(WORKERS) if n != CHEATER]
    yield Forgery("withdraws everybody at the end, and keeps their pay", cut(release, *gone, end), (Claim.OUTCOME,))
    resume = e.Resume(at=ENTRIES[-1].at)
    yield Forgery("goes on after a complete close", lambda: [*BODIES, encode(resume)], (Claim.OUTCOME,))


def _verdicts() -> Iterator[Forgery]:
    agreed, voted = _verdict_of("agree"), _verdict_of("vote")
    vote = ENTRIES[voted]
    assert isinstance(vote, e.Verdict)
    claims = (Claim.VERDICTS,)
    yield Forgery("lets the cheater off", edited(voted, outcome="agree", convicted=[]), claims)
    yield Forgery(
        "evicts an honest worker besides", edited(voted, convicted=sorted([*vote.convicted, 0, 1])[:2]), claims
    )
    yield Forgery("accepts the minority", edited(voted, accepted=digest("x/1")), claims)
    yield Forgery("calls a vote an agreement", edited(voted, outcome="agree"), claims)
    yield Forgery("evicts where all agree", edited(agreed, convicted=[0]), claims)
    yield Forgery("calls agreement a dispute", edited(agreed, outcome="referee", reason="differ"), claims)
    yield Forgery("compares another shard", edited(agreed, shard=(_at(agreed).shard + 1) % 6), claims)
    yield Forgery(
        "evicts three workers as referee, and pays as if not",
        edited(agreed, outcome="referee", reason="suspect", accepted=bytes(32), convicted=_group(agreed)),
        (Claim.PAYMENTS,),
    )


def _at(at: int) -> e.Verdict:
    entry = ENTRIES[at]
    assert isinstance(entry, e.Verdict)
    return entry


def _group(at: int) -> list[int]:
    """Who answered for the shard that a verdict is about."""
    return sorted(RUN.state_before(at).revealed.answers[_at(at).shard])


def _draws() -> Iterator[Forgery]:
    reveal, commit, opened = place(e.Reveal, 4), place(e.Commit, 4), place(e.Open, 4)
    revealed, committed = ENTRIES[reveal], ENTRIES[commit]
    assert isinstance(revealed, e.Reveal) and isinstance(committed, e.Commit)
    first, opening = committed.commitments[0], revealed.openings[0]
    yield Forgery("reveals another secret", edited(reveal, secret=bytes(32)), (Claim.DRAWS,))
    next_secret = edited(reveal, secret=WORLD.chain.secret(revealed.round + 1))
    yield Forgery("reveals the next round's secret", next_secret, (Claim.DRAWS,))
    for what, other in {
        "another result": msgspec.structs.replace(opening, update=digest("x/1")),
        "another salt": msgspec.structs.replace(opening, salt=bytes(len(opening.salt))),
    }.items():
        forged = edited(reveal, openings=[other, *revealed.openings[1:]])
        yield Forgery(f"opens a commitment to {what}", forged, (Claim.OPENINGS,))
    yield Forgery("leaves out an opening", edited(reveal, openings=revealed.openings[1:]), (Claim.OPENINGS,))
    yield Forgery("leaves out a commitment", edited(commit, commitments=committed.commitments[1:]), (Claim.DRAWS,))
    unsigned = msgspec.structs.replace(first, signature=bytes(64))
    yield Forgery(
        "has a commitment without a signature",
        edited(commit, commitments=[unsigned, *committed.commitments[1:]]),
        (Claim.SIGNATURES,),
    )
    all_unsigned = [msgspec.structs.replace(c, signature=bytes(64)) for c in committed.commitments]
    yield Forgery("has no worker's signature", edited(commit, commitments=all_unsigned), (Claim.SIGNATURES,))
    promise = digest("x/1")
    mine = msgspec.structs.replace(first, commitment=promise, signature=WORLD.key.sign(COMMITMENT, promise))
    yield Forgery(
        "commits in a worker's name",
        edited(commit, commitments=[mine, *committed.commitments[1:]]),
        (Claim.SIGNATURES,),
    )
    replayed = e.Commit(at=committed.at, round=committed.round, commitments=_old_commitments())
    yield Forgery(
        "replays an earlier round's commitments", with_body(commit, lambda _: encode(replayed)), (Claim.OPENINGS,)
    )
    yield Forgery(
        "says that another holds a task",
        edited(
            commit,
            commitments=[
                msgspec.structs.replace(first, holder=committed.commitments[1].holder),
                *committed.commitments[1:],
            ],
        ),
        (Claim.SIGNATURES,),
    )
    empty = e.Commit(at=ENTRIES[opened].at, round=revealed.round, commitments=[])
    yield Forgery("has an empty commit", inserted(commit, empty), (Claim.OPENINGS,))
    yield Forgery("opens a round without shards", edited(opened, shards=[]), (Claim.PROGRESS,))
    yield Forgery("opens a round over fewer examples", edited(opened, examples=3), (Claim.PROGRESS,))
    yield Forgery("opens a round of other examples", edited(opened, offset=0), (Claim.PROGRESS,))
    yield Forgery("opens a round of another epoch", edited(opened, epoch=1), (Claim.PROGRESS,))
    shards = [digest("x/1"), *_opened(opened).shards[1:]]
    yield Forgery("names another shard afterwards", edited(opened, shards=shards), (Claim.OPENINGS,))


def _opened(at: int) -> e.Open:
    entry = ENTRIES[at]
    assert isinstance(entry, e.Open)
    return entry


def _old_commitments() -> list[e.Commitment]:
    entry = ENTRIES[place(e.Commit, 3)]
    assert isinstance(entry, e.Commit)
    return entry.commitments


def _joins() -> Iterator[Forgery]:
    o5, join = place(e.Open, 5), ENTRIES[1]
    assert isinstance(join, e.Join)
    now = ENTRIES[o5].at
    twin = joining(8, WORLD.players[0].key, o5)
    yield Forgery("admits a second worker with the key of the first", inserted(o5, twin), (Claim.PROGRESS,))
    key = bytearray(join.key)
    key[31] ^= 0x80
    other = msgspec.structs.replace(twin, key=bytes(key))
    yield Forgery("admits that key with its sign bit flipped", inserted(o5, other), (Claim.SIGNATURES,))
    leave = e.Withdraw(at=now, worker=3, reason="gone")
    joined = ENTRIES[4]
    assert isinstance(joined, e.Join) and joined.worker == 3
    replay = msgspec.structs.replace(joined, at=now)
    yield Forgery(
        "withdraws a worker, and replays its signature on joining", inserted(o5, leave, replay), (Claim.SIGNATURES,)
    )
    richer = msgspec.structs.replace(joined, deposit=0)
    yield Forgery("says that a worker brought no deposit", with_body(4, lambda _: encode(richer)), (Claim.SIGNATURES,))
    unshared = msgspec.structs.replace(joined, share=bytes(64))
    yield Forgery(
        "changes a worker's share of the draws", with_body(4, lambda _: encode(unshared)), (Claim.SIGNATURES,)
    )
    false_head = msgspec.structs.replace(joined, root=digest("x/1"))
    yield Forgery(
        "says that a worker saw another head", with_body(4, lambda _: encode(false_head)), (Claim.SIGNATURES,)
    )
    future = joining(8, WORLD.key, o5, seen=TreeSize(10**6, digest("x/1")))
    yield Forgery("has a newcomer see a head that is not there yet", inserted(o5, future), (Claim.SIGNATURES,))
    evicted = joining(CHEATER, WORLD.players[CHEATER].key, o5, seen=RUN.last_head(o5))
    yield Forgery("lets the evicted cheater in again", inserted(o5, evicted), (Claim.PROGRESS,))
    within = joining(8, SigningKey(digest("new/1")), o5 + 1)
    yield Forgery("admits a worker within a round", inserted(o5 + 1, within), (Claim.PROGRESS,))
    sybil = joining(8, SigningKey(digest("new/1")), o5)
    yield Forgery("admits a worker that takes no part", inserted(o5, sybil), (Claim.PROGRESS,))
    stop = place(e.Measure, -1)
    late = joining(8, SigningKey(digest("new/1")), stop)
    yield Forgery(
        "admits a worker of its own, and cuts the log",
        cut(stop + 1, msgspec.structs.replace(late, at=ENTRIES[stop].at)),
        (),
        "nothing: keys are not people",
    )
    yield Forgery(
        "withdraws one that is not there", inserted(o5, e.Withdraw(at=now, worker=99, reason="")), (Claim.PROGRESS,)
    )
    yield Forgery("withdraws a worker afterwards", inserted(o5, leave), (Claim.PROGRESS,))


def _values() -> Iterator[Forgery]:
    apply, last, measure = place(e.Apply, 4), place(e.Apply, -1), place(e.Measure)
    progress = (Claim.PROGRESS,)
    yield Forgery("says a false loss", edited(apply, loss=0.0001), (), "`audit`: LOSSES")
    yield Forgery("says a negative loss", edited(apply, loss=-5.0), (), "`audit`: LOSSES")
    yield Forgery("says an infinite loss", edited(apply, loss=math.inf), progress)
    yield Forgery("says a loss that is no number", edited(apply, loss=math.nan), progress)
    yield Forgery("names another update", edited(apply, update=bytes(32)), (), "`audit`: AVERAGES, PARAMETERS")
    yield Forgery("names other parameters after a round", edited(apply, parameters=bytes(32)), progress)
    yield Forgery("names other last parameters", edited(last, parameters=bytes(32)), progress)
    ending = lambda: edited(last, parameters=bytes(32))()[: last + 2]  # noqa: E731
    yield Forgery(
        "names other last parameters, and cuts the log after them",
        ending,
        (),
        "`audit`: PARAMETERS; `verify` where model.safetensors is there: MODEL",
    )
    figures = [e.Figure("accuracy", 0.999), e.Figure("loss", 0.0001)]
    yield Forgery("says false figures", edited(measure, figures=figures), (), "`audit`: FIGURES")
    yield Forgery("says no figures", edited(measure, figures=[]), (), "`audit`: FIGURES")
    yield Forgery("says figures that are no numbers", edited(measure, figures=[e.Figure("loss", math.nan)]), progress)
    yield Forgery("says a figure twice", edited(measure, figures=[figures[0], figures[0]]), progress)
    yield Forgery("says figures of other parameters", edited(measure, parameters=bytes(32)), progress)
    yield Forgery("says figures of another test set", edited(measure, test=bytes(31) + b"\1"), progress)
    yield Forgery("says figures of another epoch", edited(measure, epoch=1), progress)
    yield Forgery("says figures twice", inserted(measure, BODIES[measure]), progress)
    clipped = edited(apply, clipped=[e.ClippedPart(0, 0, 1)])
    yield Forgery("clips in a run that does not clip", clipped, progress)
    both = (Claim.TERMS, Claim.SIGNATURES)
    yield Forgery("begins with another reward afterwards", edited(0, reward=0), both)
    yield Forgery("begins with another seed afterwards", edited(0, seed=bytes(32)), both)
    yield Forgery("begins with other data afterwards", edited(0, data=bytes(32)), (Claim.SIGNATURES,))
    yield Forgery("begins with another recipe", edited(0, recipe=bytes(32)), (Claim.DOCUMENTS, Claim.SIGNATURES))
    close = place(e.Close)
    yield Forgery("gives another reason for its end", edited(close, reason="x"), (), "nothing: reasons are words")


def _encodings() -> Iterator[Forgery]:
    at = place(e.Apply, 4)
    raw = BODIES[at]
    number, loss = raw.index(b"\xa5round") + 6, raw.index(b"\xa4loss") + 5
    form = (Claim.FORM,)
    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "has a field that nobody knows": lambda d: d.update(zzz=1),
        "has its fields in another order": lambda d: {key: d[key] for key in reversed(d)},
        "leaves out a field": lambda d: d.pop("loss") and None,
        "numbers a round 2^64 - 1": lambda d: d.update(round=2**64 - 1),
        "numbers a round -1": lambda d: d.update(round=-1),
        "says a time of 2^63": lambda d: d.update(at=2**63),
        "writes an entry of format 3": lambda d: d.update(kind="apply/3"),
        "writes a kind in capitals": lambda d: d.update(kind="Apply/4"),
        "writes a kind that is none": lambda d: d.update(kind="audit/4"),
        "writes an entry of format 5": lambda d: d.update(kind="apply/5"),
        "writes a digest too short": lambda d: d.update(update=bytes(31)),
        "writes a digest as text": lambda d: d.update(update="x" * 32),
    }
    for what, change in changes.items():
        yield Forgery(what, document(at, change), form)
    bodies: dict[str, bytes] = {
        "writes an integer not in its shortest form": raw[:number] + b"\xd0" + raw[number:],
        "writes a byte after an entry": raw + b"\0",
        "writes a loss as an integer": raw[:loss] + b"\x01" + raw[loss + 9 :],
        "writes a loss as float32": raw[:loss] + b"\xca" + struct.pack(">f", 0.5) + raw[loss + 9 :],
        "writes a byte that is no entry": b"\xc1",
        "writes an empty entry": b"",
        "nests 200,000 maps": b"\x81" * 200_000,
    }
    for what, body in bodies.items():
        yield Forgery(what, with_body(at, lambda _, body=body: body), form)  # type: ignore[misc]
    far = document(at, lambda d: d.update(at=MAX_INT))
    yield Forgery("says a time of 2^63 - 1 in the middle", far, (Claim.PROGRESS,))
    yield Forgery("begins twice", inserted(1, BODIES[0]), (Claim.PROGRESS,))


FORGERIES: dict[str, Forgery] = {forgery.what: forgery for forgery in forgeries()}
