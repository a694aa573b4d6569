"""What a worker signs when it joins serves once: for its run, its number, its deposit, and the log that it saw."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from scripted import CLASSIC, failing, moods, scripted, scripted_world, until, verified

from podlt.canonical import encode
from podlt.errors import PeerError
from podlt.log.merkle import EMPTY_ROOT
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.families.membership import MOST_LEFT_BOUND, may_return
from podlt.protocol.messages import JoinSignatures, JoinTerms, TreeSize
from podlt.protocol.roster import WorkerState
from podlt.protocol.signatures import signature_checks
from podlt.sim.world import MemoryLog, Scenario, World

from .steps_of_a_round import HIDDEN, SCENARIO, fresh, joining, opened, refused


def heads(world: World) -> TreeSize:
    return TreeSize(world.tree.size, world.tree.root())


def left_and_back() -> tuple[World, MemoryLog, e.Join, e.Join]:
    """A run in which worker 2 left and came back; its two joinings."""
    world, log = scripted_world(SCENARIO, 6)
    world.step()
    world.manager.withdraw(2, "goes")
    world.write()
    world.admit(world.players[2])
    world.write()
    joins = [x for x in (e.decode(row[2]) for row in log.rows) if isinstance(x, e.Join) and x.worker == 2]
    return world, log, joins[0], joins[1]


def test_a_signature_on_joining_serves_once() -> None:
    world, _, first, second = left_and_back()
    world.manager.withdraw(2, "goes again")
    world.write()
    for old in (first, second):
        entry = msgspec.structs.replace(old, at=world.state.at)
        failure = refused(world.state, entry)
        assert failure.step == Claim.SIGNATURES and "before it joined last" in failure.reason
        with pytest.raises(PeerError, match="out of date"):
            world.manager.join(old.key, JoinTerms.of(old), JoinSignatures.of(old))
    world.admit(world.players[2])
    assert world.state.is_active(2)


def test_terms_that_were_offered_before_a_worker_joined_cannot_bring_it_back_later() -> None:
    """A manager that collected two signatures over one head can use only one of them."""
    world = fresh()
    player = scripted(6, world.gossip)
    terms = [JoinTerms(6, deposit, *msgspec.structs.astuple(heads(world))) for deposit in (0, 7)]
    signatures = [player.join(world.state.run, each) for each in terms]
    world.manager.join(player.key.public, terms[0], signatures[0])
    world.write()
    world.manager.withdraw(6, "goes")
    world.write()
    with pytest.raises(PeerError, match="out of date"):
        world.manager.join(player.key.public, terms[1], signatures[1])


@pytest.mark.parametrize(
    "change",
    [
        {"worker": 9},
        {"operator": "else"},
        {"deposit": 1},
        {"seen": 0, "root": EMPTY_ROOT},
        {"root": bytes(32)},
        {"key": bytes(32)},
    ],
)
def test_another_operator_number_deposit_head_or_key_than_was_signed_fails(change: dict[str, Any]) -> None:
    world = fresh()
    player = scripted(6, world.gossip)
    entry = joining(world, player)
    assert [check.holds() for check in signature_checks(world.state, entry)] == [True, True]
    changed = msgspec.structs.replace(entry, **change)
    share_holds = "key" not in change
    assert [check.holds() for check in signature_checks(world.state, changed)] == [False, share_holds]
    with pytest.raises(PeerError, match="signature"):
        world.manager.join(changed.key, JoinTerms.of(changed), JoinSignatures.of(changed))


def test_a_signature_for_another_run_fails() -> None:
    world, other = fresh(), fresh(6, Scenario(examples=41, batch_size=10, protocol=CLASSIC))
    entry = joining(other, scripted(6, other.gossip))
    assert [check.holds() for check in signature_checks(world.state, entry)] == [False, False]


def appended(world: World, log: MemoryLog, entry: e.Join) -> MemoryLog:
    """The log with one more entry, under a sound head."""
    more = MemoryLog()
    more.rows, more.notes = list(log.rows), list(log.notes)
    tree, body = world.tree.copy(), encode(entry)
    more.append(len(log.rows), [body], "")
    tree.append(more.rows[-1][1])
    more.notes[-1] = tree.size, sign_head(Head(origin_of(world.state.run), tree.size, tree.root()), world.key)
    return more


def test_who_joins_must_have_seen_a_head_that_the_log_had_then() -> None:
    world, log = scripted_world(SCENARIO, 6)
    world.step()
    world.write()
    player = scripted(6, world.gossip)
    sizes = [size for size, _ in log.heads()]

    def signed(seen: int, root: bytes) -> e.Join:
        terms = JoinTerms(6, 0, seen, root)
        signatures = player.join(world.state.run, terms)
        return msgspec.structs.replace(joining(world, player), seen=seen, root=root, signature=signatures.terms)

    root = world.tree.root()
    assert sizes[-1] == world.tree.size == len(log.rows)
    assert not failing(verified(world, appended(world, log, signed(sizes[-1], root))))
    assert not failing(verified(world, appended(world, log, signed(0, EMPTY_ROOT))))
    for seen, claimed in (
        (sizes[-1] - 1, root),  # a size without a head
        (sizes[-1], bytes(32)),  # a head of another log, or of a fork
        (sizes[-2], root),
        (0, root),
        (sizes[-1] + 1, root),  # the head over this entry
        (2**40, root),
    ):
        result = verified(world, appended(world, log, signed(seen, claimed)))
        assert failing(result) == [Claim.SIGNATURES] and result.failure is not None
        assert result.failure.entry == len(log.rows)


def test_a_head_was_seen_after_it_was_there() -> None:
    world = fresh()
    entry = msgspec.structs.replace(joining(world, scripted(6, world.gossip)), seen=world.state.index + 1)
    assert refused(world.state, entry).step == Claim.SIGNATURES
    with pytest.raises(PeerError, match="out of date"):
        player = scripted(6, world.gossip)
        terms = JoinTerms(6, 0, world.state.index + 1, bytes(32))
        world.manager.join(player.key.public, terms, player.join(world.state.run, terms))


def test_the_manager_offers_a_number_that_nobody_has_or_was_offered() -> None:
    world = fresh()
    key = scripted(6, world.gossip).key.public
    assert world.manager.join_terms(key, 0, heads(world)).worker == 6
    assert world.manager.join_terms(key, 0, heads(world), reserved={6, 7}).worker == 8
    world.manager.withdraw(3, "goes")
    assert world.manager.join_terms(world.players[3].key.public, 4, heads(world)) == JoinTerms(
        3, 4, world.tree.size, world.tree.root()
    )
    with pytest.raises(PeerError, match="active"):
        world.manager.join_terms(world.players[2].key.public, 0, heads(world))


def test_two_that_were_offered_the_same_number_do_not_both_join() -> None:
    world = fresh()
    players = [scripted(number, world.gossip) for number in (6, 7)]
    terms = world.manager.join_terms(players[0].key.public, 0, heads(world))
    for player in players:
        player.number = terms.worker
    world.manager.join(players[0].key.public, terms, players[0].join(world.state.run, terms))
    with pytest.raises(PeerError, match="out of date"):
        world.manager.join(players[1].key.public, terms, players[1].join(world.state.run, terms))


def test_a_workers_share_of_the_draws_is_the_same_whatever_terms_it_is_offered() -> None:
    """Or a manager could offer terms again until the share that comes of them suits it."""
    world = fresh()
    player = scripted(6, world.gossip)
    offers = [JoinTerms(number, deposit, 0, EMPTY_ROOT) for number in (6, 7) for deposit in (0, 1)]
    signatures = [player.join(world.state.run, terms) for terms in offers]
    assert len({each.share for each in signatures}) == 1 and len({each.terms for each in signatures}) == 4
    entry = msgspec.structs.replace(joining(world, player), share=signatures[0].terms)
    assert [check.holds() for check in signature_checks(world.state, entry)] == [True, False]
    world.state.apply(joining(world, player))
    assert world.state.joined[-1] == signatures[0].share


def test_nobody_joins_within_a_round() -> None:
    world = fresh()
    entry = joining(world, scripted(6, world.gossip))
    opened(world)
    assert refused(world.state, entry).step == Claim.PROGRESS


def test_what_is_signed_has_fixed_lengths_but_its_end_so_that_no_two_terms_give_the_same() -> None:
    run = bytes(range(32))
    messages = {
        JoinTerms(worker, deposit, seen, bytes([root]) * 32, operator).message(run)
        for worker in (0, 1, 256) for deposit in (0, 1, 256) for seen in (0, 1, 256) for root in (0, 1)
        for operator in ("", "a", "aa")
    }  # fmt: skip
    assert len(messages) == 162 and {len(message) for message in messages} == {88, 89, 90}


# -- operators, suspension, and who left too often ---------------------------------------------------------------------


def suspended() -> tuple[World, MemoryLog]:
    """A guarded run in which worker 0 was convicted once."""
    scenario = msgspec.structs.replace(HIDDEN, examples=400)
    world, log = scripted_world(scenario, 6, operators={0: "anna", 1: "anna"})
    moods(world)[0].mood = "fake"
    until(world, lambda: 0 in world.convicted_in)
    moods(world)[0].mood = "honest"
    assert world.state.workers[0].status == "suspended"
    return world, log


def test_who_comes_back_keeps_its_operator_whatever_its_invitation_says_now() -> None:
    world, _ = suspended()
    player = world.players[0]
    terms = world.manager.join_terms(player.key.public, 0, heads(world), operator="bea")
    assert terms.operator == "anna"
    other = msgspec.structs.replace(terms, operator="bea")
    with pytest.raises(PeerError, match="out of date"):
        world.manager.join(player.key.public, other, player.join(world.state.run, other))
    player.operator = "bea"
    assert refused(world.state, joining(world, player)).step == Claim.PROGRESS
    player.operator = "anna"
    world.admit(player)
    assert world.state.is_active(0)


def test_who_is_suspended_comes_back_once_with_a_new_signature_and_is_evicted_the_second_time() -> None:
    world, log = suspended()
    first = next(x for x in (e.decode(row[2]) for row in log.rows) if isinstance(x, e.Join) and x.worker == 0)
    old = msgspec.structs.replace(first, at=world.state.at)
    assert refused(world.state, old).step == Claim.SIGNATURES
    gone = e.Withdraw(at=world.state.at, worker=0, reason="")
    assert refused(world.state, gone).step == Claim.PROGRESS
    world.admit(world.players[0])
    moods(world)[0].mood = "fake"
    until(world, lambda: world.state.workers[0].status != "active")
    assert (world.state.workers[0].status, world.state.workers[0].convictions) == ("evicted", 2)
    with pytest.raises(PeerError, match="evicted"):
        world.admit(world.players[0])
    again = msgspec.structs.replace(joining(world, world.players[0]))
    assert refused(world.state, again).step == Claim.PROGRESS


@pytest.mark.parametrize("first_fault", ["suspend", "evict"])
def test_the_recipe_says_what_a_first_fault_does(first_fault: Any) -> None:
    rules = msgspec.structs.replace(HIDDEN.protocol, first_fault=first_fault)
    world, _ = scripted_world(msgspec.structs.replace(HIDDEN, protocol=rules), 6)
    moods(world)[0].mood = "fake"
    until(world, lambda: 0 in world.convicted_in)
    assert world.state.workers[0].status == {"suspend": "suspended", "evict": "evicted"}[first_fault]


def leave_bound(world: World, worker: int) -> None:
    """A round in which a worker commits, and is gone before it opens."""
    moods(world)[worker].mood = "mute"
    bound = world.state.workers[worker].left_bound
    until(world, lambda: world.state.workers[worker].status != "active")
    assert world.state.workers[worker].left_bound == bound + 1


@pytest.mark.slow
def test_who_left_rounds_that_it_had_answered_more_often_than_it_passed_checks_and_ten_times_stays_out() -> None:
    rules = msgspec.structs.replace(HIDDEN.protocol, checked=0.0, own=0.0)
    world, log = scripted_world(msgspec.structs.replace(HIDDEN, examples=400, protocol=rules), 5)
    for _ in range(MOST_LEFT_BOUND):
        leave_bound(world, 2)
        world.write()
        entry = joining(world, world.players[2])
        if world.state.workers[2].left_bound < MOST_LEFT_BOUND:
            world.admit(world.players[2])
    with pytest.raises(PeerError, match="left 10 rounds"):
        world.admit(world.players[2])
    assert refused(world.state, entry).step == Claim.PROGRESS
    assert not failing(verified(world, log))


def test_each_check_that_it_passed_allows_one_more() -> None:
    worker = WorkerState(bytes(32), left_bound=MOST_LEFT_BOUND + 2, checks_passed=2)
    assert not may_return(worker)
    worker.checks_passed = 3
    assert may_return(worker)


def test_leaving_before_one_answered_is_not_counted() -> None:
    world, _ = scripted_world(HIDDEN, 6)
    moods(world)[2].mood = "silent"
    until(world, lambda: world.state.workers[2].status != "active")
    assert world.state.workers[2].left_bound == 0
    world.admit(world.players[2])
    world.manager.withdraw(2, "between rounds")
    assert world.state.workers[2].left_bound == 0
