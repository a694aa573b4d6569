"""How much memory a program takes, worked out from its declared types before any of it is taken."""

from __future__ import annotations

from podlt.errors import InvalidProofError
from podlt.program.ir import ITEM_BYTES, Program, TensorType, resolve
from podlt.program.kernel_scratch import scratch_bytes
from podlt.program.liveness import last_uses
from podlt.program.pieces import SUM_BYTES, piece_sizes

UNBOUNDED = 2**62
"""Where shapes are to be looked at, and memory is not."""

MAX_EXAMPLES = 2**20
"""Up to how many examples it is worked out what fits."""


class MemoryNeedError(InvalidProofError):
    """A task takes more memory than it may; its reason says how much."""


def check_memory(program: Program, examples: int, max_bytes: int) -> None:
    """Refuses a task that takes more memory than it may.

    Args:
        program: its references were checked, its shapes need not have been.
        examples: of the task, which the program's `micro_batch_size` may cut into pieces.
        max_bytes: of everything that is alive at once.

    Raises:
        MemoryNeedError: it takes more.
        InvalidProofError: a dimension below zero, or a kernel's rule is broken.
    """
    piece = piece_sizes(examples, program.micro_batch_size)[1]
    needed, node = peak_bytes(program, piece, is_summed=bool(program.micro_batch_size))
    if needed > max_bytes:
        where = f" (the most of it at node {node}, {program.nodes[node].operation})" if node >= 0 else ""
        raise MemoryNeedError(
            f"program: {piece} examples of this model take more than the {max_bytes} bytes ({gib(max_bytes)}) that a "
            f"task may take: {gib(needed)}{where}; set training.micro_batch_size below {piece}, or training.shard_size"
        )


def peak_bytes(program: Program, examples: int, *, is_summed: bool) -> tuple[int, int]:
    """The most bytes that are alive at once: inputs, outputs, and what is needed later.

    Args:
        program: as for `check_memory`.
        examples: that are executed at once.
        is_summed: whether they are a piece of a task, whose update is added to others.

    Returns:
        The bytes, and the node at which they are the most; -1 where there is no node.

    Raises:
        InvalidProofError: a dimension below zero, or a kernel's rule is broken.
    """
    sizes = [_bytes(kind, examples) for kind in program.types]
    alive = sum(sizes[: len(program.inputs)])
    if is_summed:
        floats = sum(sizes[value] for _, value in program.outputs if program.types[value].dtype == "f32")
        alive += floats // ITEM_BYTES["f32"] * SUM_BYTES
    dying, most, at = last_uses(program), alive, -1
    for i, node in enumerate(program.nodes):
        alive += sum(sizes[output] for output in node.outputs)
        try:
            scratch = scratch_bytes(program, i, examples)
        except ValueError as error:
            raise InvalidProofError(f"program: node {i} ({node.operation}): {error}") from None
        if alive + scratch > most:
            most, at = alive + scratch, i
        alive -= sum(sizes[value] for value in dying[i])
    return most, at


def most_examples(program: Program, max_bytes: int) -> int:
    """The most examples of a piece that can be executed within so many bytes; 0 if not even one can."""
    low, high = 0, MAX_EXAMPLES
    while low < high:
        middle = (low + high + 1) // 2
        if peak_bytes(program, middle, is_summed=True)[0] <= max_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def gib(nbytes: int) -> str:
    """Bytes, for people."""
    return f"{nbytes / 2**30:.2f} GiB"


def _bytes(kind: TensorType, examples: int) -> int:
    total = ITEM_BYTES[kind.dtype]
    for dim in kind.shape:
        if resolve(dim, examples) < 0 or resolve(dim, 1) < 0:
            raise InvalidProofError(f"program: a dimension below zero: {dim}")
        total *= resolve(dim, examples)
    return total
