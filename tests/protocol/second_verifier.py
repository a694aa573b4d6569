"""A second verifier, written from docs/SPEC.md alone: it imports nothing of podlt. The clever is checked against it.

Slow and plain on purpose. Each function cites its section. Raises `Unsound` at the first thing that is wrong.
"""

from __future__ import annotations

import base64
import hashlib
import math
from itertools import pairwise
from typing import Any

import msgspec
import nacl.exceptions
import nacl.signing

Entry = dict[str, Any]

SAME = "withdraw/1 open/1 redeal/1 commit/1 reveal/1 verdict/1 apply/1 resume/1 close/1"
FORMATS = {
    "begin/1": set(f"begin/1 join/1 pay/1 {SAME}".split()),
    "begin/2": set(f"begin/2 join/2 pay/2 return/1 {SAME}".split()),
}
"""3: how a run began -> what it may hold"""


class Unsound(Exception):
    """The log is no proof."""


def need(holds: bool, what: str) -> None:
    if not holds:
        raise Unsound(what)


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

    def shuffle(self, items: list[Any]) -> list[Any]:
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out


def merkle(entries: list[bytes]) -> bytes:
    """5.1: RFC 6962, section 2.1"""
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + merkle(entries[:k]) + merkle(entries[k:])).digest()


def check_head(note: str, entries: list[bytes], identity: bytes, key: bytes) -> None:
    """5.2"""
    text, _, last = note.partition("\n\n")
    text += "\n"
    name = "podlt.run/" + identity.hex()
    need(text == f"{name}\n{len(entries)}\n{base64.b64encode(merkle(entries)).decode()}\n", "head over other entries")
    dash, named, blob = last.removesuffix("\n").split(" ")
    raw = base64.b64decode(blob)
    key_id = hashlib.sha256(name.encode() + b"\x0a\x01" + key).digest()[:4]
    need((dash, named, raw[:4]) == ("\u2014", name, key_id), "head of another log or key")
    need(signed(key, text.encode(), raw[4:]), "head is not signed")


class Verifier:
    """Sections 3 and 4: one entry after the other."""

    def __init__(self, begin: Entry, encoded: bytes) -> None:
        b = self.begin = begin
        need(b["kind"] in FORMATS and b["preset"] == "classic" and b["spares"] == 2, "begin")
        self.kinds = FORMATS[b["kind"]]
        need(min(b["lines"], b["epochs"], b["block_lines"]) > 0, "a run without lines")
        per = min(b["block_lines"], b["fragment_lines"]) if b["fragment_lines"] else b["block_lines"]
        bound = b["epochs"] * math.ceil(b["lines"] / per) + 1
        need(bound <= 2**40 and b["chain_length"] >= bound, "chain")
        self.most = 4 * b["reward"] * b["lines"] * b["epochs"]
        need(self.most <= 2**63 - 1, "pay")
        self.identity = digest("run/1", msgspec.msgpack.encode({**b, "at": 0}))
        self.at, self.parameters, self.chain = b["at"], b["parameters"], b["chain_end"]
        self.beacon = digest("beacon/1", self.identity)
        self.new_signatures: list[bytes] = []
        self.keys: list[bytes] = []
        self.status: list[str] = []
        self.pending: list[int] = []
        self.vested: list[int] = []
        self.deposit: list[int] = []
        self.returned: list[int] = []
        self.treasury = 0
        self.round = self.epoch = self.offset = 0
        self.settled = False
        self.last_open: Entry | None = None
        self.r: dict[str, Any] | None = None
        self.closed: str | None = None

    def take(self, entry: Entry) -> None:
        need(entry["at"] >= self.at, "time")
        self.at = entry["at"]
        need(entry["kind"] in self.kinds, "a kind of another format")
        kind = entry["kind"].partition("/")[0]
        if self.closed is not None:
            need(self.closed == "stopped" and kind == "resume", "closed")
        if kind in ("open", "redeal", "commit", "reveal", "verdict", "apply", "pay"):
            need((self.r is None) == (kind == "open"), "order")
            need(entry["round"] == self.round, "round")
        if kind in ("join", "return", "resume", "close", "begin"):
            need(self.r is None and kind != "begin", "between rounds")
        getattr(self, "take_" + kind)(entry)

    def active(self) -> list[int]:
        return [n for n, status in enumerate(self.status) if status == "active"]

    def take_join(self, x: Entry) -> None:
        """3.2"""
        need(signed(x["key"], digest("join/1", self.identity), x["signature"]), "join is not signed")
        n = x["worker"]
        if n == len(self.keys):
            need(x["key"] not in self.keys, "key twice")
            self.keys.append(x["key"])
            self.status.append("active")
            self.pending.append(0)
            self.vested.append(0)
            self.deposit.append(0)
            self.returned.append(0)
            self.new_signatures.append(x["signature"])
        else:
            need(n < len(self.keys) and self.keys[n] == x["key"] and self.status[n] == "withdrawn", "join again")
            self.status[n] = "active"
        if x["kind"] == "join/2":
            self.most += x["deposit"]
            need(self.most <= 2**63 - 1, "deposits")
            self.deposit[n] += x["deposit"]
            self.treasury -= x["deposit"]

    def take_withdraw(self, x: Entry) -> None:
        """3.3"""
        n = x["worker"]
        need(n < len(self.keys) and self.status[n] == "active", "withdraw whom")
        need(self.r is None or self.r["roles"] is None, "withdraw after the reveal")
        self.status[n] = "withdrawn"
        if self.r is not None and self.r["open"]["purpose"] == "settle":
            self.r["commitments"].pop(n, None)

    def plan(self) -> tuple[str, int, int, int, int] | None:
        """4.1"""
        b, active = self.begin, len(self.active())
        if self.epoch >= b["epochs"]:
            o = self.last_open
            if self.settled or active < 2 or not any(self.pending) or o is None:
                return None
            return "settle", o["epoch"], o["offset"], o["lines"], len(o["fragments"])
        need(active >= 3, "too few workers")
        useful = active - 2
        want = min(b["block_lines"], useful * b["fragment_lines"]) if b["fragment_lines"] else b["block_lines"]
        lines = min(want, b["lines"] - self.offset)
        return "train", self.epoch, self.offset, lines, min(useful, lines)

    def take_open(self, x: Entry) -> None:
        """3.4"""
        found = (x["purpose"], x["epoch"], x["offset"], x["lines"], len(x["fragments"]))
        need(found == self.plan(), "another round than the plan's")
        need(x["parameters"] == self.parameters, "other parameters")
        if x["purpose"] == "settle":
            assert self.last_open is not None
            need(x["fragments"] == self.last_open["fragments"], "other fragments")
        beacon = digest("beacon/1", self.beacon, *sorted(self.new_signatures))
        self.r = {
            "open": x, "workers": self.active(), "beacon": beacon, "holder": {}, "redealt": [], "commitments": {},
            "roles": None, "verdicts": {}, "applied": False,
        }  # fmt: skip

    def take_redeal(self, x: Entry) -> None:
        """3.5"""
        r = self.r
        assert r is not None
        need(r["roles"] is None and r["open"]["purpose"] == "train" and x["origin"] in r["workers"], "redeal")
        need(self.status[r["holder"].get(x["origin"], x["origin"])] == "withdrawn", "still held")
        able = [w for w in r["workers"] if self.status[w] == "active"]
        need(x["holder"] in able, "holder")
        r["redealt"].append((x["origin"], x["holder"], able))
        r["holder"][x["origin"]] = x["holder"]
        r["commitments"].pop(x["origin"], None)

    def take_commit(self, x: Entry) -> None:
        """3.6"""
        r = self.r
        assert r is not None
        need(r["roles"] is None and len(x["commitments"]) > 0, "commit")
        origins = [c[0] for c in x["commitments"]]
        need(all(a < b for a, b in pairwise(origins)), "ascending")
        for origin, holder, commitment, signature in x["commitments"]:
            need(origin in r["workers"] and origin not in r["commitments"], "not due")
            need(holder == r["holder"].get(origin, origin) and self.status[holder] == "active", "not the holder")
            need(signed(self.keys[holder], digest("signed-commitment/1", commitment), signature), "not signed")
            r["commitments"][origin] = (holder, commitment)

    def roles(self, secret: bytes) -> tuple[dict[int, int], int]:
        """2.7, 2.8"""
        r = self.r
        assert r is not None
        fragments = len(r["open"]["fragments"])
        dice = Dice(digest("draw/1", secret, r["beacon"]))
        if r["open"]["purpose"] == "settle":
            checked = dice.below(fragments)
            return {w: checked for w in r["workers"] if self.status[w] == "active"}, checked
        order = dice.shuffle(sorted(r["workers"], key=lambda w: self.keys[w]))
        checked = dice.below(fragments)
        seats = {order[j]: j for j in range(fragments)}
        return {**seats, order[fragments]: checked, order[fragments + 1]: checked}, checked

    def take_reveal(self, x: Entry) -> None:
        """3.7, 2.5, 2.9"""
        r = self.r
        assert r is not None
        need(r["roles"] is None and digest("secret/1", x["secret"]) == self.chain, "secret")
        seats, checked = self.roles(x["secret"])
        need(sorted(seats) == sorted(r["commitments"]) == [o[0] for o in x["openings"]], "tasks")
        held = {origin: origin for origin in seats}
        for k, (origin, holder, able) in enumerate(r["redealt"]):
            need(origin in seats, "redealt what nobody had")
            others = {held[o] for o in seats if o != origin and seats[o] == seats[origin]}
            free = [w for w in able if w not in others]
            need(bool(free), "nobody could take it")
            load = {w: sum(h == w for h in held.values()) for w in free}
            free = [w for w in free if load[w] == min(load.values())]
            drawn = free[Dice(digest("redeal/1", x["secret"], u64(k))).below(len(free))]
            need(holder == drawn, "not the drawn one")
            held[origin] = holder
        need(all(self.status[w] == "active" for w in held.values()), "a holder is gone")
        need(len(seats) >= 2, "one alone")
        results: dict[int, dict[int, bytes]] = {}
        for origin, update, salt in x["openings"]:
            holder, commitment = r["commitments"][origin]
            task = self.task(seats[origin])
            need(digest("commitment/1", task, self.keys[holder], update, salt) == commitment, "opening")
            results.setdefault(seats[origin], {})[holder] = update
        r.update(roles=seats, checked=checked, held=held, results=results)
        self.chain = x["secret"]
        self.beacon = digest("beacon/1", r["beacon"], *(o[2] for o in x["openings"]))
        self.new_signatures = []

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
        need(r["roles"] is not None and not r["applied"] and x["fragment"] not in r["verdicts"], "verdict")
        results = r["results"].get(x["fragment"], {})
        need(bool(results), "no such fragment")
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
        need((group and said == due) or said[:2] == ("referee", "non-finite"), "another verdict is due")
        need(x["evicted"] == sorted(w for w, u in results.items() if u != x["accepted"]), "evicted")
        r["verdicts"][x["fragment"]] = x

    def take_apply(self, x: Entry) -> None:
        """3.9"""
        r = self.r
        assert r is not None
        need(r["open"]["purpose"] == "train" and not r["applied"], "apply")
        need(r["roles"] is not None and r["checked"] in r["verdicts"] and math.isfinite(x["loss"]), "apply")
        r["applied"] = True
        self.parameters = x["parameters"]

    def take_pay(self, x: Entry) -> None:
        """4.2, 4.4"""
        r = self.r
        assert r is not None
        settle = r["open"]["purpose"] == "settle"
        need(r["roles"] is not None and r["checked"] in r["verdicts"] and (r["applied"] or settle), "pay")
        evicted = {w for v in r["verdicts"].values() for w in v["evicted"]}
        size, longer = divmod(r["open"]["lines"], len(r["open"]["fragments"]))
        earned = [0] * len(self.keys)
        for origin, fragment in r["roles"].items():
            earned[r["held"][origin]] += self.begin["reward"] * (size + (fragment < longer))
        earned = [0 if w in evicted else amount for w, amount in enumerate(earned)]
        passed = [w for w in sorted(r["results"][r["checked"]]) if w not in evicted]
        vest = {w: self.pending[w] + (earned[w] if settle else 0) for w in passed}
        due = [["earn", w, amount] for w, amount in enumerate(earned) if amount]
        due += [["vest", w, amount] for w, amount in vest.items() if amount]
        due += [["forfeit", w, self.pending[w]] for w in sorted(evicted) if self.pending[w]]
        due += [["seize", w, self.deposit[w]] for w in sorted(evicted) if self.deposit[w]]
        need(x["transfers"] == due, "pay")
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
            self.offset += r["open"]["lines"]
            if self.offset == self.begin["lines"]:
                self.offset, self.epoch = 0, self.epoch + 1

    def check_accounts(self) -> None:
        """4.4"""
        held = [self.pending, self.vested, self.deposit, self.returned]
        need(self.treasury + sum(map(sum, held)) == 0, "accounts")

    def take_return(self, x: Entry) -> None:
        """3.13"""
        over = self.epoch >= self.begin["epochs"] and self.plan() is None
        need(len(x["transfers"]) > 0, "nothing returned")
        need(all(a[1] < b[1] for a, b in pairwise(x["transfers"])), "ascending")
        for kind, w, amount in x["transfers"]:
            need(kind == "return" and w < len(self.keys) and self.status[w] != "evicted", "return to whom")
            need(over or self.status[w] == "withdrawn", "returned too early")
            need(amount == self.deposit[w] > 0, "not the whole deposit")
        for _, w, amount in x["transfers"]:
            self.deposit[w] -= amount
            self.returned[w] += amount
        self.check_accounts()

    def take_resume(self, x: Entry) -> None:
        self.closed = None

    def take_close(self, x: Entry) -> None:
        """3.12"""
        if x["outcome"] == "complete":
            need(self.epoch >= self.begin["epochs"] and self.plan() is None, "not complete")
            need(not any(self.deposit), "deposits are held")
        self.closed = x["outcome"]


def verify(bodies: list[bytes], heads: list[tuple[int, str]]) -> None:
    """Section 6, but for form (1.2) and documents."""
    entries = [msgspec.msgpack.decode(body) for body in bodies]
    verifier = Verifier(entries[0], bodies[0])
    for entry in entries[1:]:
        verifier.take(entry)
    for size, note in heads:
        check_head(note, bodies[:size], verifier.identity, entries[0]["manager"])
    need(bool(heads) and heads[-1][0] == len(bodies), "entries without a head")
