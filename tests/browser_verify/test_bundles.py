"""Bundles that are cut, spoiled or hostile, and models: the browser and `podlt verify` refuse the same ones."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from examples_drawn import ALL

from podlt.canonical import encode, to_json
from podlt.crypto import digest
from podlt.errors import UsageError
from podlt.log.merkle import Tree, leaf_hash
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.model_file import write_model
from podlt.program.ir import Program, TensorType
from podlt.program.places import Places, state_fields
from podlt.protocol import entries as e
from podlt.recipe import Recipe
from podlt.sim.world import MemoryLog
from podlt.store.container import BLOCK, header
from podlt.verify import verify
from podlt.verify.documents import Documents
from protocol.test_tampering import ENTRIES, LOG, WORLD

from .conftest import Node, NodeError, bundle_of, container_of
from .test_agreement import DOCUMENTS, assert_same, both

RAW = bundle_of(LOG, DOCUMENTS)
ENTRIES_RAW = b"".join(len(body).to_bytes(4, "big") + body for _, _, body in LOG.entries())
HEADS_RAW = "".join(note for _, note in LOG.heads()).encode()
FORMAT = ("podlt-bundle", b"podlt-bundle/1\n")


def spoiled_bundles() -> dict[str, bytes]:
    log, heads = ("log/entries", ENTRIES_RAW), ("log/heads", HEADS_RAW)
    recipe = ("recipe.json", WORLD.recipe)
    huge = header("log/entries", 2**40) + ENTRIES_RAW
    return {
        "empty": b"",
        "zeros": bytes(2 * BLOCK),
        "one block": bytes(BLOCK),
        "no format": container_of([log, heads]),
        "another format": container_of([("podlt-bundle", b"podlt-bundle/2\n"), log, heads]),
        "no heads": container_of([FORMAT, log]),
        "no head in the heads": container_of([FORMAT, log, ("log/heads", b"")]),
        "another order": container_of([FORMAT, heads, log]),
        "a member twice": container_of([FORMAT, log, log, heads]),
        "an unknown member": container_of([FORMAT, log, heads, ("extra", b"")]),
        "an update": container_of([FORMAT, log, heads, recipe, ("updates/00000001.bin", b"x")]),
        "updates out of order": container_of(
            [FORMAT, log, heads, ("updates/00000002.bin", b""), ("updates/00000001.bin", b"")]
        ),
        "a size beyond the file": container_of([FORMAT])[: -2 * BLOCK] + huge,
        "a name with dots": RAW.replace(b"recipe.json", b"../ecipe.js", 1),
        "bytes after the end": RAW + bytes(BLOCK),
        "no end": RAW[: -2 * BLOCK],
        "an entry of 16 MiB and a byte": container_of(
            [FORMAT, ("log/entries", (2**24 + 1).to_bytes(4, "big") + b"x"), heads]
        ),
        "an entry beyond the log": container_of([FORMAT, ("log/entries", (2**20).to_bytes(4, "big") + b"x"), heads]),
        "an entry that is cut": container_of([FORMAT, ("log/entries", ENTRIES_RAW[:-1]), heads]),
        "a length that is cut": container_of([FORMAT, ("log/entries", ENTRIES_RAW + b"\0\0"), heads]),
        "an entry too few": container_of([FORMAT, ("log/entries", ENTRIES_RAW[: -4 - len(LOG.rows[-1][2])]), heads]),
        "an entry too many": container_of([FORMAT, ("log/entries", ENTRIES_RAW + b"\0\0\0\1x"), heads]),
        "deep nesting": container_of([FORMAT, ("log/entries", (2**16).to_bytes(4, "big") + b"\x91" * 2**16), heads]),
        "a head that is cut": container_of([FORMAT, log, ("log/heads", HEADS_RAW[:-1])]),
        "heads without lines": container_of([FORMAT, log, ("log/heads", b"x" * 20_000)]),
        "heads of long lines": container_of([FORMAT, log, ("log/heads", (b"y" * 3000 + b"\n") * 5)]),
        "a head twice": container_of([FORMAT, log, ("log/heads", LOG.heads()[0][1].encode() * 2)]),
        "a head that is no text": container_of(
            [FORMAT, log, ("log/heads", HEADS_RAW.replace("—".encode(), b"\xff\xfe\xfd", 1))]
        ),
        "a huge head": container_of(
            [FORMAT, log, ("log/heads", HEADS_RAW.replace(b"\n", b"\n9999999999999999999\n", 1))]
        ),
    }


@pytest.mark.parametrize("name", spoiled_bundles())
def test_both_refuse_the_same_bundles(node: Node, tmp_path: Path, name: str) -> None:
    raw = spoiled_bundles()[name]
    try:
        assert_same(*both(node, raw, tmp_path))
    except NodeError as error:
        assert "Misuse" in str(error)
        (tmp_path / "run.podlt").write_bytes(raw)
        with pytest.raises(UsageError):
            verify(tmp_path / "run.podlt", jobs=1)


def test_both_find_the_same_in_bundles_that_are_cut_or_have_a_byte_changed(node: Node, tmp_path: Path) -> None:
    dice = random.Random(4)
    for _ in range(1000 if ALL else 60):
        raw = bytearray(RAW)
        if dice.randrange(3):
            raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
        else:
            del raw[dice.randrange(len(raw)) :]
        assert_same(*both(node, bytes(raw), tmp_path))


FIELDS = [
    ("param:first.weight", "f32", (3, 5)),
    ("buffer:norm.count", "i64", ()),
    ("frozen:table", "f32", (2, 2)),
    ("buffer:mask", "b1", (3,)),
    ("param:größe", "f32", (1,)),
    ("param:tied", "f32", (4,)),
    ("buffer:hidden", "f32", (2,)),
    ("input:x", "f32", (9,)),
]
NAMES = {"param:tied": ("a.tied", "b.tied"), "buffer:hidden": ()}


def trained(folder: Path) -> tuple[MemoryLog, Documents, bytes, bytes]:
    """The log of a run that trained a model, closed; its documents; and the model's two files."""
    types = tuple(TensorType(dtype, shape) for _, dtype, shape in FIELDS)
    program = Program("exact/2", types, tuple(name for name, _, _ in FIELDS), (), (), NAMES)
    state = bytearray(Places(state_fields(program)).nbytes)
    for _, place in Places(state_fields(program)).items():
        state[place.offset : place.end] = bytes(i % 2 for i in range(place.nbytes))
    write_model(folder / "model.safetensors", program, memoryview(bytes(state)))
    recipe = Recipe.from_bytes(WORLD.recipe)
    recipe = msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, source="digits"))
    documents = Documents(recipe.to_bytes(), to_json(program.to_document()))
    from blake3 import blake3

    begin = ENTRIES[0]
    assert isinstance(begin, e.Begin) and documents.recipe is not None and documents.program is not None
    begin = msgspec.structs.replace(
        begin, recipe=digest("recipe/1", documents.recipe), program=digest("program/1", documents.program),
        parameters=blake3(bytes(state)).digest(),
    )  # fmt: skip
    log, tree = MemoryLog(), Tree()
    bodies = [encode(begin)]
    for body in bodies:
        tree.append(leaf_hash(body))
    log.append(0, bodies, sign_head(Head(origin_of(e.identity(begin)), 1, tree.root()), WORLD.key))
    return log, documents, *(folder.joinpath(f"{name}.safetensors").read_bytes() for name in ("model", "buffers"))


def test_both_check_a_model_byte_for_byte(node: Node, tmp_path: Path) -> None:
    log, documents, model, buffers = trained(tmp_path)
    found, expected = both(node, bundle_of(log, documents, model=model, buffers=buffers), tmp_path)
    assert found["findings"][14]["outcome"] == "holds"
    assert_same(found, expected)
    dice = random.Random(5)
    places = [0, 7, 8, 20, len(model) - 1, *(dice.randrange(len(model)) for _ in range(20))]
    spoiled = [(bytes([*model[:i], model[i] ^ 1, *model[i + 1 :]]), buffers) for i in places]
    spoiled += [(model[:-1], buffers), (model + b"x", buffers), (model, buffers[:-1]), (b"", buffers), (model, b"x")]
    for changed, others in spoiled:
        theirs, ours = both(node, bundle_of(log, documents, model=changed, buffers=others), tmp_path)
        assert theirs["findings"][14]["outcome"] == ours.findings[14].outcome == "fails"
    for more in ({"model": model}, {"buffers": buffers}, {}):
        theirs, ours = both(node, bundle_of(log, documents, **more), tmp_path)
        assert theirs["findings"][14]["outcome"] == ours.findings[14].outcome
    without = Documents(documents.recipe, None)
    assert_same(*both(node, bundle_of(log, without, model=model, buffers=buffers), tmp_path))
