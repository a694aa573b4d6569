"""The draws of a second verifier, written from docs/SPEC.md alone: digests, dice, who has which task, what is next.

Plain on purpose. Each function cites its section. Raises `Unsound` at the first thing that is wrong.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

Entry = dict[str, Any]

MILLION = 1_000_000


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


# The terms, and what is next


def check_options(b: Entry) -> None:
    """3.1"""
    need(b["preset"] in ("classic", "guarded"), "PROGRESS", "preset")
    need(min(b["examples"], b["epochs"], b["batch_size"]) > 0, "PROGRESS", "begin")
    one = b["local_steps"] == 1 and b["local_lr"] is None
    many = b["local_steps"] > 1 and b["local_lr"] is not None and 0 < b["local_lr"] < math.inf
    need(one or many, "PROGRESS", "local steps")
    need(max(b["checked"], b["own"]) <= MILLION, "PROGRESS", "shares")
    need(max(b["clip"], b["escrow"]) <= 2**20, "PROGRESS", "clip or escrow")
    need(b["first_fault"] in ("evict", "suspend"), "PROGRESS", "first fault")
    if b["preset"] == "classic":
        options = [b[name] for name in ("spares", "checked", "own", "own_most", "clip", "first_fault")]
        need(options == [2, 0, 0, 0, 0, "evict"], "PROGRESS", "options of classic")
    else:
        need(b["spares"] == 1, "PROGRESS", "spares")


def chain_length(begin: Entry) -> int:
    """3.1"""
    batch, shard = begin["batch_size"], begin["shard_size"]
    return begin["epochs"] * -(-begin["examples"] // (min(batch, shard) if shard else batch))


def number_of_spares(begin: Entry, n: int, round: int) -> int:
    """2.8"""
    if begin["preset"] == "classic":
        return 2
    if begin["checked"] == 0 or n == 1:
        return 0
    whole, rest = divmod(n * begin["checked"], MILLION + begin["checked"])
    dice = Dice(digest("spares/1", begin["seed"], u64(round)))
    more = whole >= 1 and dice.below(MILLION + begin["checked"]) < rest
    return min(n // 2, max(1, whole) + more)


SLOT = 2**20


def weights(levels: dict[int, int]) -> dict[int, int]:
    """2.10: of each worker of a round, by its level."""
    base = max(min(levels.values()), max(levels.values()) - 5)
    return {w: 2 ** max(0, level - base) for w, level in levels.items()}


def usual(levels: dict[int, int]) -> int:
    """2.10: the weight that level 0 has, or would have."""
    base = max(min(levels.values()), max(levels.values()) - 5)
    return 2 ** max(0, -base)


def planned(begin: Entry, levels: dict[int, int], left: int, k: int) -> tuple[int, int]:
    """4.1: examples and number of shards, with workers of these levels, `k` spares, and `left` examples of the
    epoch."""
    useful = sum(weights(levels).values()) - k
    batch, each = begin["batch_size"], begin["shard_size"]
    examples = min(batch, max(each, useful * each // usual(levels)), left) if each else min(batch, left)
    return examples, min(useful, examples)


def sizes(examples: int, shards: int) -> list[int]:
    """4.2"""
    size, longer = divmod(examples, shards)
    return [size + (j < longer) for j in range(shards)]


# Who has which task


@dataclass
class Roles:
    """2.7: each seat's shard; which shards have spares; which the manager executes."""

    seats: dict[int, int]
    checked: list[int]
    own: list[int]


def deal(
    begin: Entry,
    dice: Dice,
    k: int,
    by_key: list[int],
    operators: dict[int, object],
    weight: dict[int, int],
    lengths: list[int],
) -> Roles:
    """2.7: of workers sorted by key, `k` spares, and shards of these lengths."""
    shards = len(lengths)
    k = k if begin["preset"] == "classic" else min(k, shards)
    all_seats = [SLOT * s + w for w in by_key for s in range(weight[w])]
    places = [all_seats[p] for p in dice.sample(len(all_seats), shards + k)]
    if begin["preset"] == "classic":
        checked = [dice.below(shards)]
        seats = {w: j if j < shards else checked[0] for j, w in enumerate(places)}
        return Roles(seats, checked, [])
    picked = dice.sample(shards, k)
    checked = []
    for i, f in enumerate(picked):
        same, tries = operators[places[f] % SLOT], 0
        while operators[places[shards + i] % SLOT] == same and tries < 64:
            j, tries = dice.below(shards), tries + 1
            if j not in picked and operators[places[j] % SLOT] != same:
                places[j], places[shards + i] = places[shards + i], places[j]
        if places[shards + i] % SLOT == places[f] % SLOT:
            others = [j for j in range(shards) if j not in picked and places[j] % SLOT != places[f] % SLOT]
            if not others:
                places[shards + i] = -1
                continue
            j = others[0]
            places[j], places[shards + i] = places[shards + i], places[j]
        checked.append(f)
    seats = {places[j]: j for j in range(shards)}
    seats |= {places[shards + i]: f for i, f in enumerate(picked) if f in checked}
    y = dice.below(MILLION)
    least, rest = divmod(shards * begin["own"], MILLION)
    most = begin["own_most"] * (len(all_seats) // len(by_key))
    own = dice.sample(shards, min(most, shards, least + (y < rest)))
    return Roles(seats, checked, own)


def replay(
    secret: bytes,
    seats: dict[int, int],
    by_key: list[int],
    operators: dict[int, object],
    weight: dict[int, int],
    moves: list[tuple[str, int, int]],
) -> None:
    """2.9: whether each task that was dealt again, while others left, went to the worker drawn.

    A move is ("left", worker, 0) or ("redealt", seat, holder), in the order of the log.
    """
    tasks: dict[int, list[int]] = {w: [] for w in by_key}  # each worker's shards, dealt or dealt again
    for seat, shard in seats.items():
        tasks[seat % SLOT].append(shard)
    by_place = [w for w in by_key for _ in range(weight[w])]
    gone: set[int] = set()
    times: dict[int, int] = {}
    for what, seat, holder in moves:
        if what == "left":
            gone.add(seat)
            continue
        need(seat in seats, "DRAWS", "nobody had the task")
        shard = seats[seat]
        there = {operators[w] for w in by_key if shard in tasks[w] and w not in gone}
        may = [w for w in by_key if w not in gone and shard not in tasks[w]]
        need(bool(may), "DRAWS", "nobody could take it")
        dice = Dice(digest("redeal/1", secret, u64(seat), u64(times.get(seat, 0))))
        one, two = (draw_again(dice, by_place, may, [w for w in may if operators[w] not in there]) for _ in range(2))
        due = two if len(tasks[two]) * weight[one] < len(tasks[one]) * weight[two] else one
        need(holder == due, "DRAWS", "not the drawn one")
        tasks[holder].append(shard)
        times[seat] = times.get(seat, 0) + 1


def draw_again(dice: Dice, by_place: list[int], may: list[int], should: list[int]) -> int:
    """2.9: one draw"""
    thrown = []
    while len(thrown) < 16:
        thrown.append(by_place[dice.below(len(by_place))])
        if thrown[-1] in should:
            return thrown[-1]
    for worker in thrown:
        if worker in may:
            return worker
    return may[dice.below(len(may))]
