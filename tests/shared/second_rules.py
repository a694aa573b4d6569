"""The rules of a second verifier, written from docs/SPEC.md alone: it imports nothing of podlt.

Slow and plain on purpose. Each function cites its section. Raises `Unsound` at the first thing that is wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
from itertools import pairwise
from typing import Any

import msgspec
import nacl.exceptions
import nacl.signing

Entry = dict[str, Any]

KINDS = {f"{kind}/3" for kind in ("begin", "join", "withdraw", "open", "redeal", "commit", "reveal", "verdict")}
KINDS |= {f"{kind}/3" for kind in ("apply", "measure", "pay", "return", "amend", "resume", "close")}
"""3.15"""


class Unsound(Exception):
    """A claim fails."""

    def __init__(self, claim: str, what: str) -> None:
        super().__init__(f"{claim}: {what}")
        self.claim = claim


def need(holds: bool, claim: str, what: str) -> None:
    if not holds:
        raise Unsound(claim, what)


def u64(n: int) -> bytes:
    return n.to_bytes(8, "big")


def digest(domain: str, *parts: bytes) -> bytes:
    """2.1"""
    name = b"podlt/" + domain.encode("ascii")
    text = bytes([len(name)]) + name + b"".join(u64(len(p)) + p for p in parts)
    return hashlib.sha256(text).digest()


def signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """2.2"""
    try:
        nacl.signing.VerifyKey(key).verify(message, signature)
    except (nacl.exceptions.BadSignatureError, ValueError):
        return False
    return True


class Dice:
    """2.4"""

    def __init__(self, seed: bytes) -> None:
        self.seed, self.block, self.words = seed, 0, []

    def word(self) -> int:
        if not self.words:
            raw = digest("dice/1", self.seed, u64(self.block))
            self.block += 1
            self.words = [int.from_bytes(raw[8 * i : 8 * i + 8], "big") for i in range(4)]
        return self.words.pop(0)

    def below(self, n: int) -> int:
        while True:
            w = self.word()
            if w < 2**64 - (2**64 % n):
                return w % n

    def sample(self, n: int, k: int) -> list[int]:
        out = list(range(n))
        for i in range(k):
            j = i + self.below(n - i)
            out[i], out[j] = out[j], out[i]
        return out[:k]


class Verifier:
    """Sections 3 and 4: one entry after the other."""

    def __init__(self, begin: Entry, roots: dict[int, bytes] | None = None) -> None:
        b = self.begin = begin
        need(b["kind"] == "begin/3", "PROGRESS", "begin")
        need(b["spares"] == 2 and min(b["lines"], b["epochs"], b["block_lines"]) > 0, "PROGRESS", "begin")
        one = b["local_steps"] == 1 and b["local_lr"] is None
        many = b["local_steps"] > 1 and b["local_lr"] is not None and 0 < b["local_lr"] < math.inf
        need(one or many, "PROGRESS", "local steps")
        bound = chain_length(b)
        need(bound <= 2**40, "PROGRESS", "rounds")
        need(b["chain_length"] >= bound, "DRAWS", "chain")
        self.epochs = b["epochs"]
        self.most = 4 * b["reward"] * b["lines"] * b["epochs"]
        need(self.most <= 2**63 - 1, "PAYMENTS", "pay")
        self.identity = digest("run/3", msgspec.msgpack.encode({**b, "at": 0}))
        self.at, self.parameters, self.chain = b["at"], b["parameters"], b["chain_end"]
        self.beacon = digest("beacon/1", self.identity)
        self.new_signatures: list[bytes] = []
        self.keys: dict[int, bytes] = {}
        self.joined: dict[int, int] = {}
        self.status: dict[int, str] = {}
        self.pending: dict[int, int] = {}
        self.vested: dict[int, int] = {}
        self.deposit: dict[int, int] = {}
        self.returned: dict[int, int] = {}
        self.paid_out: set[int] = set()
        self.compared: dict[int, int] = {}
        self.treasury = 0
        self.index, self.roots = 1, roots
        self.round = self.epoch = self.offset = self.measured = 0
        self.settled = self.part_measured = False
        self.last_open: Entry | None = None
        self.r: dict[str, Any] | None = None
        self.closed: str | None = None

    def take(self, entry: Entry) -> None:
        need(entry["at"] >= self.at, "PROGRESS", "time")
        self.at = entry["at"]
        kind = entry["kind"].partition("/")[0]
        if self.closed is not None:
            need(kind == {"stopped": "resume", "complete": "amend"}[self.closed], "OUTCOME", "closed")
        if kind in ("open", "redeal", "commit", "reveal", "verdict", "apply", "pay"):
            need((self.r is None) == (kind == "open"), "PROGRESS", "order")
            need(entry["round"] == self.round, "PROGRESS", "round")
        if kind in ("join", "measure", "return", "amend", "resume", "close", "begin"):
            claim = "OUTCOME" if kind == "close" else "PROGRESS"
            need(self.r is None and kind != "begin", claim, "between rounds")
        getattr(self, "take_" + kind)(entry)
        self.index += 1

    def active(self) -> list[int]:
        return sorted(n for n, status in self.status.items() if status == "active")

    def measure_due(self) -> bool:
        """3.14"""
        part = self.epoch >= self.epochs and self.offset > 0 and not self.part_measured
        return any(self.begin["test"]) and (self.measured < self.epoch or part)

    def take_join(self, x: Entry) -> None:
        """3.2"""
        if self.roots is not None:
            need(self.roots.get(x["seen"]) == x["root"], "SIGNATURES", "a head of another log")
        n = x["worker"]
        terms = self.identity + u64(n) + u64(x["deposit"]) + u64(x["seen"]) + x["root"]
        need(signed(x["key"], digest("join/3", terms), x["signature"]), "SIGNATURES", "join is not signed")
        need(signed(x["key"], digest("share/3", self.identity), x["share"]), "SIGNATURES", "share is not signed")
        need(x["seen"] <= self.index, "SIGNATURES", "a head that was not there")
        if n not in self.keys:
            need(x["key"] not in self.keys.values(), "PROGRESS", "key twice")
            self.keys[n] = x["key"]
            for account in (self.pending, self.vested, self.deposit, self.returned):
                account[n] = 0
            self.new_signatures.append(x["share"])
        else:
            need(self.keys[n] == x["key"] and self.status[n] == "withdrawn", "PROGRESS", "join again")
            need(x["seen"] > self.joined[n], "SIGNATURES", "a signature that served already")
        self.status[n], self.joined[n] = "active", self.index
        self.paid_out.discard(n)
        self.most += x["deposit"]
        need(self.most <= 2**63 - 1, "PAYMENTS", "deposits")
        self.deposit[n] += x["deposit"]
        self.treasury -= x["deposit"]

    def take_withdraw(self, x: Entry) -> None:
        """3.3"""
        n = x["worker"]
        need(self.status.get(n) == "active", "PROGRESS", "withdraw whom")
        need(self.r is None or self.r["roles"] is None, "PROGRESS", "withdraw after the reveal")
        self.status[n] = "withdrawn"
        if self.r is not None:
            self.r["moves"].append(("left", n))
            if self.r["open"]["purpose"] == "settle":
                self.r["commitments"].pop(n, None)

    def plan(self) -> tuple[str, int, int, int, int] | None:
        """4.1"""
        b, active = self.begin, len(self.active())
        if self.epoch >= self.epochs:
            o = self.last_open
            if self.settled or active < 2 or not any(self.pending.values()) or o is None:
                return None
            return "settle", o["epoch"], o["offset"], o["lines"], len(o["fragments"])
        need(active >= 3, "PROGRESS", "too few workers")
        useful = active - 2
        want = min(b["block_lines"], useful * b["fragment_lines"]) if b["fragment_lines"] else b["block_lines"]
        lines = min(want, b["lines"] - self.offset)
        return "train", self.epoch, self.offset, lines, min(useful, lines)

    def take_open(self, x: Entry) -> None:
        """3.4"""
        need(not self.measure_due(), "PROGRESS", "figures are due")
        found = (x["purpose"], x["epoch"], x["offset"], x["lines"], len(x["fragments"]))
        need(found == self.plan(), "PROGRESS", "another round than the plan's")
        need(x["parameters"] == self.parameters, "PROGRESS", "other parameters")
        if x["purpose"] == "settle":
            assert self.last_open is not None
            need(x["fragments"] == self.last_open["fragments"], "PROGRESS", "other fragments")
        beacon = digest("beacon/1", self.beacon, *sorted(self.new_signatures))
        self.r = {
            "open": x, "workers": self.active(), "beacon": beacon, "holder": {}, "moves": [], "commitments": {},
            "roles": None, "verdicts": {}, "applied": False,
        }  # fmt: skip

    def take_redeal(self, x: Entry) -> None:
        """3.5"""
        r = self.r
        assert r is not None
        need(r["roles"] is None and r["open"]["purpose"] == "train", "PROGRESS", "redeal")
        origin, holder = x["origin"], x["holder"]
        need(origin in r["workers"], "PROGRESS", "no such task")
        need(self.status[r["holder"].get(origin, origin)] == "withdrawn", "PROGRESS", "still held")
        need(holder in r["workers"] and self.status[holder] == "active", "PROGRESS", "to whom")
        r["moves"].append(("redealt", origin, holder))
        r["holder"][origin] = holder
        r["commitments"].pop(origin, None)

    def take_commit(self, x: Entry) -> None:
        """3.6"""
        r = self.r
        assert r is not None
        need(r["roles"] is None, "PROGRESS", "commit after the reveal")
        for _, holder, commitment, signature in x["commitments"]:
            need(holder in self.keys, "OPENINGS", "who")
            message = digest("signed-commitment/1", commitment)
            need(signed(self.keys[holder], message, signature), "SIGNATURES", "commitment is not signed")
        origins = [c[0] for c in x["commitments"]]
        need(bool(origins) and all(a < b for a, b in pairwise(origins)), "OPENINGS", "order of commitments")
        for origin, holder, commitment, _ in x["commitments"]:
            need(origin in r["workers"] and origin not in r["commitments"], "OPENINGS", "not due")
            holds = holder == r["holder"].get(origin, origin) and self.status[holder] == "active"
            need(holds, "OPENINGS", "not the holder")
            r["commitments"][origin] = (holder, commitment)

    def take_reveal(self, x: Entry) -> None:
        """3.7, 2.5 to 2.9"""
        r = self.r
        assert r is not None
        need(r["roles"] is None, "PROGRESS", "a second reveal")
        need(digest("secret/1", x["secret"]) == self.chain, "DRAWS", "secret")
        fragments = len(r["open"]["fragments"])
        dice = Dice(digest("draw/1", x["secret"], r["beacon"]))
        by_key = sorted(r["workers"], key=lambda n: self.keys[n])
        if r["open"]["purpose"] == "settle":
            checked = dice.below(fragments)
            seats = dict.fromkeys(self.active(), checked)
        else:
            places = dice.sample(len(by_key), fragments + 2)
            checked = dice.below(fragments)
            seats = {by_key[p]: j if j < fragments else checked for j, p in enumerate(places)}
        need(sorted(seats) == sorted(r["commitments"]), "DRAWS", "commitments are not those of the tasks")
        held = self.replay(r, x["secret"], seats, by_key)
        need(all(self.status[w] == "active" for w in held.values()), "DRAWS", "a holder is gone")
        need(len(seats) >= 2, "DRAWS", "one alone")
        need([o[0] for o in x["openings"]] == sorted(seats), "OPENINGS", "openings")
        results: dict[int, dict[int, bytes]] = {}
        for origin, update, salt in x["openings"]:
            holder, commitment = r["commitments"][origin]
            task = self.task(seats[origin])
            found = digest("commitment/1", task, self.keys[holder], update, salt)
            need(found == commitment, "OPENINGS", "opening")
            results.setdefault(seats[origin], {})[holder] = update
        r.update(roles=seats, checked=checked, held=held, results=results)
        self.chain = x["secret"]
        self.beacon = digest("beacon/1", r["beacon"], *(o[2] for o in x["openings"]))
        self.new_signatures = []

    def replay(self, r: dict[str, Any], secret: bytes, seats: dict[int, int], by_key: list[int]) -> dict[int, int]:
        """2.9: who holds each task after all that was dealt again."""
        held = {o: o for o in seats}
        gone: set[int] = set()
        k = 0
        for what, *rest in r["moves"]:
            if what == "left":
                gone.add(rest[0])
                continue
            origin, holder = rest
            need(origin in seats, "DRAWS", "nobody had the task")
            others = {held[o] for o in seats if o != origin and seats[o] == seats[origin]}
            free = [w for w in by_key if w not in gone and w not in others]
            need(bool(free), "DRAWS", "nobody could take it")
            dice, drawn = Dice(digest("redeal/1", secret, u64(k))), []
            for _ in range(2):
                tries = (by_key[dice.below(len(by_key))] for _ in range(16))
                found = next((w for w in tries if w in free), None)
                drawn.append(free[dice.below(len(free))] if found is None else found)
            tasks = [sum(h == w for h in held.values()) for w in drawn]
            need(holder == (drawn[1] if tasks[1] < tasks[0] else drawn[0]), "DRAWS", "not the drawn one")
            held[origin] = holder
            k += 1
        return held

    def task(self, fragment: int) -> bytes:
        """2.3"""
        assert self.r is not None
        o, b = self.r["open"], self.begin
        piece = o["fragments"][fragment]
        randomness = digest("randomness/1", b["seed"], u64(o["round"]), piece)
        return digest("task/1", self.identity, u64(o["round"]), b["program"], o["parameters"], piece, randomness)

    def take_verdict(self, x: Entry) -> None:
        """4.3"""
        r = self.r
        assert r is not None
        need(r["roles"] is not None and not r["applied"], "PROGRESS", "verdict")
        results = r["results"].get(x["fragment"], {})
        need(bool(results) and x["fragment"] not in r["verdicts"], "VERDICTS", "no such fragment, or twice")
        values = list(results.values())
        train, group = r["open"]["purpose"] == "train", x["fragment"] == r["checked"]
        best = max(values, key=values.count)
        if len(set(values)) == 1:
            due = ("agree", "compared", best)
        elif train and len(values) == 3 and values.count(best) == 2:
            due = ("vote", "compared", best)
        else:
            due = ("referee", "no-majority", x["accepted"])
        said = (x["outcome"], x["reason"], x["accepted"])
        need((group and said == due) or said[:2] == ("referee", "non-finite"), "VERDICTS", "another verdict is due")
        need(x["evicted"] == sorted(w for w, u in results.items() if u != x["accepted"]), "VERDICTS", "evicted")
        r["verdicts"][x["fragment"]] = x

    def take_apply(self, x: Entry) -> None:
        """3.9"""
        r = self.r
        assert r is not None
        need(r["roles"] is not None and r["checked"] in r["verdicts"], "VERDICTS", "no verdict")
        need(r["open"]["purpose"] == "train" and not r["applied"], "PROGRESS", "apply")
        need(math.isfinite(x["loss"]), "PROGRESS", "loss")
        r["applied"] = True
        self.parameters = x["parameters"]

    def take_pay(self, x: Entry) -> None:
        """4.2, 4.4"""
        r = self.r
        assert r is not None
        settle = r["open"]["purpose"] == "settle"
        need(r["roles"] is not None and r["checked"] in r["verdicts"], "VERDICTS", "no verdict")
        need(r["applied"] or settle, "PROGRESS", "not applied")
        evicted = {w for v in r["verdicts"].values() for w in v["evicted"]}
        size, longer = divmod(r["open"]["lines"], len(r["open"]["fragments"]))
        earned = dict.fromkeys(sorted(self.keys), 0)
        for origin, fragment in r["roles"].items():
            earned[r["held"][origin]] += self.begin["reward"] * (size + (fragment < longer))
        earned = {w: 0 if w in evicted else amount for w, amount in earned.items()}
        passed = [w for w in sorted(r["results"][r["checked"]]) if w not in evicted]
        vest = {w: self.pending[w] + (earned[w] if settle else 0) for w in passed}
        if settle:
            vest |= {w: amount for w, amount in self.compared.items() if self.status[w] == "withdrawn"}
            vest = dict(sorted(vest.items()))
        for w in [*vest, *passed, *evicted]:
            self.compared.pop(w, None)
        if not settle:
            self.compared |= dict.fromkeys(passed, self.begin["reward"] * (size + (r["checked"] < longer)))
        due = [["earn", w, amount] for w, amount in earned.items() if amount]
        due += [["vest", w, amount] for w, amount in vest.items() if amount]
        due += [["forfeit", w, self.pending[w]] for w in sorted(evicted) if self.pending[w]]
        due += [["seize", w, self.deposit[w]] for w in sorted(evicted) if self.deposit[w]]
        need(x["transfers"] == due, "PAYMENTS", "pay")
        for kind, w, amount in due:
            self.treasury += {"earn": -amount, "vest": 0, "forfeit": amount, "seize": amount}[kind]
            self.pending[w] += {"earn": amount, "vest": -amount, "forfeit": -amount, "seize": 0}[kind]
            self.vested[w] += amount if kind == "vest" else 0
            self.deposit[w] -= amount if kind == "seize" else 0
        self.check_accounts()
        for w in evicted:
            self.status[w] = "evicted"
        self.last_open, self.r = r["open"], None
        self.round += 1
        self.settled = settle
        if not settle:
            self.part_measured = False
            self.offset += r["open"]["lines"]
            if self.offset == self.begin["lines"]:
                self.offset, self.epoch = 0, self.epoch + 1

    def check_accounts(self) -> None:
        """4.4"""
        held = [self.pending, self.vested, self.deposit, self.returned]
        need(self.treasury + sum(sum(account.values()) for account in held) == 0, "PAYMENTS", "accounts")

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

    def take_return(self, x: Entry) -> None:
        """3.13"""
        over = self.epoch >= self.epochs and self.plan() is None
        need(len(x["transfers"]) > 0, "PAYMENTS", "nothing returned")
        need(all(a[1] < b[1] for a, b in pairwise(x["transfers"])), "PAYMENTS", "ascending")
        for kind, w, amount in x["transfers"]:
            need(kind == "return" and self.status.get(w, "evicted") != "evicted", "PAYMENTS", "return to whom")
            need(over or self.status[w] == "withdrawn", "PAYMENTS", "returned too early")
            need(amount == self.deposit[w] > 0, "PAYMENTS", "not the whole deposit")
        for _, w, amount in x["transfers"]:
            self.deposit[w] -= amount
            self.returned[w] += amount
            if self.status[w] == "active":
                self.paid_out.add(w)
        self.check_accounts()

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
        self.most += 4 * self.begin["reward"] * self.begin["lines"] * (x["epochs"] + 1)
        need(self.most <= 2**63 - 1, "PAYMENTS", "pay")
        if left > 0:
            for n in self.active():
                if self.closed is not None or n in self.paid_out:
                    self.status[n], self.joined[n] = "withdrawn", self.index
            self.closed, self.paid_out = None, set()
        self.epochs = x["epochs"]

    def take_resume(self, x: Entry) -> None:
        self.closed = None

    def take_close(self, x: Entry) -> None:
        """3.12"""
        if x["outcome"] == "complete":
            done = self.epoch >= self.epochs and not self.measure_due() and self.plan() is None
            need(done, "OUTCOME", "not complete")
            need(not any(self.deposit.values()), "OUTCOME", "deposits are held")
        self.closed = x["outcome"]


def chain_length(b: Entry) -> int:
    """3.1"""
    per = min(b["block_lines"], b["fragment_lines"]) if b["fragment_lines"] else b["block_lines"]
    return b["epochs"] * math.ceil(b["lines"] / per) + 1
