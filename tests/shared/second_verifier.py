"""A second verifier, written from docs/SPEC.md alone: it imports nothing of podlt. The clever is checked against it.

Its rules are in `second_rules`, draws in `second_draws`, credits and deposits in `second_accounts`; here are the log,
the files, and the table of claims that comes of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math

import msgspec
from blake3 import blake3
from second_draws import MILLION, Entry, Unsound, chain_length, digest, need, u64
from second_rules import KINDS, Verifier, signed

CLAIMS = ["FORM", "TREE", "HEADS", "MANAGER", "CONTINUITY", "DOCUMENTS", "TERMS", "SIGNATURES", "PROGRESS", "DRAWS"]
CLAIMS += ["OPENINGS", "VERDICTS", "PAYMENTS", "OUTCOME", "MODEL"]
"""6: those of `verify`"""


class Merkle:
    """5.1: RFC 6962, section 2.1, grown an entry at a time: the roots of its whole subtrees, the largest first."""

    def __init__(self) -> None:
        self.subtrees: list[tuple[int, bytes]] = []

    def add(self, entry: bytes) -> None:
        size, root = 1, hashlib.sha256(b"\x00" + entry).digest()
        while self.subtrees and self.subtrees[-1][0] == size:
            root = hashlib.sha256(b"\x01" + self.subtrees.pop()[1] + root).digest()
            size *= 2
        self.subtrees.append((size, root))

    def root(self) -> bytes:
        if not self.subtrees:
            return hashlib.sha256(b"").digest()
        root = self.subtrees[-1][1]
        for _, left in reversed(self.subtrees[:-1]):
            root = hashlib.sha256(b"\x01" + left + root).digest()
        return root


def check_head(note: str, size: int, root: bytes, identity: bytes, key: bytes) -> None:
    """5.2"""
    text, _, last = note.partition("\n\n")
    text += "\n"
    name = "podlt.run/" + identity.hex()
    dash, named, blob = last.removesuffix("\n").split(" ")
    raw = base64.b64decode(blob)
    key_id = hashlib.sha256(name.encode() + b"\x0a\x01" + key).digest()[:4]
    need((dash, named, raw[:4]) == ("\u2014", name, key_id), "HEADS", "head of another log or key")
    need(signed(key, text.encode(), raw[4:]), "HEADS", "head is not signed")
    origin, said, encoded = text.splitlines()
    need((origin, said) == (name, str(size)), "HEADS", "head of another size")
    need(base64.b64decode(encoded) == root, "TREE", "head over other entries")


def check_terms(begin: Entry, recipe: bytes, program: bytes) -> None:
    """3.1"""
    document, arithmetic = json.loads(recipe), json.loads(program)["arithmetic"]
    again = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    need(again == recipe, "TERMS", "a document not in its one encoding")
    training, rules = document["training"], document["protocol"]
    names = ("epochs", "batch_size", "shard_size", "local_steps")
    terms = {name: training[name] for name in names} | {name: rules[name] for name in ("preset", "escrow", "reward")}
    terms |= guarded_terms(rules) | {"spares": 2 if rules["preset"] == "classic" else 1}
    terms["local_lr"] = training["local_lr"] if training["local_steps"] > 1 else None
    terms["seed"] = digest("seed/1", u64(training["seed"]))
    for name, value in terms.items():
        need(begin[name] == value, "TERMS", name)
    need(begin["chain_length"] == chain_length(begin), "TERMS", "chain_length")
    need(document["model"]["parameters"] in ("", begin["parameters"].hex()), "TERMS", "parameters")
    expected = "stock" if document["arithmetic"] == "stock" else f"exact/{document['digits']}"
    need(arithmetic == expected, "TERMS", "arithmetic")


DEFAULTS = {"checked": 0.03, "own": 0.02, "own_most": 1, "clip": 8, "first_fault": "suspend"}
"""3.1: of guarded."""


def guarded_terms(rules: Entry) -> Entry:
    """3.1: the options that only guarded has: null in the recipe for the default, and in classic."""
    if rules["preset"] == "classic":
        need(all(rules[name] is None for name in DEFAULTS), "TERMS", "options of guarded")
        return {"checked": 0, "own": 0, "own_most": 0, "clip": 0, "first_fault": "evict"}
    terms = {name: default if rules[name] is None else rules[name] for name, default in DEFAULTS.items()}
    return terms | {name: round(terms[name] * MILLION) for name in ("checked", "own")}


ITEMS = {"i64": ("I64", 8), "f32": ("F32", 4), "i32": ("I32", 4), "u8": ("U8", 1), "b1": ("BOOL", 1)}


def model_digest(model: bytes, program: bytes) -> bytes:
    """5.4"""
    document = json.loads(program)
    inputs = [(name, *kind) for name, kind in zip(document["inputs"], document["types"], strict=False)]
    state = [t for prefix in ("param:", "frozen:", "buffer:") for t in inputs if t[0].startswith(prefix)]
    order = list(ITEMS)
    header, places, end = {}, {}, 0
    for name, dtype, shape in sorted(state, key=lambda t: (order.index(t[1]), t[0].partition(":")[2])):
        start, end = end, end + ITEMS[dtype][1] * math.prod(shape)
        plain = name.partition(":")[2]
        header[plain] = {"dtype": ITEMS[dtype][0], "shape": shape, "data_offsets": [start, end]}
        places[name] = start, end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    data = model[8 + len(text) :]
    canonical = model[: 8 + len(text)] == len(text).to_bytes(8, "little") + text and len(data) == end
    need(canonical, "MODEL", "not in its one encoding")
    hasher = blake3()
    for name, _, _ in state:
        tensor = data[slice(*places[name])]
        hasher.update(tensor + bytes(-len(tensor) % 64))
    return hasher.digest()


class Given:
    """What a reader has besides the log: the documents, the model, the manager's key, a head that it kept."""

    recipe: bytes | None = None
    program: bytes | None = None
    model: bytes | None = None
    manager: bytes | None = None
    kept: str | None = None


def verify(rows: list[tuple[int, bytes, bytes]], heads: list[tuple[int, str]], given: Given) -> dict[str, str]:
    """Section 6, claims 1 to 15, but for how a head is written (5.2): what each comes to."""
    found: dict[str, str] = {}
    try:
        verifier = read(rows, heads, given, found)
    except Unsound as failure:
        return dict.fromkeys(CLAIMS, "not checked") | found | {failure.claim: "fails"}
    for claim in CLAIMS:
        found.setdefault(claim, "holds")
    for claim, reason in (("MANAGER", given.manager), ("CONTINUITY", given.kept)):
        if reason is None:
            found[claim] = "not checked"
    found["MODEL"] = "not checked"
    if given.model is not None and given.program is not None and found["DOCUMENTS"] != "fails":
        try:
            same = model_digest(given.model, given.program) == verifier.parameters
        except Unsound:
            same = False
        found["MODEL"] = "holds" if same else "fails"
    return found


def read(
    rows: list[tuple[int, bytes, bytes]], heads: list[tuple[int, str]], given: Given, found: dict[str, str]
) -> Verifier:
    need(bool(heads), "HEADS", "no head")
    verifier: Verifier | None = None
    begin: Entry = {}
    identity = b""
    tree, size_before = Merkle(), 0
    roots = {0: tree.root()}
    kept = given.kept.splitlines() if given.kept is not None else ["", "0", ""]
    for size, note in heads:
        need(size > size_before, "HEADS", "order of heads")
        entries = []
        for number in range(size_before, size):
            need(number < len(rows) and rows[number][0] == number, "FORM", "missing")
            leaf, body = rows[number][1:]
            need(hashlib.sha256(b"\x00" + body).digest() == leaf, "TREE", "leaf")
            entries.append(msgspec.msgpack.decode(body))
            need(entries[-1]["kind"] in KINDS, "FORM", "kind")
            if number == 0:
                begin = entries[0]
                identity = check_begin(begin, given, found)
            tree.add(body)
            if int(kept[1]) == number + 1:
                need(kept[2] == base64.b64encode(tree.root()).decode(), "CONTINUITY", "another log")
        roots[size], size_before = tree.root(), size
        check_head(note, size, roots[size], identity, begin["manager"])
        if verifier is None:
            verifier, entries = Verifier(begin, roots), entries[1:]
        for entry in entries:
            equal = entry["kind"] == "shares/4" and "TERMS" not in found and given.recipe is not None
            if equal and json.loads(given.recipe or b"")["protocol"].get("shares") == "equal":
                raise Unsound("TERMS", "shares are equal")
            verifier.take(entry)
    assert verifier is not None
    need(len(rows) == size_before, "HEADS", "entries without a head")
    need(int(kept[1]) <= size_before, "CONTINUITY", "cut")
    return verifier


def check_begin(begin: Entry, given: Given, found: dict[str, str]) -> bytes:
    """What the first entry must be, and be about; the run's identity."""
    need(begin["kind"] == "begin/4", "PROGRESS", "begin")
    need(given.manager in (None, begin["manager"]), "MANAGER", "another manager")
    identity = digest("run/4", msgspec.msgpack.encode({**begin, "at": 0}))
    same = given.kept is None or given.kept.splitlines()[0] == "podlt.run/" + identity.hex()
    need(same, "CONTINUITY", "another run's head")
    check_documents(begin, given, found)
    return identity


def check_documents(begin: Entry, given: Given, found: dict[str, str]) -> None:
    """Claims 6 and 7."""
    pairs = [("recipe", given.recipe), ("program", given.program)]
    if any(raw is not None and digest(f"{name}/1", raw) != begin[name] for name, raw in pairs):
        found["DOCUMENTS"] = "fails"
    elif None in (given.recipe, given.program):
        found["DOCUMENTS"] = "not checked"
    if found.get("DOCUMENTS", "holds") != "holds":
        found["TERMS"] = "not checked"
        return
    try:
        check_terms(begin, given.recipe, given.program)
    except (Unsound, ValueError, KeyError):
        found["TERMS"] = "fails"
