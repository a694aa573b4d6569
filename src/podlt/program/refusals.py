"""Why an operation is refused, in an operator's words: what, where in the user's code, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from podlt.errors import UnsupportedError
from podlt.program.operations import STOCK
from podlt.program.source_lines import line_of, operation_name

_MATRICES = (
    "decompositions, determinants and inverses of matrices have no exact definition, as every library rounds them in "
    "its own way. Give the result as a field or a buffer, or write small systems out"
)
_BESSEL = (
    "Bessel and Airy functions have no exact definition. Give their values as a field, or an approximation by exp, "
    "sqrt, sin, cos and polynomials"
)
_SPECIAL = "it has no exact definition. Give its values as a field, or an approximation by supported functions"

_MATRIX_WORDS = (
    "linalg_",
    "_linalg_",
    "cholesky",
    "lu_",
    "ormqr",
    "geqrf",
    "triangular_solve",
)
_BESSEL_WORDS = ("i0", "special_i", "special_bessel", "special_modified", "special_scaled", "special_spherical")
ADVICE: Mapping[tuple[str, ...], str] = {
    _MATRIX_WORDS: _MATRICES,
    (*_BESSEL_WORDS, "special_airy"): _BESSEL,
    ("special_", "polygamma", "igamma"): _SPECIAL,
}
"""What to do instead, by how an operation's name begins; the first that fits."""


def unsupported(node: fx.Node) -> UnsupportedError:
    """The refusal of an operation that the arithmetic does not have."""
    name = operation_name(node.target)
    missing = "has no exact definition" if name in STOCK else "is not supported"
    advice = next((text for words, text in ADVICE.items() if name.startswith(words)), "")
    return UnsupportedError(f"operation {name} {missing}{line_of(node)}{advice and ': ' + advice}")


KEEP_SHAPES = (
    "the number of its results depends on the data, and the shapes of a program are fixed. Keep the shape: choose by "
    "torch.where(mask, x, 0) or x.masked_fill(~mask, 0), or take a fixed number of places (topk, gather). Of a mask "
    "that never changes, keep the places, mask.nonzero()[:, 0], as a buffer for index_select"
)
FIXED = {"repeat_interleave": "the number of its results depends on the data: give output_size"}
"""What else helps, by operation."""


def check_fixed_shapes(graph: fx.GraphModule) -> None:
    """Refuses what has as many results as its data say.

    Raises:
        UnsupportedError: names the first such operation, and its line in the user's code.
    """
    for node in graph.graph.nodes:
        if node.op != "call_function" or not _is_open(node.meta.get("val")):
            continue
        name = operation_name(node.target)
        why = FIXED.get(name.partition(".")[0], KEEP_SHAPES)
        raise UnsupportedError(f"operation {name} is not supported{line_of(node)}: {why}")


def _is_open(value: object) -> bool:
    """Whether a traced value has a dimension that is no number yet."""
    if isinstance(value, (tuple, list)):
        return any(map(_is_open, value))
    return isinstance(value, torch.Tensor) and any(isinstance(size, torch.SymInt) for size in value.shape)
