"""How long capturing a real model takes, and how much memory capture and a task take.

Each measurement is a process of its own. Its peak is the system's word for it (`ru_maxrss`), less what the process had
before there was a model; so the model itself counts. A task is executed twice with the parameters' digits kept, as
workers do in a round; eager PyTorch does the same examples' forward and backward pass twice.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from podlt.bench import language
from podlt.errors import PodltError
from podlt.execution.task_executor import TaskExecutor
from podlt.program.capture import Captured, capture
from podlt.program.ir import Program
from podlt.program.layout import state_layout, update_layout
from podlt.program.memory import peak_bytes

EXAMPLES = 4
TRIED = 7
"""Examples on which a captured program is held against its module."""

MEASURES = ("capture", "eager", "task")


class Asked(msgspec.Struct, frozen=True):
    """What one process measures.

    Attributes:
        measure: one of `MEASURES`.
        model: one of `language.MODELS`.
        layers: of it.
        arithmetic: of its program.
        micro_batch_size: of a task's pieces; 0 for a task as a whole.
        program: the file that the program is written to, or read from.
    """

    measure: str
    model: str
    layers: int
    arithmetic: str
    micro_batch_size: int
    program: str


class CaptureMeasurement(msgspec.Struct, frozen=True):
    """What a process found: the model's bytes, seconds, the peak beyond its start, and the program's nodes."""

    model: int
    seconds: float
    peak: int
    nodes: int = 0

    @property
    def ratio(self) -> float:
        """The peak in models."""
        return self.peak / self.model


class ResidentPeak:
    """The peak of this process beyond what it has now, once what is not needed was given back."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        self._start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def bytes(self) -> int:
        """Bytes of memory, whatever of it is free again by now."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - self._start


def measure(asked: Asked) -> CaptureMeasurement:
    """Measures in this process, which must have done nothing else."""
    _warm(asked.arithmetic)
    torch.set_num_threads(1)
    return {"capture": _capture, "eager": _eager, "task": _task}[asked.measure](asked)


def _warm(arithmetic: str) -> None:
    """Reads libraries, and compiles kernels, before anything is measured."""
    captured = _captured(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5)), arithmetic, "")
    out = np.zeros(update_layout(captured.program).nbytes, np.uint8)
    TaskExecutor(captured.program, 1, None)(captured.state, language.examples_of("", 2), bytes(32), out)


def _captured(model: nn.Module, arithmetic: str, name: str) -> Captured:
    examples = language.examples_of(name, TRIED)
    return capture(model, language.mean_over_tokens, language.FIELDS, arithmetic, examples, EXAMPLES)


def _capture(asked: Asked) -> CaptureMeasurement:
    peak = ResidentPeak()
    model = language.MODELS[asked.model](asked.layers)
    began = time.perf_counter()
    program = _captured(model, asked.arithmetic, asked.model).program
    found = CaptureMeasurement(_bytes(model), time.perf_counter() - began, peak.bytes(), len(program.nodes))
    Path(asked.program).write_bytes(program.to_bytes())
    return found


def _eager(asked: Asked) -> CaptureMeasurement:
    peak = ResidentPeak()
    model, seconds = language.MODELS[asked.model](asked.layers), []
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        began = time.perf_counter()
        language.mean_over_tokens(model, *language.examples_of(asked.model, EXAMPLES).values()).backward()  # type: ignore[no-untyped-call]
        seconds.append(time.perf_counter() - began)
    return CaptureMeasurement(_bytes(model), min(seconds), peak.bytes())


def _task(asked: Asked) -> CaptureMeasurement:
    program = Program.from_bytes(Path(asked.program).read_bytes())
    peak = ResidentPeak()
    layout = state_layout(program)
    state, examples = layout.views(np.zeros(layout.nbytes, np.uint8)), language.examples_of(asked.model, EXAMPLES)
    for name, value in state.items():
        if name.startswith("param:"):
            value.normal_(std=0.02)
    out = np.zeros(update_layout(program).nbytes, np.uint8)
    execute, seconds = TaskExecutor(replace(program, micro_batch_size=asked.micro_batch_size), 1, None), []
    with torch.no_grad(), execute.unchanging(state):
        for _ in range(2):
            began = time.perf_counter()
            execute(state, examples, bytes(32), out)
            seconds.append(time.perf_counter() - began)
    size = sum(value.nbytes for name, value in state.items() if name.startswith("param:"))
    return CaptureMeasurement(size, min(seconds), peak.bytes(), len(program.nodes))


def _bytes(model: nn.Module) -> int:
    return sum(p.nbytes for p in model.parameters())


def measured(asked: Asked) -> CaptureMeasurement:
    """Measures in a process of its own.

    Raises:
        PodltError: it failed; with the end of what it wrote.
    """
    command = [sys.executable, "-m", __spec__.name if __name__ != "__main__" else "podlt.bench.capture", "--process"]
    done = subprocess.run([*command, msgspec.json.encode(asked).decode()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PodltError(f"{asked.measure} {asked.model}: {done.stderr[-2000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=CaptureMeasurement)


def report(name: str, found: dict[str, CaptureMeasurement], program: Program) -> str:
    """Lines for people."""
    taken, eager = found["capture"], found["eager"]
    size, few, many = taken.model, *(peak_bytes(program, n, is_summed=False)[0] / 2**30 for n in (EXAMPLES, 1024))
    lines = [
        f"{name}: {size / 4e6:.0f}M parameters, {taken.nodes} nodes; captured in {taken.seconds:.1f} s at a peak of "
        f"{taken.ratio:.1f} x the model ({taken.peak / 2**20:.0f} MiB)",
        f"  declared for {EXAMPLES} examples of {language.TOKENS} tokens {few:.2f} GiB, for 1,024 examples {many:.2f} "
        "GiB",
        f"  eager    {eager.seconds:6.2f} s, peak {eager.ratio:4.1f} x the model",
    ]
    for key, one in found.items():
        if key.startswith("task"):
            ratio = one.peak / eager.peak
            lines.append(f"  {key:8} {one.seconds:6.2f} s, peak {one.ratio:4.1f} x the model, {ratio:.2f} x eager's")
    return "\n".join(lines)


def run(names: list[str], layers: int, arithmetic: str, micro_batch_size: list[int], *, as_json: bool) -> None:
    """Measures models one after another, and prints what each took."""
    for name in names:
        with tempfile.TemporaryDirectory(prefix="podlt-bench-") as folder:
            file = str(Path(folder) / "program.json")
            asked = Asked("capture", name, layers or language.LAYERS[name], arithmetic, 0, file)
            found = {"capture": measured(asked), "eager": measured(msgspec.structs.replace(asked, measure="eager"))}
            for size in (0, *micro_batch_size):
                task = msgspec.structs.replace(asked, measure="task", micro_batch_size=size)
                found[f"task/{size}" if size else "task"] = measured(task)
            if as_json:
                print(json.dumps({name: msgspec.to_builtins(found)}), flush=True)
            else:
                print(report(name, found, Program.from_bytes(Path(file).read_bytes())), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["bert", "gpt2"], help=f"of {', '.join(language.MODELS)}")
    parser.add_argument("--layers", type=int, default=0, help="fewer than the model has")
    parser.add_argument("--arithmetic", default="exact/2")
    parser.add_argument(
        "--micro-batch-size", type=int, action="append", default=[], help="measures tasks in pieces, too"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--process", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.process:
        print(msgspec.json.encode(measure(msgspec.json.decode(given.process, type=Asked))).decode())
    else:
        run(given.models, given.layers, given.arithmetic, given.micro_batch_size, as_json=given.json)


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
