"""Every field of every kind of entry, changed: naively in the database, and by a manager who signs it all again.

The second list is the honest account of what a log alone can prove: where it says None, only executing the tasks
again (`podlt audit`) or a clock would tell, and docs/THREATS.md says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from scripted import amended_run, failing, verified

from podlt.canonical import encode
from podlt.crypto import SigningKey, digest
from podlt.log.merkle import Tree, leaf_hash
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import JoinTerms
from podlt.protocol.rules import RunState
from podlt.protocol.signatures import JOIN
from podlt.sim.world import MemoryLog
from podlt.verify import Verification

WORLD, LOG = amended_run()
ENTRIES: list[e.AnyEntry] = [e.decode(body) for _, _, body in LOG.entries()]

EVIL: dict[str, Claim | None] = {
    "begin.at": None,  # any time before the next entry's
    "begin.preset": Claim.TERMS,
    "begin.manager": Claim.SIGNATURES,
    "begin.nonce": Claim.SIGNATURES,
    "begin.recipe": Claim.DOCUMENTS,
    "begin.program": Claim.DOCUMENTS,
    "begin.data": Claim.SIGNATURES,
    "begin.parameters": Claim.SIGNATURES,
    "begin.test": Claim.SIGNATURES,
    "begin.seed": Claim.TERMS,
    "begin.examples": Claim.TERMS,  # the chain is too short for more; `podlt audit` counts them
    "begin.epochs": Claim.TERMS,
    "begin.batch_size": Claim.TERMS,
    "begin.shard_size": Claim.TERMS,
    "begin.local_steps": Claim.TERMS,
    "begin.local_lr": Claim.TERMS,
    "begin.spares": Claim.TERMS,
    "begin.checked": Claim.TERMS,
    "begin.own": Claim.TERMS,
    "begin.own_most": Claim.TERMS,
    "begin.clip": Claim.TERMS,
    "begin.escrow": Claim.TERMS,
    "begin.first_fault": Claim.TERMS,
    "begin.reward": Claim.TERMS,
    "begin.chain_end": Claim.SIGNATURES,
    "begin.chain_length": Claim.TERMS,
    "begin.arithmetic": Claim.SIGNATURES,
    "join.at": None,
    "join.worker": Claim.SIGNATURES,
    "join.key": Claim.SIGNATURES,
    "join.operator": Claim.SIGNATURES,
    "join.deposit": Claim.SIGNATURES,
    "join.seen": Claim.SIGNATURES,
    "join.root": Claim.SIGNATURES,
    "join.signature": Claim.SIGNATURES,
    "join.share": Claim.SIGNATURES,
    "withdraw.at": None,
    "withdraw.worker": Claim.OPENINGS,  # who was called gone commits later
    "withdraw.reason": None,  # the manager's word
    "shares.at": None,
    "shares.round": Claim.PROGRESS,
    "shares.levels": Claim.PROGRESS,
    "shares.levels[].worker": Claim.PROGRESS,
    "shares.levels[].level": Claim.PROGRESS,
    "open.at": None,
    "open.round": Claim.PROGRESS,
    "open.attempt": Claim.PROGRESS,
    "open.epoch": Claim.PROGRESS,
    "open.offset": Claim.PROGRESS,
    "open.examples": Claim.PROGRESS,
    "open.parameters": Claim.PROGRESS,
    "open.shards": Claim.PROGRESS,
    "open.shards[]": Claim.OPENINGS,
    "redeal.at": None,
    "redeal.round": Claim.PROGRESS,
    "redeal.seat": Claim.OPENINGS,  # whoever committed holds another task then
    "redeal.holder": Claim.OPENINGS,  # whoever committed does not hold the task then
    "commit.at": None,
    "commit.round": Claim.PROGRESS,
    "commit.commitments": Claim.DRAWS,  # a task that was dealt has no answer
    "commit.commitments[].seat": Claim.OPENINGS,
    "commit.commitments[].holder": Claim.SIGNATURES,
    "commit.commitments[].commitment": Claim.SIGNATURES,
    "commit.commitments[].signature": Claim.SIGNATURES,
    "reveal.at": None,
    "reveal.round": Claim.PROGRESS,
    "reveal.secret": Claim.DRAWS,
    "reveal.openings": Claim.OPENINGS,
    "reveal.openings[].seat": Claim.OPENINGS,
    "reveal.openings[].holder": Claim.OPENINGS,
    "reveal.openings[].update": Claim.OPENINGS,
    "reveal.openings[].salt": Claim.OPENINGS,
    "verdict.at": None,
    "verdict.round": Claim.PROGRESS,
    "verdict.shard": Claim.VERDICTS,
    "verdict.outcome": Claim.VERDICTS,
    "verdict.reason": Claim.VERDICTS,
    "verdict.accepted": Claim.VERDICTS,
    "verdict.convicted": Claim.VERDICTS,
    "verdict.convicted[]": Claim.VERDICTS,
    "apply.at": None,
    "apply.round": Claim.PROGRESS,
    "apply.update": None,  # `podlt audit` averages again
    "apply.parameters": Claim.PROGRESS,
    "apply.loss": None,  # `podlt audit` has it from the average
    "apply.clipped": None,  # `podlt audit` clips again
    "apply.clipped[].shard": None,
    "apply.clipped[].part": None,
    "apply.clipped[].exponent": None,
    "measure.at": None,
    "measure.epoch": Claim.PROGRESS,
    "measure.test": Claim.PROGRESS,
    "measure.parameters": Claim.PROGRESS,
    "measure.figures": None,  # `podlt audit` evaluates again
    "measure.figures[].name": None,
    "measure.figures[].value": None,
    "pay.at": None,
    "pay.round": Claim.PROGRESS,
    "pay.transfers": Claim.PAYMENTS,
    "pay.transfers[].kind": Claim.PAYMENTS,
    "pay.transfers[].worker": Claim.PAYMENTS,
    "pay.transfers[].amount": Claim.PAYMENTS,
    "release.at": None,
    "release.transfers": Claim.OUTCOME,  # a deposit is held when the run is called complete
    "release.transfers[].kind": Claim.PAYMENTS,
    "release.transfers[].worker": Claim.PAYMENTS,
    "release.transfers[].amount": Claim.PAYMENTS,
    "amend.at": None,
    "amend.epochs": Claim.PROGRESS,
    "amend.optimizer": Claim.TERMS,
    "amend.reason": None,  # the manager's word
    "resume.at": None,
    "close.at": None,
    "close.outcome": Claim.OUTCOME,
    "close.reason": None,  # the manager's word
}
"""Field -> the first claim that an evil manager's change breaks; None where the log cannot show it.

A changed term breaks two: the recipe says otherwise, and workers signed a run of another identity.
"""


def fields_of(kind: type[e.Entry]) -> Iterator[str]:
    """Every field of a kind of entry, those of its lists' items too."""
    name = e.kind_of(kind)
    for field in msgspec.structs.fields(kind):
        yield f"{name}.{field.name}"
        items = [v for entry in ENTRIES if isinstance(entry, kind) for v in _list(getattr(entry, field.name))]
        if not items:
            continue
        if isinstance(items[0], msgspec.Struct):
            yield from (f"{name}.{field.name}[].{inner.name}" for inner in msgspec.structs.fields(type(items[0])))
        else:
            yield f"{name}.{field.name}[]"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


OTHER_WORDS = {
    "agree": "vote", "vote": "agree", "referee": "agree",
    "compared": "own", "own": "compared", "differ": "suspect", "suspect": "differ",
    "earn": "vest", "vest": "forfeit", "forfeit": "earn", "return": "vest",
    "complete": "stopped", "stopped": "complete", "classic": "guarded", "guarded": "classic",
    "suspend": "evict", "evict": "suspend",
}  # fmt: skip


def other(value: Any) -> Any:
    """A value of the same type that is not the same."""
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, list):
        return value[:-1] if value else [1]
    if value is None:
        return 0.5
    if isinstance(value, str):
        return OTHER_WORDS.get(value, value + "!")
    return value + 1


def other_in(path: str, value: Any) -> Any:
    """As `other`; another holder is one who could hold the task."""
    return value - 1 if path == "redeal.holder" and value else other(value)


def changed(entry: e.AnyEntry, path: str) -> e.AnyEntry:
    """The entry with one field changed, in the first item if it is a list's items'."""
    field, listed, inner = path.partition(".")[2].partition("[]")
    value = getattr(entry, field)
    if not listed:
        return msgspec.structs.replace(entry, **{field: other_in(path, value)})
    item = value[0]
    inner = inner.removeprefix(".")
    new = msgspec.structs.replace(item, **{inner: other(getattr(item, inner))}) if inner else other(item)
    return msgspec.structs.replace(entry, **{field: [new, *value[1:]]})


def place_of(path: str) -> int:
    """Which entry to change: one in the middle of the run that has the field, and not the run's first join."""
    kind, _, field = path.partition(".")
    name, listed, _ = field.partition("[]")
    reopened = next(i for i, entry in enumerate(ENTRIES) if isinstance(entry, e.Amend))
    where = enumerate(ENTRIES[:reopened] if kind != "amend" else ENTRIES)
    filled = bool(listed) or path == "apply.clipped"
    found = [i for i, entry in where if e.kind_of(type(entry)) == kind and (not filled or getattr(entry, name))]
    if path == "close.outcome":
        return found[0]  # "stopped" made "complete"; the other way round is a test of its own
    if path == "verdict.accepted":
        found = [i for i in found if getattr(ENTRIES[i], "outcome", "") == "agree"]  # a referee's word: see below
    return found[len(found) // 2]


ALL_FIELDS = [path for kind in e.KINDS for path in fields_of(kind)]


def verify_rows(log: MemoryLog) -> Verification:
    return verified(WORLD, log)


def signed_again(bodies: list[bytes], key: SigningKey, identity: bytes, shown: int | None = None) -> MemoryLog:
    """The log as its manager would have written it: leaves, tree and heads are made anew.

    Args:
        shown: the entry that was written otherwise at once, so that whoever joined later signed a head over that;
            None: what was signed when it joined stands.
    """
    log, tree, start = MemoryLog(), Tree(), 0
    roots = {0: tree.root()}
    for size, _ in LOG.heads():
        numbered = enumerate(bodies[start:size], start)
        batch = [body if at == shown else signed_over(body, roots, shown) for at, body in numbered]
        for body in batch:
            tree.append(leaf_hash(body))
        roots[size] = tree.root()
        log.append(start, batch, sign_head(Head(origin_of(identity), tree.size, tree.root()), key))
        start = size
    return log


def signed_over(body: bytes, roots: dict[int, bytes], shown: int | None) -> bytes:
    """A joining that saw a head over the entry `shown`, signed over the log as it is now; any other entry as it is."""
    if shown is None or b"join/4" not in body[:16]:
        return body
    join = e.decode(body)
    assert isinstance(join, e.Join)
    if join.seen <= shown or join.root == roots[join.seen]:
        return body
    terms = msgspec.structs.replace(JoinTerms.of(join), root=roots[join.seen])
    signature = WORLD.players[join.worker].key.sign(JOIN, terms.message(WORLD.state.run))
    return encode(msgspec.structs.replace(join, root=terms.root, signature=signature))


def signed_with(place: int, body: bytes, *, at_once: bool = True) -> MemoryLog:
    """The log with another entry at a place: written so at once, or after the run, when workers have signed."""
    bodies = [row[2] for row in LOG.entries()]
    bodies[place] = body
    try:
        begin = e.decode(bodies[0])
    except Exception:
        begin = ENTRIES[0]
    assert isinstance(begin, e.Begin)
    return signed_again(bodies, WORLD.key, e.identity(begin), place if at_once else None)


def test_the_untouched_run_is_sound_and_holds_every_kind_of_entry() -> None:
    assert not failing(verify_rows(LOG))
    assert {type(entry) for entry in ENTRIES} == set(e.KINDS)
    outcomes = {(entry.outcome, entry.reason) for entry in ENTRIES if isinstance(entry, e.Verdict)}
    executed = {("referee", reason) for reason in ("differ", "own", "suspect")}
    assert outcomes == {("agree", "compared"), ("agree", "own")} | executed
    kinds = {t.kind for entry in ENTRIES if isinstance(entry, e.Pay | e.Release) for t in entry.transfers}
    assert kinds == {"earn", "vest", "forfeit", "seize", "return"}


def test_the_table_lists_every_field_of_every_kind() -> None:
    assert sorted(ALL_FIELDS) == sorted(EVIL)


@pytest.mark.parametrize("path", ALL_FIELDS)
def test_a_field_changed_in_the_database_is_found_at_its_entry(path: str) -> None:
    place = place_of(path)
    log = MemoryLog()
    log.rows, log.notes = list(LOG.rows), list(LOG.notes)
    number, leaf, _ = log.rows[place]
    log.rows[place] = number, leaf, encode(changed(ENTRIES[place], path))
    failure = verify_rows(log).failure
    assert failure is not None
    assert (failure.entry, failure.step) == (place, Claim.TREE)


@pytest.mark.parametrize("path", ALL_FIELDS)
def test_a_field_changed_with_its_stored_hash_is_found_by_the_tree_head(path: str) -> None:
    place = place_of(path)
    log = MemoryLog()
    log.rows, log.notes = list(LOG.rows), list(LOG.notes)
    body = encode(changed(ENTRIES[place], path))
    log.rows[place] = place, leaf_hash(body), body
    failure = verify_rows(log).failure
    assert failure is not None
    # The first entry names the log, the manager and the form of all: it is found by what it says.
    early = {Claim.TREE} if place else {Claim.TREE, Claim.HEADS, Claim.DOCUMENTS, Claim.FORM}
    assert failure.step in early | ({Claim.TERMS} if not place else set())


@pytest.mark.parametrize("path", ALL_FIELDS)
def test_a_field_changed_by_the_manager_is_found_at_its_step(path: str) -> None:
    place = place_of(path)
    result = verify_rows(signed_with(place, encode(changed(ENTRIES[place], path))))
    failed, failure, expected = failing(result), result.failure, EVIL[path]
    if path == "begin.manager":
        expected = Claim.HEADS  # unless the heads are the new manager's: see below
    assert failed[:1] == ([] if expected is None else [expected]), failure
    if expected is Claim.TERMS:
        assert {"begin.examples": "chain_length"}.get(path, path.partition(".")[2]) in result.finding(Claim.TERMS).why
        assert place or len(failed) == 2, "no worker signed this run, or the rules do not know such a one"
    if failure is not None and failure.entry is not None:
        assert failure.entry >= place


@pytest.mark.parametrize("path", [path for path in ALL_FIELDS if EVIL[path] is None])
def test_whoever_came_back_signed_all_that_was_written_before(path: str) -> None:
    place = place_of(path)
    witness = next((i for i, x in enumerate(ENTRIES) if isinstance(x, e.Join) and x.seen > place), None)
    failure = verify_rows(signed_with(place, encode(changed(ENTRIES[place], path)), at_once=False)).failure
    if witness is None:
        assert failure is None
    else:
        assert failure is not None and (failure.entry, failure.step) == (witness, Claim.SIGNATURES)


def test_another_manager_cannot_take_a_run_over() -> None:
    thief = SigningKey(digest("thief/1"))
    begin = msgspec.structs.replace(ENTRIES[0], manager=thief.public)
    assert isinstance(begin, e.Begin)
    bodies = [encode(begin), *(row[2] for row in LOG.rows[1:])]
    failure = verify_rows(signed_again(bodies, thief, e.identity(begin))).failure
    assert failure is not None and (failure.step, failure.entry) == (EVIL["begin.manager"], 1)


def test_a_time_before_the_entry_before_fails() -> None:
    for place in range(1, len(ENTRIES), 9):
        body = encode(msgspec.structs.replace(ENTRIES[place], at=ENTRIES[place - 1].at - 1))
        failure = verify_rows(signed_with(place, body)).failure
        assert failure is not None and (failure.entry, failure.step) == (place, Claim.PROGRESS)


def test_complete_may_be_called_stopped_but_the_run_can_then_go_no_further() -> None:
    last = len(ENTRIES) - 1
    assert isinstance(ENTRIES[last], e.Close)
    assert not failing(verify_rows(signed_with(last, encode(changed(ENTRIES[last], "close.outcome")))))


def test_the_last_parameters_are_the_word_of_the_manager_until_somebody_audits() -> None:
    last = max(i for i, x in enumerate(ENTRIES) if isinstance(x, e.Apply) and not isinstance(ENTRIES[i + 2], e.Measure))
    assert failing(verify_rows(signed_with(last, encode(changed(ENTRIES[last], "apply.parameters")))))
    cut = next(size for size, _ in LOG.heads() if size > last)
    log = signed_with(last, encode(changed(ENTRIES[last], "apply.parameters")))
    log.rows, log.notes = log.rows[:cut], [note for note in log.notes if note[0] <= cut]
    assert not failing(verify_rows(log))


@pytest.mark.parametrize("reason", ["own", "suspect", "differ"])
def test_what_a_referee_accepted_is_the_word_of_the_manager_until_somebody_audits(reason: str) -> None:
    """But for who agreed with it: whoever is convicted then, and whoever is not, follows from it."""
    for place, entry in enumerate(ENTRIES):
        if isinstance(entry, e.Verdict) and (entry.outcome, entry.reason) == ("referee", reason):
            state = state_before(place)
            alone = entry.accepted not in state.revealed.answers[entry.shard].values()
            found = failing(verify_rows(signed_with(place, encode(changed(entry, "verdict.accepted")))))
            assert found == ([] if alone else [Claim.VERDICTS])
            break
    else:
        raise AssertionError("no such verdict")


def state_before(place: int) -> RunState:
    state = RunState()
    for entry in ENTRIES[:place]:
        state.apply(entry)
    return state


def edits() -> dict[str, Callable[[list[bytes]], None]]:
    def swap(bodies: list[bytes], i: int) -> None:
        bodies[i], bodies[i + 1] = bodies[i + 1], bodies[i]

    middle = next(i for i, x in enumerate(ENTRIES) if isinstance(x, e.Pay) and i > len(ENTRIES) // 2)
    return {
        "a verdict left out": lambda b: b.__delitem__(middle - 2),
        "a payment left out": lambda b: b.__delitem__(middle),
        "an entry twice": lambda b: b.insert(middle, b[middle]),
        "two entries swapped": lambda b: swap(b, middle - 1),
        "a commitment after its opening": lambda b: swap(b, middle - 4),
        "the first entry twice": lambda b: b.insert(1, b[0]),
        "no first entry": lambda b: b.__delitem__(0),
        "an entry after the close": lambda b: b.append(b[-2]),
        "a worker joins twice": lambda b: b.insert(2, b[1]),
    }


@pytest.mark.parametrize("name", sorted(edits()))
def test_entries_left_out_repeated_or_reordered_by_the_manager_fail(name: str) -> None:
    bodies = [row[2] for row in LOG.rows]
    edits()[name](bodies)
    begin = ENTRIES[0]
    assert isinstance(begin, e.Begin)
    log, tree = MemoryLog(), Tree()
    for body in bodies:
        tree.append(leaf_hash(body))
    log.append(0, bodies, sign_head(Head(origin_of(e.identity(begin)), tree.size, tree.root()), WORLD.key))
    assert failing(verify_rows(log))
