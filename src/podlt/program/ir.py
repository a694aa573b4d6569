"""The training step as a document: typed values, single-assignment nodes, one encoding, one digest.

A shard may have any number of examples B, and there is one program for all of them: every integer in a shape or an
argument is a number, or an affine expression of B, written `{"B": [a, c]}` for a*B + c.

Document: `{"arithmetic", "inputs", "nodes", "outputs", "types", "version"}` in canonical JSON. `types[i]` is the
`[dtype, shape]` of value i; the first values are the inputs; a node is `[operation, arguments, keywords, outputs]`.
An argument is null, a boolean, an integer, a float, a string, a list, `{"v": i}` (a value), `{"t": dtype}`,
`{"f": "inf"|"-inf"|"nan"}` or `{"B": [a, c]}`.

A module may save a tensor of its state by other names than the program's, by several (tied weights) or not at all (a
buffer that is not persistent): then the document has `"names"` as well, a map from an input to the names by which
`state_dict()` has it. Inputs that are saved by their own name are not in it.

Where a task takes several steps by another rule than plain SGD, the document has `"local_optimizer"`: its name and
options as a recipe's `training.local_optimizer` has them, without a learning rate, which the first entry says.

Where tasks are executed in pieces (`podlt.program.pieces`), the document has `"micro_batch_size"`: the most examples of
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from podlt.canonical import from_json, to_json
from podlt.crypto import digest
from podlt.errors import InvalidProofError

VERSION = 1
MAX_NODES = 100_000
MAX_VALUES = 200_000
MAX_NAMES = 1000
DTYPES = ("f32", "i64", "i32", "u8", "b1")
ITEM_BYTES = {"f32": 4, "i64": 8, "i32": 4, "u8": 1, "b1": 1}


@dataclass(frozen=True)
class FieldSpec:
    """A field of an example, as the model is given it.

    Attributes:
        name: its name.
        dtype: "u8", "f32", "i64" or "i32".
        shape: of one line.
        scale: inside the program inputs are cast to float32 and multiplied by it; None leaves them as they are.
        role: "input" or "label".
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    role: str


@dataclass(frozen=True)
class TensorType:
    """Element type and shape; a dimension is an integer or `{"B": [a, c]}`."""

    dtype: str
    shape: tuple[Any, ...]

    def at(self, examples: int) -> tuple[int, ...]:
        """The shape for a number of examples."""
        return tuple(resolve(dim, examples) for dim in self.shape)


@dataclass(frozen=True)
class Node:
    """One operation: `outputs` are the numbers of the values that it defines."""

    operation: str
    arguments: list[Any]
    keywords: dict[str, Any]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """A training step: `inputs` names the first values, `outputs` pairs a name with the number of a value.

    `names` says by which names the module saves an input of its state, where that is not the input's own. A task's own
    steps follow `local_optimizer`; SGD where it is empty. Tasks are executed in pieces of at most `micro_batch_size`;
    as a whole where it is 0.
    """

    arithmetic: str
    types: tuple[TensorType, ...]
    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, int], ...]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    local_optimizer: Mapping[str, Any] = field(default_factory=dict)
    micro_batch_size: int = 0

    @classmethod
    def from_document(cls, document: Any) -> Program:
        """The program of a decoded document.

        Raises:
            InvalidProofError: it has not the form of a program, or another version.
        """
        known = isinstance(document, dict) and set(document) - _OPTIONAL == _KEYS
        _require(known, "a program has exactly the fields of a program")
        _require(
            _is_int(document["version"]) and document["version"] == VERSION,
            f"version {document['version']!r} is not {VERSION}",
        )
        _require(isinstance(document["arithmetic"], str), "arithmetic is a name")
        for key in ("types", "inputs", "nodes", "outputs"):
            _require(isinstance(document[key], list), f"{key} is a list")
        _require(len(document["types"]) <= MAX_VALUES, f"more than {MAX_VALUES} values")
        _require(len(document["nodes"]) <= MAX_NODES, f"more than {MAX_NODES} nodes")
        return cls(
            document["arithmetic"],
            tuple(_type(item) for item in document["types"]),
            tuple(_name(item) for item in document["inputs"]),
            tuple(_node(item) for item in document["nodes"]),
            tuple(_output(item) for item in document["outputs"]),
            _names(document["names"]) if "names" in document else {},
            _local_optimizer(document["local_optimizer"]) if "local_optimizer" in document else {},
            _micro_batch_size(document["micro_batch_size"]) if "micro_batch_size" in document else 0,
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Program:
        """The program with this encoding; `validate` it before it runs.

        Raises:
            InvalidProofError: not canonical, or not of the form of a program.
        """
        return cls.from_document(from_json(raw))

    def to_document(self) -> dict[str, Any]:
        """The document that `to_bytes` encodes."""
        names = {"names": {name: list(saved) for name, saved in self.names.items()}} if self.names else {}
        local = {"local_optimizer": dict(self.local_optimizer)} if self.local_optimizer else {}
        pieces = {"micro_batch_size": self.micro_batch_size} if self.micro_batch_size else {}
        return (
            names
            | local
            | pieces
            | {
                "version": VERSION,
                "arithmetic": self.arithmetic,
                "types": [[t.dtype, list(t.shape)] for t in self.types],
                "inputs": list(self.inputs),
                "nodes": [[n.operation, n.arguments, n.keywords, list(n.outputs)] for n in self.nodes],
                "outputs": [[name, value] for name, value in self.outputs],
            }
        )

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return to_json(self.to_document())

    @cached_property
    def digest(self) -> bytes:
        """What tasks and a run's first entry name."""
        return digest("program/1", self.to_bytes())

    def saved_names(self, name: str) -> tuple[str, ...]:
        """The names by which the module's `state_dict()` has an input of its state."""
        return self.names.get(name, (name.partition(":")[2],))

    def named(self, prefix: str) -> dict[str, TensorType]:
        """The types of the inputs whose name begins with a prefix such as "param:", by full name."""
        pairs = zip(self.inputs, self.types, strict=False)
        return {name: kind for name, kind in pairs if name.startswith(prefix)}


def resolve(item: Any, examples: int) -> int:
    """The integer that a dimension is for a number of examples."""
    if isinstance(item, dict):
        a, c = item["B"]
        return int(a) * examples + int(c)
    return int(item)


def is_affine(item: Any) -> bool:
    """Whether an argument is an affine expression of the number of examples."""
    return (
        isinstance(item, dict)
        and set(item) == {"B"}
        and isinstance(item["B"], list)
        and len(item["B"]) == 2
        and all(_is_int(number) and abs(number) < 2**31 for number in item["B"])
    )


_KEYS = {"version", "arithmetic", "types", "inputs", "nodes", "outputs"}
_OPTIONAL = {"names", "local_optimizer", "micro_batch_size"}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvalidProofError(f"program: {message}")


def _is_int(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _type(item: Any) -> TensorType:
    _require(isinstance(item, list) and len(item) == 2, "a type is a pair of dtype and shape")
    dtype, shape = item
    _require(dtype in DTYPES, f"no dtype {dtype!r}")
    _require(isinstance(shape, list) and len(shape) <= 16, "a shape is a list of at most 16 dimensions")
    for dim in shape:
        _require(is_affine(dim) or (_is_int(dim) and 0 <= dim < 2**40), f"no dimension {dim!r}")
    return TensorType(dtype, tuple(shape))


def _name(item: Any) -> str:
    _require(isinstance(item, str) and 0 < len(item) <= 1000, "a name is a short text")
    return str(item)


def _node(item: Any) -> Node:
    _require(isinstance(item, list) and len(item) == 4, "a node is operation, arguments, keywords and outputs")
    operation, arguments, keywords, outputs = item
    _require(isinstance(operation, str), "an operation is a name")
    _require(isinstance(arguments, list) and isinstance(keywords, dict), "arguments are a list, keywords a map")
    _require(isinstance(outputs, list) and 0 < len(outputs) <= 64, "a node has outputs")
    _require(all(_is_int(output) and output >= 0 for output in outputs), "an output is the number of a value")
    return Node(operation, arguments, keywords, tuple(outputs))


def _output(item: Any) -> tuple[str, int]:
    _require(isinstance(item, list) and len(item) == 2 and _is_int(item[1]), "an output is a name and a value")
    return _name(item[0]), item[1]


def _local_optimizer(item: Any) -> dict[str, Any]:
    _require(isinstance(item, dict) and bool(item), "a local optimiser is a table, left out where it is SGD")
    _require(len(item) <= len(_LOCAL_OPTIONS) and set(item) <= _LOCAL_OPTIONS, "a local optimiser has other options")
    for name, value in item.items():
        _require(isinstance(value, str) == (name == "name"), f"local_optimizer.{name}: another type")
        numbers = value if isinstance(value, list) else [value]
        simple = len(numbers) <= 2 and all(isinstance(one, str | bool | int | float) for one in numbers)
        _require(simple, f"local_optimizer.{name}: a number, or two")
    return dict(item)


def _micro_batch_size(item: Any) -> int:
    _require(
        _is_int(item) and 0 < item < 2**31, "micro_batch_size is a number of examples, left out where tasks are whole"
    )
    return int(item)


_LOCAL_OPTIONS = frozenset(("name", "betas", "eps", "momentum", "nesterov", "weight_decay"))


def _names(item: Any) -> dict[str, tuple[str, ...]]:
    _require(isinstance(item, dict) and bool(item), "names are a map, left out where it is empty")
    for name, saved in item.items():
        _require(isinstance(saved, list) and len(saved) <= MAX_NAMES, f"{name}: at most {MAX_NAMES} names")
        _require([name.partition(":")[2]] != saved, f"{name}: its own name is not written down")
    return {name: tuple(_name(one) for one in saved) for name, saved in item.items()}
