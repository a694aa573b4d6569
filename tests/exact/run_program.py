"""A worker's arithmetic and nothing else: executes programs that were captured elsewhere, and prints what came out.

    python tests/exact/run_program.py FILE ...

Each file holds a program as a JSON document and the number of steps to train. Weights and lines are fixed words. Needs
torch, NumPy and Numba, and runs where a model could not be captured: under an emulator, on another version of torch.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

from podlt.exact.conformance import values
from podlt.program.execute import Executor
from podlt.program.ir import Program
from podlt.program.layout import TORCH_DTYPES

RATE = 2.0**-6
LINES = 3


def document(program: Program, steps: int, below: int) -> str:
    """What a file holds.

    Args:
        program: that was captured.
        steps: of training.
        below: what the whole numbers of lines are less than.
    """
    return json.dumps({"program": program.to_document(), "steps": steps, "below": below})


def trained(held: dict[str, Any]) -> str:
    """The SHA-256, hex, of what a document's program trains to."""
    program = Program.from_document(held["program"])
    kinds = dict(zip(program.inputs, program.types, strict=False))
    state = {
        name: _filled(number, kind.at(0), kind.dtype, held["below"], 2.0**-3)
        for number, (name, kind) in enumerate(sorted(kinds.items()), 1)
        if not name.startswith("batch:")
    }
    executor, sha = Executor(program), hashlib.sha256()
    for step in range(held["steps"]):
        batch = {
            name.partition(":")[2]: _filled(1000 * (step + 1) + number, kind.at(LINES), kind.dtype, held["below"], 1.0)
            for number, (name, kind) in enumerate(sorted(kinds.items()))
            if name.startswith("batch:")
        }
        out = {name: torch.empty(program.types[v].at(LINES), dtype=_dtype(program, v)) for name, v in program.outputs}
        executor.run(state, batch, step, out)
        for name, value in out.items():
            sha.update(name.encode() + value.numpy().tobytes())
            if name.startswith("grad:"):
                state["param:" + name[5:]].sub_(value * RATE)
    return sha.hexdigest()


def _dtype(program: Program, value: int) -> torch.dtype:
    return TORCH_DTYPES[program.types[value].dtype]


def _filled(key: int, shape: tuple[int, ...], dtype: str, below: int, scale: float) -> torch.Tensor:
    words = values(key, *shape)
    return words * scale if dtype == "f32" else ((words.view(torch.int32) >> 5).long() % below).to(TORCH_DTYPES[dtype])


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(trained(json.loads(Path(path).read_text(encoding="utf-8"))))
