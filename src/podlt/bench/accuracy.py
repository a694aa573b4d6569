"""How well exact arithmetic trains: final figures of each number of digits and of stock float32, over several seeds.

The captured program is executed as workers and manager execute it (a task's execution, an average, the optimiser), on
whole batches as one shard, on one thread: only the protocol is left out, which changes no bit of an exact run. A seed
fixes the first weights and the order of the examples, so runs of one seed differ in their arithmetic alone.

Each finished run is an example of the results file: a study that was interrupted resumes where it was. An example
counts as long as its recipe and its length are still the study's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from podlt import crypto
from podlt.bench.table import write_between
from podlt.data.cache import default_cache
from podlt.data.order import EpochOrder
from podlt.data.prepare import Prepared, prepare
from podlt.data.spec import DataSpec
from podlt.errors import DivergedError, UsageError
from podlt.execution.task_executor import TaskExecutor, as_batch, one_thread
from podlt.manager.metrics import evaluate, load_state
from podlt.manager.modules import build_model, find_loss
from podlt.manager.weights import Weights, recipe_optimizer
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec
from podlt.program.layout import state_layout, update_layout
from podlt.program.losses import CLASSES_LAST
from podlt.recipe import LossSpec, ModelSpec, Recipe, TrainingSpec
from podlt.store.files import append_line

ARITHMETICS = ("stock", "exact/1", "exact/2", "exact/3", "exact/auto")
MARK = "accuracy"


@dataclass(frozen=True)
class Study:
    """What is trained, for how long, and which figure counts; by which arithmetics, over how many seeds at most."""

    recipe: Recipe
    steps: int
    figure: str
    arithmetics: tuple[str, ...] = ARITHMETICS
    most_seeds: int = 100

    def seeds(self, wanted: int) -> list[int]:
        """The seeds that are trained, if so many are wanted."""
        return list(range(1, min(wanted, self.most_seeds) + 1))


def _recipe(data: DataSpec, model: ModelSpec, lr: float, steps: int, examples: int, **schedule: int) -> Recipe:
    return Recipe(
        data=data,
        model=model,
        loss=LossSpec(CLASSES_LAST if model.name == "podlt.models:gpt" else "cross_entropy"),
        optimizer={"name": "adamw", "lr": lr, "schedule": "cosine", "steps": steps, **schedule},
        training=TrainingSpec(batch_size=examples, workers=3),
    )


def _study(data: DataSpec, model: ModelSpec, lr: float, steps: int, examples: int, figure: str) -> Study:
    return Study(_recipe(data, model, lr, steps, examples), steps, figure)


_TABLE = ModelSpec("podlt.models:embedding_mlp", {"cardinalities": "@cardinalities", "numeric": 7})
_LARGE_GPT = {"vocabulary": "@vocabulary_size", "context": 64, "layers": 6, "heads": 6, "width": 384}
_GPT = {"vocabulary": "@vocabulary_size", "context": 64, "layers": 4, "heads": 4, "width": 64}
STUDIES: dict[str, Study] = {
    "mnist-mlp": _study(
        DataSpec("mnist"),
        ModelSpec("podlt.models:mlp", {"inputs": 784, "hidden": 128, "outputs": 10}),
        0.01,
        300,
        1000,
        "accuracy",
    ),
    "mnist-cnn": _study(DataSpec("mnist"), ModelSpec("podlt.models:cnn", {}), 0.012, 240, 250, "accuracy"),
    "census": _study(DataSpec("census"), _TABLE, 0.004, 312, 960, "auc"),
    "austen-gpt": _study(DataSpec("austen", context=64), ModelSpec("podlt.models:gpt", _GPT), 0.002, 300, 24, "loss"),
    "austen-gpt-10m": Study(
        _recipe(DataSpec("austen", context=64), ModelSpec("podlt.models:gpt", _LARGE_GPT), 0.001, 240, 8, warmup=40),
        240,
        "loss",
        ("stock", "exact/auto"),
        5,
    ),
    "fashion-resnet18": Study(
        _recipe(DataSpec("fashion"), ModelSpec("podlt.models:resnet18", {}), 0.001, 120, 32),
        120,
        "accuracy",
        ("stock", "exact/auto"),
        3,
    ),
}


class StudyResult(msgspec.Struct, frozen=True):
    """An example of the results file; `recipe` is the digest of the recipe that was trained."""

    study: str
    arithmetic: str
    seed: int
    recipe: str
    steps: int
    value: float
    metrics: dict[str, float]
    seconds: float


def recipe_of(name: str, arithmetic: str, seed: int) -> Recipe:
    """What one run of a study trains."""
    study = STUDIES[name].recipe
    kind, _, digits = arithmetic.partition("/")
    training = msgspec.structs.replace(study.training, seed=seed)
    precise: Any = digits if digits == "auto" else int(digits or 2)
    return msgspec.structs.replace(study, arithmetic=kind, digits=precise, training=training)


def run(name: str, arithmetic: str, seed: int, data: Prepared) -> StudyResult:
    """Trains once, and measures on the test part.

    Args:
        name: of STUDIES.
        arithmetic: of ARITHMETICS.
        data: prepared as the study's recipe says.

    Raises:
        DivergedError: something was not finite.
    """
    study, recipe, started = STUDIES[name], recipe_of(name, arithmetic, seed), time.perf_counter()
    train, size = data.train, recipe.training.batch_size
    model, loss = build_model(recipe, train.info, Path()), find_loss(recipe, Path())
    fields = [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in train.fields]
    captured = capture(model, loss, fields, recipe.program_arithmetic)
    program = captured.program
    weights = Weights(
        program, recipe_optimizer(recipe, train.examples), np.zeros(state_layout(program).nbytes, np.uint8)
    )
    weights.set(captured.state)
    execute, update = TaskExecutor(program, 1, None), np.zeros(update_layout(program).nbytes, np.uint8)
    source = seed.to_bytes(8, "big")
    rounds = train.examples // size
    for step in range(study.steps):
        order = EpochOrder(train.examples, source, step // rounds)
        batch = as_batch(train.read(order.ids(step % rounds * size, size)))
        randomness = crypto.digest("randomness/1", source, step.to_bytes(8, "big"))
        execute(weights.views, batch, randomness, update)
        weights.apply(weights.average([update], [size], 0).data, step * size)
    load_state(model, weights.views)
    assert data.test is not None
    metrics = evaluate(model, loss, data.test)
    if study.figure not in metrics:
        raise DivergedError(f"{name}, {arithmetic}, seed {seed}: the {study.figure} on the test set is not finite")
    seconds = time.perf_counter() - started
    return StudyResult(
        name, arithmetic, seed, recipe.digest().hex(), study.steps, metrics[study.figure], metrics, seconds
    )


def _run(name: str, arithmetic: str, seed: int) -> StudyResult:
    return run(name, arithmetic, seed, prepare(STUDIES[name].recipe.data))


def runs(todo: Sequence[tuple[str, str, int]], processes: int) -> Iterator[StudyResult]:
    """Trains each of them on one thread, and gives each as it is finished; with one process, in this one."""
    if processes == 1:
        with one_thread():
            yield from (_run(*job) for job in todo)
        return
    for name in {name for name, _, _ in todo}:
        prepare(STUDIES[name].recipe.data)  # once, not by each process at the same time
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for future in as_completed([pool.submit(_run, *job) for job in todo]):
            yield future.result()


def read_results(path: Path) -> dict[tuple[str, str, int], StudyResult]:
    """What a results file holds; an unfinished example at its end is left out, and so is what was trained otherwise.

    Raises:
        UsageError: it cannot be read.
    """
    found: dict[tuple[str, str, int], StudyResult] = {}
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    for line in lines:
        try:
            result = msgspec.json.decode(line, type=StudyResult)
        except msgspec.DecodeError:
            continue
        if result.study not in STUDIES or result.arithmetic not in ARITHMETICS:
            continue
        trained = recipe_of(result.study, result.arithmetic, result.seed).digest().hex()
        if result.recipe == trained and result.steps == STUDIES[result.study].steps:
            found[result.study, result.arithmetic, result.seed] = result
    return found


def summary(
    results: Mapping[tuple[str, str, int], StudyResult],
    name: str,
    seeds: Sequence[int],
    only: Sequence[str] = ARITHMETICS,
) -> list[dict[str, Any]]:
    """A row for each arithmetic: mean, spread over the seeds, and the differences from stock, seed by seed.

    An arithmetic is within the spread of the seeds if the mean of its differences is at most the standard deviation of
    stock's figures over the seeds: then it matters less than the choice of a seed. One seed has no spread (None).
    """
    stock = [results[name, "stock", seed].value for seed in seeds]
    spread = statistics.stdev(stock) if len(stock) > 1 else None
    rows = []
    for arithmetic in (one for one in STUDIES[name].arithmetics if one in only):
        values = [results[name, arithmetic, seed].value for seed in seeds]
        differences = [value - base for value, base in zip(values, stock, strict=True)]
        rows.append(
            {
                "study": name,
                "arithmetic": arithmetic,
                "figure": STUDIES[name].figure,
                "values": values,
                "mean": statistics.mean(values),
                "stdev": statistics.stdev(values) if len(values) > 1 else 0.0,
                "differences": differences,
                "difference": statistics.mean(differences),
                "largest_difference": max(differences, key=abs),
                "within": None if spread is None else abs(statistics.mean(differences)) <= spread,
                "seconds": statistics.median(results[name, arithmetic, seed].seconds for seed in seeds),
            }
        )
    return rows


def as_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows in Markdown."""
    lines = [
        "| study, figure | arithmetic | each seed | mean | deviation | difference: mean | largest | within |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        each = ", ".join(f"{value:.4f}" for value in row["values"])
        base = row["arithmetic"] == "stock"
        verdict = "" if base else {True: "yes", False: "**no**", None: "?"}[row["within"]]
        differences = " | " if base else f"{row['difference']:+.5f} | {row['largest_difference']:+.5f}"
        lines.append(
            f"| {row['study']}, {row['figure']} | {row['arithmetic']} | {each} | {row['mean']:.4f} | "
            f"{row['stdev']:.5f} | {differences} | {verdict} |"
        )
    return lines


def _end_last_line(path: Path) -> None:
    """What a study that was killed left of an example must not swallow the next; also shows that there is a place to
    write.

    Raises:
        UsageError: there is none.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            file.seek(max(0, file.tell() - 1))
            if file.read() not in (b"", b"\n"):
                file.write(b"\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then prints the table."""
    parser = argparse.ArgumentParser(prog="podlt bench accuracy", description=__doc__)
    parser.add_argument("--studies", default=",".join(STUDIES), help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--arithmetics", default=",".join(ARITHMETICS), help="some of these, with stock")
    parser.add_argument("--seeds", type=int, default=5, help="how many: 1, 2, ...")
    parser.add_argument("--results", type=Path, default=None, help="default: accuracy.jsonl in the cache")
    parser.add_argument("--processes", type=int, default=1, help="how many runs at a time, each on one thread")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between FILE's marks")
    parser.add_argument("--mark", default=MARK, help="which marks")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    names, seeds, only = options.studies.split(","), options.seeds, options.arithmetics.split(",")
    unknown = [name for name in names if name not in STUDIES]
    if "stock" not in only or set(only) - set(ARITHMETICS):
        raise UsageError(f"--arithmetics {options.arithmetics}: expected stock and others of {', '.join(ARITHMETICS)}")
    if unknown or seeds < 1 or options.processes < 1:
        known = ", ".join(STUDIES)
        raise UsageError(f"--studies {unknown}: expected some of {known}, at least one seed, and one process")
    path = options.results or default_cache() / "accuracy.jsonl"
    results = read_results(path)
    wanted = [(n, a, s) for n in names for s in STUDIES[n].seeds(seeds) for a in STUDIES[n].arithmetics if a in only]
    todo = [one for one in wanted if one not in results]
    if todo:
        _end_last_line(path)
    for number, finished in enumerate(runs(todo, options.processes), 1):
        results[finished.study, finished.arithmetic, finished.seed] = finished
        append_line(path, msgspec.json.encode(finished))
        print(
            f"{number}/{len(todo)}  {finished.study} {finished.arithmetic} seed {finished.seed}: "
            f"{STUDIES[finished.study].figure} {finished.value:.4f} in {finished.seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    rows = [row for name in names for row in summary(results, name, STUDIES[name].seeds(seeds), only)]
    print("\n".join([json.dumps(row) for row in rows] if options.json else as_table(rows)))
    if options.write:
        write_between(options.write, options.mark, as_table(rows))


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
