"""A model's file has one encoding, which is the one that safetensors itself writes; anything else is refused."""

from __future__ import annotations

import io
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from subprocess import run as run_process
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from podlt.crypto import blob_digest
from podlt.errors import InvalidProofError, StorageError
from podlt.model_file import canonical_header, state_digest, write_model
from podlt.program.ir import Program, TensorType
from podlt.program.layout import state_layout

FIELDS = [
    ("param:first.weight", "f32", (3, 5)),
    ("param:first.bias", "f32", (3,)),
    ("buffer:norm.count", "i64", ()),
    ("frozen:table", "f32", (2, 2)),
    ("buffer:mask", "b1", (3,)),
    ("buffer:codes", "u8", (7,)),
    ("buffer:steps", "i32", (2,)),
    ("param:none", "f32", (0, 4)),
    ("param:größe", "f32", (1,)),
    ("input:x", "f32", (9,)),
]


def program(fields: list[tuple[str, str, tuple[int, ...]]] = FIELDS) -> Program:
    """A program that is only its inputs."""
    types = tuple(TensorType(dtype, shape) for _, dtype, shape in fields)
    return Program("stock", types, tuple(name for name, _, _ in fields), (), ())


def state(program: Program, seed: int = 0) -> np.ndarray:
    """Some state of a program, as workers and the manager hold it."""
    layout = state_layout(program)
    memory = np.random.default_rng(seed).integers(0, 256, layout.nbytes).astype(np.uint8)
    for view in layout.views(memory).values():
        if view.dtype == torch.bool:
            view.view(torch.uint8).remainder_(2)
        elif view.dtype == torch.float32:
            view.copy_(torch.arange(view.numel()).reshape(view.shape) - 1.5)
    layout.clear_gaps(memory)
    return memory


@pytest.fixture
def written(tmp_path: Path) -> bytes:
    """The file of `state(program())`."""
    path = tmp_path / "model.safetensors"
    write_model(path, program(), state(program()).data)
    return path.read_bytes()


def test_a_model_has_the_digest_that_the_log_names(written: bytes) -> None:
    assert state_digest(io.BytesIO(written), program()) == blob_digest(state(program()).data)


def test_a_model_is_what_safetensors_writes_and_reads(written: bytes, tmp_path: Path) -> None:
    views = state_layout(program()).views(state(program()))
    tensors = {name.partition(":")[2]: view.contiguous() for name, view in views.items()}
    assert written == save(tensors)
    (tmp_path / "copy").write_bytes(written)
    loaded = load_file(tmp_path / "copy")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


@given(st.data())
def test_any_program_state_is_written_as_safetensors_writes_it(data: st.DataObject) -> None:
    names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
    shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
    kinds = st.tuples(st.sampled_from(["param:", "frozen:", "buffer:"]), st.sampled_from(["f32", "i64", "u8"]), shapes)
    chosen = data.draw(st.dictionaries(names, kinds, min_size=1, max_size=6))
    one = program([(prefix + name, dtype, shape) for name, (prefix, dtype, shape) in chosen.items()])
    views = state_layout(one).views(state(one))
    reference = save({name.partition(":")[2]: view.contiguous() for name, view in views.items()})
    length = int.from_bytes(reference[:8], "little")
    assert canonical_header(one) == reference[8 : 8 + length]
    assert state_digest(io.BytesIO(reference), one) == blob_digest(state(one).data)


def test_every_changed_byte_is_refused_or_changes_the_digest(written: bytes) -> None:
    true = blob_digest(state(program()).data)
    for position in range(len(written)):
        changed = bytearray(written)
        changed[position] ^= 1
        try:
            assert state_digest(io.BytesIO(changed), program()) != true, position
        except InvalidProofError as error:
            assert "model.safetensors" in error.reason


def with_header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """The file with another header."""

    def make(raw: bytes) -> bytes:
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        change(header)
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + raw[8 + length :]

    return make


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda raw: raw + b"\0", "bytes after its last tensor"),
        (lambda raw: raw[:-1], "is cut off"),
        (lambda raw: raw[:20], "cut off in its header"),
        (lambda raw: raw[:5], "no safetensors file"),
        (lambda raw: b"", "no safetensors file"),
        (lambda raw: (2**62).to_bytes(8, "little") + raw[8:], "no safetensors file"),
        (with_header(lambda header: header.update(__metadata__={"a": "b"})), "metadata"),
        (with_header(lambda header: header.pop("table")), "'table' is missing"),
        (with_header(lambda header: header.update(extra=header["table"])), "no tensor 'extra'"),
        (with_header(lambda header: header["table"].update(shape=[4])), "tensor 'table': expected"),
        (with_header(lambda header: header.update(table=header.pop("table"))), "not in its one encoding"),
        (lambda raw: (8).to_bytes(8, "little") + b"[1]     ", "no map of tensors"),
        (lambda raw: (8).to_bytes(8, "little") + b"[[[[[[[[", "no JSON"),
    ],
)
def test_a_file_in_another_form_is_refused_by_name(
    written: bytes, spoil: Callable[[bytes], bytes], reason: str
) -> None:
    with pytest.raises(InvalidProofError, match=reason):
        state_digest(io.BytesIO(spoil(written)), program())


def test_two_tensors_of_one_name_have_no_file() -> None:
    with pytest.raises(InvalidProofError, match="one name"):
        canonical_header(program([("param:x", "f32", (1,)), ("buffer:x", "f32", (1,))]))


def test_the_digest_of_a_large_model_is_read_in_little_memory(tmp_path: Path) -> None:
    one = program([("param:w", "f32", (2**24,))])
    write_model(tmp_path / "model", one, np.zeros(2**26, np.uint8).data)
    with (tmp_path / "model").open("rb") as file:
        tracemalloc.start()
        state_digest(file, one)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 * 2**20


def test_a_model_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_model(tmp_path / "missing" / "model", program(), state(program()).data)
    assert not list(tmp_path.iterdir())


def test_a_model_is_checked_without_pytorch_or_numpy() -> None:
    code = "import sys, podlt.model_file; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert run_process([sys.executable, "-c", code], check=False).returncode == 0
