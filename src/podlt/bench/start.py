"""How long `podlt train` takes to its first round, and what it does in that time.

`podlt bench start` runs the command itself on two small recipes (scikit-learn's digits, and a CSV file of 1,000 lines)
until the first round is done, and ends it. The first start of each may prepare data and compile; the others are warm.
A recipe of one's own may be given instead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

_LAST = "the first round"
_COMMAND = "from podlt.cli import main; main()"
_DIGITS = """
[data]
source = "digits"
[model]
name = "podlt.models:mlp"
args = { inputs = 64, hidden = 64, outputs = 10 }
[training]
workers = 12
batch_size = 120
"""
_TABLE = """
[data]
source = "lines.csv"
label = "y"
test_fraction = 0.2
[model]
name = "podlt.models:mlp"
args = { inputs = 5, hidden = 16, outputs = 2 }
[training]
workers = 6
batch_size = 100
"""


class Start(msgspec.Struct, frozen=True):
    """One start.

    Attributes:
        seconds: from the command to the end of the first round.
        cpu: seconds of processor time of the command and its workers, their end included.
        stages: what it said that it did, and the seconds until it said something else.
    """

    seconds: float
    cpu: float
    stages: list[tuple[str, float]]


def main() -> None:
    """Starts each recipe some times, and prints what it took."""
    parser = argparse.ArgumentParser(prog="podlt bench start", description="time podlt train to its first round")
    parser.add_argument("recipes", nargs="*", type=Path, help="(default: two small ones)")
    parser.add_argument("--repeats", type=int, default=3, help="warm starts of each (default: 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="podlt-bench-") as folder:
        for recipe in options.recipes or _written(Path(folder)):
            starts = [start(recipe, Path(folder) / f"{recipe.stem}-{i}") for i in range(1 + options.repeats)]
            warm = sorted(starts[1:] or starts, key=lambda found: found.seconds)
            middle = warm[len(warm) // 2]
            then = f"{middle.seconds:.1f} s (the median; CPU {middle.cpu:.1f} s)"
            print(f"{recipe.name}: first {starts[0].seconds:.1f} s, then {then}:")
            for what, seconds in middle.stages:
                print(f"  {seconds:6.2f} s  {what}", flush=True)


def start(recipe: Path, run: Path) -> Start:
    """Runs `podlt train` on a recipe until its first round is done."""
    command = [sys.executable, "-c", _COMMAND, "train", str(recipe), "--run", str(run), "--json"]
    began, cpu = time.perf_counter(), _cpu()
    said = run.with_suffix(".stderr")
    with (
        said.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            stages = list(_stages(process, began))
        finally:
            process.terminate()
            assert process.stdout is not None
            process.stdout.read()
    if not stages or stages[-1][0] != _LAST:
        raise SystemExit(f"podlt train ended before its first round: {said.read_text()}")
    return Start(sum(seconds for _, seconds in stages), _cpu() - cpu, stages)


def _cpu() -> float:
    """Seconds of processor time of the children that ended."""
    times = os.times()
    return times.children_user + times.children_system


def _stages(process: subprocess.Popen[str], began: float) -> Iterator[tuple[str, float]]:
    """The stages up to the first round, as their ends are seen."""
    assert process.stdout is not None
    what, since = "starting Python", began
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] not in ("preparing", "started", "round"):
            continue
        now, said = time.perf_counter(), event.get("what", _LAST)
        if said != what:
            yield what, now - since
            what, since = said, now
        if event["event"] == "round":
            yield what, now - since
            return


def _written(folder: Path) -> list[Path]:
    """The two small recipes and the file of one."""
    dice = np.random.default_rng(1)
    values = dice.standard_normal((1000, 5)).round(4)
    rows = [",".join(map(str, row)) + f",{int(row[0] > row[1])}" for row in values.tolist()]
    (folder / "lines.csv").write_text("\n".join(["a,b,c,d,e,y", *rows]) + "\n")
    (folder / "digits.toml").write_text(_DIGITS)
    (folder / "table.toml").write_text(_TABLE)
    return [folder / "digits.toml", folder / "table.toml"]


if __name__ == "__main__":
    main()
