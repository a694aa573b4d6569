"""The rules of a second verifier, written from docs/SPEC.md alone: it imports nothing of podlt.

Slow and plain on purpose. Each function cites its section. Raises `Unsound` at the first thing that is wrong.
Draws are in `second_draws`, credits and deposits in `second_accounts`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import nacl.exceptions
import nacl.signing
from second_accounts import Accounts
from second_draws import (
    SLOT,
    Dice,
    Entry,
    Roles,
    Unsound,
    chain_length,
    check_options,
    deal,
    digest,
    need,
    number_of_spares,
    planned,
    replay,
    sizes,
    u64,
    weights,
)

KINDS = {f"{kind}/4" for kind in ("begin", "join", "withdraw", "shares", "open", "redeal", "commit", "reveal")}
KINDS |= {f"{kind}/4" for kind in ("verdict", "apply", "measure", "pay", "release", "amend", "resume", "close")}
"""3.15"""

IN_ROUND = ("redeal", "commit", "reveal", "verdict", "apply", "pay")
BETWEEN = ("join", "shares", "measure", "release", "amend", "resume", "close", "begin")

MOST_BOUND = 10
"""3.2: who withdrew bound so often, and once for each round in which it passed a check, does not join again."""


def signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """2.2"""
    try:
        nacl.signing.VerifyKey(key).verify(message, signature)
    except (nacl.exceptions.BadSignatureError, ValueError):
        return False
    return True


@dataclass
class Round:
    """A round that is open. `roles` and `results` (a shard's: who gave which) are known from the reveal on."""

    open: Entry
    workers: list[int]
    beacon: bytes
    holders: dict[int, list[int]]
    moves: list[tuple[str, int, int]] = field(default_factory=list)
    commitments: dict[tuple[int, int], bytes] = field(default_factory=dict)
    roles: Roles | None = None
    results: dict[int, dict[int, bytes]] = field(default_factory=dict)
    verdicts: dict[int, Entry] = field(default_factory=dict)
    applied: bool = False

    def lengths(self) -> list[int]:
        """4.2"""
        return sizes(self.open["examples"], len(self.open["shards"]))

    def due(self, shard: int) -> bool:
        """4.3"""
        assert self.roles is not None
        special = shard in self.roles.checked or shard in self.roles.own
        return special or len(self.results[shard]) > 1


class Verifier:
    """Sections 3 and 4: one entry after the other."""

    def __init__(self, begin: Entry, roots: dict[int, bytes] | None = None) -> None:
        b = self.begin = begin
        need(b["kind"] == "begin/4", "PROGRESS", "begin")
        check_options(b)
        bound = chain_length(b)
        need(bound <= 2**40, "PROGRESS", "rounds")
        need(b["chain_length"] >= bound, "DRAWS", "chain")
        self.epochs = b["epochs"]
        self.accounts = Accounts(b["escrow"], 4 * b["reward"] * b["examples"] * b["epochs"])
        self.identity = digest("run/4", msgspec.msgpack.encode({**b, "at": 0}))
        self.at, self.parameters, self.chain = b["at"], b["parameters"], b["chain_end"]
        self.beacon = digest("beacon/1", self.identity)
        self.new_signatures: list[bytes] = []
        self.keys: dict[int, bytes] = {}
        self.operators: dict[int, str] = {}
        self.joined: dict[int, int] = {}
        self.status: dict[int, str] = {}
        self.left_at: dict[int, int] = {}
        """How many rounds had been paid when the worker withdrew or was suspended."""
        self.bound: dict[int, int] = {}
        self.passed: dict[int, int] = {}
        self.convicted: set[int] = set()
        self.paid_out: set[int] = set()
        self.level: dict[int, int] = {}
        self.coming: dict[int, int] = {}
        """Levels that hold from the next `pay` on."""
        self.shared = -8
        self.index, self.roots = 1, roots
        self.round = self.epoch = self.offset = self.measured = 0
        self.part_measured = False
        self.resumes = 0
        self.r: Round | None = None
        self.closed: str | None = None

    def take(self, entry: Entry) -> None:
        need(entry["at"] >= self.at, "PROGRESS", "time")
        self.at = entry["at"]
        kind = entry["kind"].partition("/")[0]
        if self.closed is not None:
            need(kind == {"stopped": "resume", "complete": "amend"}[self.closed], "OUTCOME", "closed")
        if kind == "open" or kind in IN_ROUND:
            need((self.r is None) == (kind == "open"), "PROGRESS", "order")
            need(entry["round"] == self.round, "PROGRESS", "round")
        if kind in BETWEEN:
            claim = "OUTCOME" if kind == "close" else "PROGRESS"
            need(self.r is None and kind != "begin", claim, "between rounds")
        take = getattr(self, "take_" + kind)
        if kind in IN_ROUND:
            take(entry, self.r)
        else:
            take(entry)
        self.index += 1

    def levels(self, workers: list[int]) -> dict[int, int]:
        return {w: self.level.get(w, 0) for w in workers}

    def active(self) -> list[int]:
        return sorted(n for n, status in self.status.items() if status == "active")

    def over(self) -> bool:
        """Every epoch is done, or training was ended (3.17)."""
        return self.epoch >= self.epochs

    def measure_due(self) -> bool:
        """3.14"""
        part = self.over() and self.offset > 0 and not self.part_measured
        return any(self.begin["test"]) and (self.measured < self.epoch or part)

    def take_join(self, x: Entry) -> None:
        """3.2"""
        if self.roots is not None:
            need(self.roots.get(x["seen"]) == x["root"], "SIGNATURES", "a head of another log")
        n = x["worker"]
        need(len(x["operator"]) <= 100, "FORM", "operator")
        terms = self.identity + u64(n) + u64(x["deposit"]) + u64(x["seen"]) + x["root"] + x["operator"].encode()
        need(signed(x["key"], digest("join/4", terms), x["signature"]), "SIGNATURES", "join is not signed")
        need(signed(x["key"], digest("share/4", self.identity), x["share"]), "SIGNATURES", "share is not signed")
        need(x["seen"] <= self.index, "SIGNATURES", "a head that was not there")
        if n not in self.keys:
            need(x["key"] not in self.keys.values(), "PROGRESS", "key twice")
            self.keys[n], self.operators[n], self.bound[n], self.passed[n] = x["key"], x["operator"], 0, 0
            self.accounts.add(n)
            self.new_signatures.append(x["share"])
        else:
            same = (self.keys[n], self.operators[n]) == (x["key"], x["operator"])
            need(same and self.status[n] in ("withdrawn", "suspended"), "PROGRESS", "join again")
            need(self.bound[n] < MOST_BOUND + self.passed[n], "PROGRESS", "withdrew too often")
            need(x["seen"] > self.joined[n], "SIGNATURES", "a signature that served already")
        self.status[n], self.joined[n] = "active", self.index
        self.paid_out.discard(n)
        self.accounts.take_deposit(n, x["deposit"])

    def take_shares(self, x: Entry) -> None:
        """3.19"""
        need(self.begin["preset"] == "guarded", "PROGRESS", "shares in classic")
        need(x["round"] == self.round >= self.shared + 8, "PROGRESS", "shares too early")
        need(bool(x["levels"]) and all(a[0] < b[0] for a, b in pairwise(x["levels"])), "PROGRESS", "order of levels")
        for w, level in x["levels"]:
            need(self.status.get(w) == "active", "PROGRESS", "level of whom")
            before = self.level.get(w, 0)
            need(level != before and level <= before + 1, "PROGRESS", "level")
        after = self.levels(self.active()) | dict(x["levels"])
        need(2 * sum(level >= 0 for level in after.values()) >= len(after), "PROGRESS", "too many are slow")
        self.coming, self.shared = dict(x["levels"]), self.round

    def take_withdraw(self, x: Entry) -> None:
        """3.3"""
        n, r = x["worker"], self.r
        need(self.status.get(n) == "active", "PROGRESS", "withdraw whom")
        need(r is None or r.roles is None, "PROGRESS", "withdraw after the reveal")
        self.leave(n)
        if r is None:
            return
        r.moves.append(("left", n, 0))
        for seat in r.holders:
            r.holders[seat] = [w for w in r.holders[seat] if w != n]
        dropped = [place for place in r.commitments if place[1] == n]
        for place in dropped:
            del r.commitments[place]
        self.bound[n] += len(dropped) > 0

    def leave(self, n: int) -> None:
        self.status[n], self.left_at[n] = "withdrawn", self.round

    def take_open(self, x: Entry) -> None:
        """3.4, 4.1"""
        need(not self.measure_due(), "PROGRESS", "figures are due")
        need(not self.over(), "PROGRESS", "no epochs are left")
        active = self.active()
        need(len(active) >= (3 if self.begin["preset"] == "classic" else 1), "PROGRESS", "too few workers")
        need((x["epoch"], x["offset"]) == (self.epoch, self.offset), "PROGRESS", "another place than the plan's")
        levels = self.levels(active)
        k = number_of_spares(self.begin, sum(weights(levels).values()), self.round)
        plan = planned(self.begin, levels, self.begin["examples"] - self.offset, k)
        need((x["examples"], len(x["shards"])) == plan, "PROGRESS", "another round than the plan's")
        need(x["parameters"] == self.parameters, "PROGRESS", "other parameters")
        need(x["attempt"] == self.resumes, "PROGRESS", "another attempt")
        beacon = digest("beacon/1", self.beacon, *sorted(self.new_signatures))
        seats = {SLOT * s + w: [w] for w, weight in weights(levels).items() for s in range(weight)}
        self.r = Round(x, active, beacon, seats)

    def take_redeal(self, x: Entry, r: Round) -> None:
        """3.5"""
        need(r.roles is None, "PROGRESS", "redeal after the reveal")
        seat, holder = x["seat"], x["holder"]
        need(seat in r.holders, "PROGRESS", "no such task")
        holders = r.holders[seat]
        backup = self.begin["preset"] == "guarded" and len(holders) == 1 and (seat, holders[0]) not in r.commitments
        need(not holders or backup, "PROGRESS", "still held")
        need(holder in r.workers and self.status[holder] == "active", "PROGRESS", "to whom")
        need(holder not in holders, "PROGRESS", "holds it already")
        r.moves.append(("redealt", seat, holder))
        holders.append(holder)

    def take_commit(self, x: Entry, r: Round) -> None:
        """3.6"""
        need(r.roles is None, "PROGRESS", "commit after the reveal")
        for _, holder, commitment, signature in x["commitments"]:
            need(holder in self.keys, "OPENINGS", "who")
            message = digest("signed-commitment/1", commitment)
            need(signed(self.keys[holder], message, signature), "SIGNATURES", "commitment is not signed")
        places = [(seat, holder) for seat, holder, _, _ in x["commitments"]]
        need(bool(places) and all(a < b for a, b in pairwise(places)), "OPENINGS", "order of commitments")
        for seat, holder, commitment, _ in x["commitments"]:
            need(holder in r.holders.get(seat, []), "OPENINGS", "not a holder")
            need((seat, holder) not in r.commitments, "OPENINGS", "a second one")
            r.commitments[seat, holder] = commitment

    def take_reveal(self, x: Entry, r: Round) -> None:
        """3.7, 2.5 to 2.9"""
        need(r.roles is None, "PROGRESS", "a second reveal")
        need(digest("secret/1", x["secret"]) == self.chain, "DRAWS", "secret")
        dice = Dice(digest("draw/1", x["secret"], r.beacon))
        by_key = sorted(r.workers, key=lambda n: self.keys[n])
        weight = weights(self.levels(by_key))
        k = number_of_spares(self.begin, sum(weight.values()), r.open["round"])
        operators: dict[int, object] = {w: self.operators[w] or w for w in by_key}
        roles = deal(self.begin, dice, k, by_key, operators, weight, r.lengths())
        committed = {seat for seat, _ in r.commitments}
        need(committed == set(roles.seats), "DRAWS", "commitments are not those of the tasks")
        replay(x["secret"], roles.seats, by_key, operators, weight, r.moves)
        places = [(seat, holder) for seat, holder, _, _ in x["openings"]]
        need(places == sorted(r.commitments), "OPENINGS", "openings")
        for seat, holder, update, salt in x["openings"]:
            shard = roles.seats[seat]
            found = digest("commitment/1", self.task(r, shard), self.keys[holder], update, salt)
            need(found == r.commitments[seat, holder], "OPENINGS", "opening")
            r.results.setdefault(shard, {})[holder] = update
        r.roles = roles
        self.chain = x["secret"]
        self.beacon = digest("beacon/1", r.beacon, *(salt for _, _, _, salt in x["openings"]))
        self.new_signatures = []

    def task(self, r: Round, shard: int) -> bytes:
        """2.3"""
        b, number = self.begin, u64(r.open["round"])
        piece = r.open["shards"][shard]
        randomness = digest("randomness/1", b["seed"], number, piece)
        return digest("task/1", self.identity, number, b["program"], r.open["parameters"], piece, randomness)

    def take_verdict(self, x: Entry, r: Round) -> None:
        """4.3"""
        need(r.roles is not None and not r.applied, "PROGRESS", "verdict")
        shard = x["shard"]
        results = r.results.get(shard, {})
        need(bool(results) and shard not in r.verdicts, "VERDICTS", "no such shard, or twice")
        need(verdict_due(x, r, self.begin["preset"]), "VERDICTS", "another verdict is due")
        differ = sorted(w for w, update in results.items() if update != x["accepted"])
        need(x["convicted"] == differ, "VERDICTS", "convicted")
        r.verdicts[shard] = x

    def take_apply(self, x: Entry, r: Round) -> None:
        """3.9"""
        shards = len(r.open["shards"])
        need(r.roles is not None and not r.applied, "PROGRESS", "apply")
        need(all(j in r.verdicts for j in range(shards) if r.due(j)), "VERDICTS", "no verdict")
        need(math.isfinite(x["loss"]), "PROGRESS", "loss")
        clipped = x["clipped"]
        need(not clipped or self.begin["clip"] > 0, "PROGRESS", "nothing is clipped")
        need(all(a[:2] < b[:2] for a, b in pairwise(clipped)), "PROGRESS", "order of what is clipped")
        in_range = all(j < shards and part <= 1 and exponent > 0 for j, part, exponent in clipped)
        need(in_range, "PROGRESS", "clipped what")
        r.applied = True
        self.parameters = x["parameters"]

    def take_pay(self, x: Entry, r: Round) -> None:
        """4.3, 4.4"""
        need(r.applied and r.roles is not None, "PROGRESS", "not applied")
        convicted = {w for v in r.verdicts.values() for w in v["convicted"]}
        suspended = convicted - self.convicted if self.begin["first_fault"] == "suspend" else set()
        lengths = r.lengths()
        earned: dict[int, list[int]] = {}
        for seat, holder in sorted(r.commitments):
            if holder not in convicted:
                credit = self.begin["reward"] * lengths[r.roles.seats[seat]]
                earned.setdefault(holder, []).append(credit)
        since = self.round - self.begin["escrow"]
        leaving = [n for n, status in self.status.items() if status == "withdrawn" and self.left_at[n] <= since]
        due = self.accounts.pay(earned, leaving, convicted)
        need(x["transfers"] == due, "PAYMENTS", "pay")
        for w in {w for shard, results in r.results.items() if r.due(shard) for w in results} - convicted:
            self.passed[w] += 1
        self.r = None
        self.round += 1
        self.level |= self.coming
        self.coming = {}
        for w in convicted:
            self.status[w], self.left_at[w] = "suspended" if w in suspended else "evicted", self.round
        self.convicted |= convicted
        self.part_measured = False
        self.offset += r.open["examples"]
        if self.offset == self.begin["examples"]:
            self.offset, self.epoch = 0, self.epoch + 1

    def take_measure(self, x: Entry) -> None:
        """3.14"""
        need(self.measure_due() and x["epoch"] == self.measured, "PROGRESS", "no figures are due")
        need((x["test"], x["parameters"]) == (self.begin["test"], self.parameters), "PROGRESS", "figures of what")
        need(all(a[0] < b[0] for a, b in pairwise(x["figures"])), "PROGRESS", "order of figures")
        need(all(math.isfinite(value) for _, value in x["figures"]), "PROGRESS", "not finite")
        if self.measured == self.epoch:
            self.part_measured = True
        else:
            self.measured += 1

    def take_release(self, x: Entry) -> None:
        """3.13"""
        need(all(kind in ("vest", "return") for kind, _, _ in x["transfers"]), "PAYMENTS", "kind")
        order = [(kind == "return", worker) for kind, worker, _ in x["transfers"]]
        need(bool(order) and all(a < b for a, b in pairwise(order)), "PAYMENTS", "order")
        for kind, w, amount in x["transfers"]:
            need(self.status.get(w, "evicted") != "evicted", "PAYMENTS", "to whom")
            need(self.over() or (kind == "return" and self.may_return(w)), "PAYMENTS", "too early")
            self.accounts.release(kind, w, amount)
            if kind == "return" and self.status[w] == "active":
                self.paid_out.add(w)

    def may_return(self, w: int) -> bool:
        """3.13: before training is over."""
        gone = self.status[w] != "active" and self.round - self.left_at[w] >= self.begin["escrow"]
        return gone and self.accounts.pending(w) == 0

    def take_amend(self, x: Entry) -> None:
        """3.17"""
        left = x["epochs"] - self.epoch
        need(left >= 0, "PROGRESS", "fewer epochs than are done")
        need(self.closed is None or left > 0, "OUTCOME", "closed")
        need(self.round + chain_length({**self.begin, "epochs": left}) <= 2**40, "PROGRESS", "rounds")
        if x["optimizer"]:
            try:
                document = json.loads(x["optimizer"])
                again = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
            except ValueError:
                raise Unsound("TERMS", "no document") from None
            need(isinstance(document, dict) and again == x["optimizer"], "TERMS", "no document")
        self.accounts.allow(4 * self.begin["reward"] * self.begin["examples"] * (x["epochs"] + 1))
        if left > 0:
            for n in self.active():
                if self.closed is not None or n in self.paid_out:
                    self.leave(n)
                    self.joined[n] = self.index
            self.closed, self.paid_out = None, set()
        self.epochs = x["epochs"]

    def take_resume(self, x: Entry) -> None:
        """3.11"""
        self.closed = None
        self.resumes += 1

    def take_close(self, x: Entry) -> None:
        """3.12"""
        if x["outcome"] == "complete":
            need(self.over() and not self.measure_due(), "OUTCOME", "not complete")
            need(self.accounts.empty(), "OUTCOME", "credits or deposits are held")
        self.closed = x["outcome"]


def verdict_due(x: Entry, r: Round, preset: str) -> bool:
    """4.3: whether outcome, reason and what is accepted can be those of a verdict on this shard."""
    assert r.roles is not None
    values = list(r.results[x["shard"]].values())
    own = x["shard"] in r.roles.own
    said, accepted = (x["outcome"], x["reason"]), x["accepted"]
    best = max(values, key=values.count)
    if said == ("referee", "suspect"):
        return True
    if not r.due(x["shard"]):
        return False
    if len(set(values)) == 1:
        if accepted == best:
            return said == ("agree", "own" if own else "compared")
        return own and said == ("referee", "own")
    if preset == "classic" and len(values) == 3 and values.count(best) == 2:
        return (*said, accepted) == ("vote", "compared", best)
    return said == ("referee", "differ")
