"""From a traced graph to a program's document: plain names, plain arguments, every random draw by its number."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx

from podlt.errors import UnsupportedError
from podlt.program.ir import VERSION
from podlt.program.layout import TORCH_DTYPES
from podlt.program.liveness import VIEWS
from podlt.program.operations import table
from podlt.program.refusals import unsupported
from podlt.program.source_lines import line_of, operation_name
from podlt.program.trace import Traced
from podlt.program.validate import MAX_CONSTANT

_DTYPES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
_IGNORED_KEYWORDS = {"layout", "device", "pin_memory", "memory_format", "non_blocking"}
_SAME_VALUE = {"detach", "alias", "lift_fresh", "lift_fresh_copy", "contiguous"}
_EMPTY = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}
"""Memory as it was found: some decompositions use its shape. Zeros here, so that nothing depends on what lay there."""
_AS_VIEW = {f"{name.partition('.')[0]}_copy" for name in VIEWS}


class Lowering:
    """One pass over a graph.

    Args:
        traced: the graph with the names of its inputs and outputs.
        arithmetic: whose operations it may hold.
    """

    def __init__(self, traced: Traced, arithmetic: str) -> None:
        self._traced = traced
        self._arithmetic, self._known = arithmetic, table(arithmetic)
        self._values: dict[fx.Node, Any] = {}
        self._types: list[list[Any]] = []
        self._nodes: list[list[Any]] = []
        self._line = ""
        self.places: list[str] = []
        """Where in the user's code each node of the document comes from: " at FILE:LINE", or "" where nobody knows."""
        self._draws = 0

    def document(self) -> dict[str, Any]:
        """The program's document, for the number of examples of the example.

        Raises:
            UnsupportedError: an operation that no program holds; names it and the user's line.
        """
        outputs: list[list[Any]] = []
        for node in self._traced.graph.graph.nodes:
            self._line = line_of(node)
            if node.op == "placeholder":
                self._values[node] = self._define(node.meta["val"])
            elif node.op == "get_attr":
                self._constant(node)
            elif node.op == "output":
                pairs = zip(self._traced.outputs, node.args[0], strict=True)
                outputs = [[name, self._values[value]] for name, value in pairs if not self._unchanged(name, value)]
            elif node.target is operator.getitem:
                self._values[node] = self._values[node.args[0]][node.args[1]]
            else:
                self._call(node)
        return {
            "version": VERSION,
            "arithmetic": self._arithmetic,
            "types": self._types,
            "inputs": self._traced.inputs,
            "nodes": self._nodes,
            "outputs": outputs,
        }

    def _define(self, value: torch.Tensor) -> int:
        if value.dtype not in _DTYPES:
            raise UnsupportedError(f"tensors of {value.dtype} are not supported: use float32")
        self._types.append([_DTYPES[value.dtype], [int(dim) for dim in value.shape]])
        return len(self._types) - 1

    def _emit(self, operation: str, arguments: list[Any], keywords: dict[str, Any], kinds: list[Any]) -> list[int]:
        outputs = [self._define(kind) for kind in kinds]
        self._nodes.append([operation, arguments, keywords, outputs])
        self.places.append(self._line)
        return outputs

    def _unchanged(self, name: str, value: fx.Node) -> bool:
        """A buffer that comes out as it went in (or as a copy) is no part of an update."""
        if not name.startswith("buffer:"):
            return False
        found, source = self._values[value], self._traced.inputs.index(name)
        copies = {
            outputs[0]
            for operation, arguments, _, outputs in self._nodes
            if operation == "clone.default" and arguments[0] == {"v": source}
        }
        return found == source or found in copies

    def _constant(self, node: fx.Node) -> None:
        value = getattr(self._traced.graph, str(node.target))
        if not isinstance(value, torch.Tensor):
            raise UnsupportedError(f"a constant of type {type(value).__name__} is not supported{line_of(node)}")
        if value.numel() > MAX_CONSTANT:
            raise UnsupportedError(
                f"a constant tensor of {value.numel()} elements: register it as a buffer of the model{line_of(node)}"
            )
        kind = _DTYPES.get(value.dtype)
        flat = [self._argument(item, node) for item in value.flatten().tolist()]
        self._values[node] = self._emit("constant", [{"t": kind}, list(value.shape), flat], {}, [value])[0]

    def _call(self, node: fx.Node) -> None:
        name = operation_name(node.target)
        packet = name.split(".")[0]
        if packet == "copy":
            self._copy(node)
            return
        if packet.removesuffix("_copy") in _SAME_VALUE:
            self._values[node] = self._values[node.args[0]]  # type: ignore[index]
            return
        if self._random(node, packet):
            return
        if packet in _EMPTY:
            kind = node.meta["val"]
            keywords = {"dtype": self._argument(kind.dtype, node)}
            self._values[node] = self._emit("zeros.default", [[int(d) for d in kind.shape]], keywords, [kind])[0]
            return
        if packet in _AS_VIEW:
            name = name.replace("_copy.", ".", 1)
        if name not in self._known and packet.endswith("_"):
            raise UnsupportedError(f"operation {name} changes a parameter or an input in place{line_of(node)}")
        if name not in self._known:
            raise unsupported(node)
        keywords = {
            key: self._argument(value, node)
            for key, value in node.kwargs.items()
            if key not in _IGNORED_KEYWORDS and value is not None
        }
        arguments = [self._argument(value, node) for value in node.args]
        result = node.meta["val"]
        if name == "_to_copy.default" and result.dtype == torch.int64:
            arguments[0] = self._within(node.args[0])  # type: ignore[arg-type]
        if isinstance(result, (tuple, list)):
            # A backward gives nothing for a gradient that was not asked for: declared as an empty tensor.
            kinds = [torch.empty(0) if kind is None else kind for kind in result]
            self._values[node] = self._emit(name, arguments, keywords, kinds)
        else:
            self._values[node] = self._emit(name, arguments, keywords, [result])[0]

    def _within(self, node: fx.Node) -> dict[str, Any]:
        """Numbers before they are cut to whole ones, no larger than these can hold: what C leaves open (the logarithm
        of no distance, in a branch of `where` that is not taken) no program may ask."""
        kind, value = node.meta["val"], {"v": self._values[node]}
        if not kind.is_floating_point():
            return value
        return {"v": self._emit("clamp.default", [value, -(2.0**62), 2.0**62], {}, [kind])[0]}

    def _copy(self, node: fx.Node) -> None:
        """What is copied onto a tensor is that value, in the tensor's type and shape."""
        value, source, kind = self._values[node.args[1]], node.args[1].meta["val"], node.meta["val"]  # type: ignore[index, union-attr]
        if source.dtype != kind.dtype:
            cast = torch.empty(source.shape, dtype=kind.dtype, device="meta")
            value = self._emit("_to_copy.default", [{"v": value}], {"dtype": self._argument(kind.dtype, node)}, [cast])[
                0
            ]
        if source.shape != kind.shape:
            value = self._emit("expand.default", [{"v": value}, [int(dim) for dim in kind.shape]], {}, [kind])[0]
        self._values[node] = value

    def _random(self, node: fx.Node, packet: str) -> bool:
        """Random draws become numbered uniform draws, and dropout what it is made of."""
        if packet == "native_dropout":
            value, rate = self._values[node.args[0]], float(node.args[1])  # type: ignore[index, arg-type]
            surviving = self._mask(node, node.meta["val"][0], 1.0 - rate)
            kind = node.meta["val"][0]
            mask = self._emit("_to_copy.default", [{"v": surviving}], {"dtype": {"t": "f32"}}, [kind])[0]
            product = self._emit("mul.Tensor", [{"v": value}, {"v": mask}], {}, [kind])[0]
            scale = 1.0 / (1.0 - rate) if rate < 1 else 0.0
            self._values[node] = [self._emit("mul.Tensor", [{"v": product}, scale], {}, [kind])[0], surviving]
            return True
        if packet == "bernoulli" and len(node.args) > 1 and isinstance(node.args[1], float):
            surviving = self._mask(node, node.meta["val"], node.args[1])
            kind = node.meta["val"]
            self._values[node] = self._emit("_to_copy.default", [{"v": surviving}], {"dtype": {"t": "f32"}}, [kind])[0]
            return True
        if packet in ("rand", "rand_like"):
            self._values[node] = self._uniform(node.meta["val"])
            return True
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise UnsupportedError(f"random operation {packet} is not supported (dropout and rand are){line_of(node)}")
        return False

    def _mask(self, node: fx.Node, kind: torch.Tensor, probability: float) -> int:
        drawn = self._uniform(torch.empty(kind.shape, dtype=torch.float32, device="meta"))
        shape = torch.empty(kind.shape, dtype=torch.bool, device="meta")
        return self._emit("lt.Scalar", [{"v": drawn}, probability], {}, [shape])[0]

    def _uniform(self, kind: torch.Tensor) -> int:
        arguments = [self._draws, [int(dim) for dim in kind.shape]]
        self._draws += 1
        return self._emit("uniform", arguments, {}, [kind])[0]

    def _argument(self, value: Any, node: fx.Node) -> Any:
        if isinstance(value, fx.Node):
            return {"v": self._values[value]}
        if isinstance(value, (list, tuple)):
            return [self._argument(part, node) for part in value]
        if isinstance(value, torch.dtype):
            if value not in _DTYPES:
                raise UnsupportedError(f"tensors of {value} are not supported: use float32{line_of(node)}")
            return {"t": _DTYPES[value]}
        if isinstance(value, float) and not math.isfinite(value):
            return {"f": {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise UnsupportedError(f"argument {value!r} of {node.target} is not supported{line_of(node)}")
