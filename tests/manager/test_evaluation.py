"""Figures of runs: tried before the first round, of the validation set too, and what a recipe lets them decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from near_hosts import hosts_in_threads
from safetensors.torch import load_file
from small_runs import Trained, entries, seeded, tiny_recipe
from torch import nn

import podlt.api
from podlt.data.spec import DataSpec
from podlt.engine.local.workplace import LocalMachine
from podlt.errors import InvalidProofError, StopTraining, UsageError
from podlt.execution.task_executor import one_thread
from podlt.manager import events as ev
from podlt.manager.audit import audit
from podlt.manager.directory import RunDirectory, Settings
from podlt.manager.metrics.evaluation import evaluate
from podlt.manager.metrics.stopping import BestSoFar, EarlyStopping, deciding, read_best
from podlt.manager.metrics.trial import history_bytes, try_disk
from podlt.manager.result import load_result
from podlt.manager.resume import replay_log
from podlt.manager.setup import TrainingRun, wall_clock
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Outcome
from podlt.recipe import EvaluationSpec, LossSpec, ProtocolSpec, Recipe, StoppingSpec
from podlt.verify import verify


def write_examples(folder: Path) -> Path:
    """200 examples of two classes."""
    dice = np.random.default_rng(5)
    y = dice.integers(0, 2, 200)
    np.savez(folder / "examples.npz", x=(dice.normal(size=(200, 64)) + y[:, None]).astype("f4"), y=y)
    return folder / "examples.npz"


def recipe_for(
    source: Path, *, test: float = 0.2, validation: float = 0.2, epochs: int = 3, **evaluation: Any
) -> Recipe:
    data = DataSpec(
        str(source), inputs=("x",), label="y", test_fraction=test, validation_fraction=validation, split="random"
    )
    spec = EvaluationSpec(**evaluation)
    even = ProtocolSpec(checked=0.0)  # three rounds an epoch, whatever is drawn
    recipe = tiny_recipe(model={"outputs": 2}, epochs=epochs, batch_size=51, protocol=even)
    return msgspec.structs.replace(recipe, data=data, evaluation=spec)


def loaded(
    path: Path, recipe: Recipe, listener: ev.Listener = ev.ignore, metrics: Any = None, model: nn.Module | None = None
) -> TrainingRun:
    return TrainingRun.load(
        RunDirectory.new(path) if not (path / "recipe.json").exists() else RunDirectory.existing(path),
        recipe,
        Settings(),
        model=model,
        listener=listener,
        clock=wall_clock,
        cache=path.parent / "cache",
        place=LocalMachine(1, {}),
        metrics=metrics,
    )


def trained(path: Path, recipe: Recipe, metrics: Any = None) -> Trained:
    """A finished run, its metrics given as a Python call gives them."""
    events: list[ev.Event] = []
    with hosts_in_threads(), one_thread():
        run = loaded(path, recipe, events.append, metrics)
        run.start(seeded(1))
        run.directory.unlock()
    return Trained(load_result(path, run.inputs.model), events)


def mine(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float((outputs.argmax(1) == targets).double().mean())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of three epochs of three rounds each, which keeps its best parameters and measures every two rounds."""
    folder = tmp_path_factory.mktemp("measured")
    recipe = recipe_for(write_examples(folder), every_rounds=2, keep_best="val_accuracy")
    return trained(folder / "run", recipe, ["accuracy", "f1", "auc", mine])


NAMES = ("accuracy", "auc", "f1", "loss", "mine")


def test_the_log_has_the_figures_of_both_sets_after_each_epoch(measured: Trained) -> None:
    logged = [entry for entry in entries(measured.result.run) if isinstance(entry, e.Measure)]
    both = sorted([*NAMES, *(f"val_{name}" for name in NAMES)])
    assert [[figure.name for figure in entry.figures] for entry in logged] == [both] * 3
    assert [event.metrics for event in measured.of(ev.Measured)] == [
        {figure.name: figure.value for figure in entry.figures} for entry in logged
    ]
    figures = measured.result.metrics
    assert figures["mine"] == figures["accuracy"] and figures["val_mine"] == figures["val_accuracy"]
    assert not measured.of(ev.Unmeasured)
    assert verify(measured.result.run).exit_code == 0


def test_figures_between_epochs_are_in_the_rounds_file_and_in_no_entry(measured: Trained) -> None:
    lines = [json.loads(line) for line in (measured.result.run / "rounds.jsonl").read_text().splitlines()]
    between = {line["round"]: line["metrics"] for line in lines if "metrics" in line}
    assert between == {event.round: event.metrics for event in measured.of(ev.Evaluated)}
    assert list(between) == [1, 3, 7]  # round 5 ends an epoch


def test_the_best_parameters_are_those_that_the_log_has_after_their_round(measured: Trained) -> None:
    best, run = measured.result.best, measured.result.run
    assert best is not None
    found = [(event.round + 1, event.metrics) for event in measured.of(ev.Evaluated)]
    found += [(3 * event.epoch + 3, event.metrics) for event in measured.of(ev.Measured)]
    found.sort(key=lambda one: one[0])
    values = [metrics["val_accuracy"] for _, metrics in found]
    assert best.value == max(values) and best.rounds == found[values.index(max(values))][0]
    applied = [entry for entry in entries(run) if isinstance(entry, e.Apply)]
    assert best.parameters == applied[best.rounds - 1].parameters.hex()
    module = loaded(run, Recipe.from_bytes((run / "recipe.json").read_bytes()), metrics=[mine]).inputs
    module.model.load_state_dict(load_file(run / "best.safetensors"))
    assert module.data.validation is not None
    assert evaluate(module.model, "cross_entropy", module.data.validation)["accuracy"] == best.value


def test_best_parameters_that_were_changed_are_not_taken_for_those_of_the_log(
    measured: Trained, tmp_path: Path
) -> None:
    for name in ("run.json", "best.safetensors", "program.json"):
        (tmp_path / name).write_bytes((measured.result.run / name).read_bytes())
    directory = RunDirectory(tmp_path)
    applied = replay_log(RunDirectory(measured.result.run).log())[1]
    assert read_best(directory, applied) == measured.result.best
    raw = bytearray(directory.best.read_bytes())
    raw[-1] ^= 1
    directory.best.write_bytes(raw)
    with pytest.raises(InvalidProofError, match="is not what the log has after"):
        read_best(directory, applied)


def test_an_audit_evaluates_what_has_a_name_again_and_says_what_it_could_not(measured: Trained) -> None:
    run = measured.result.run
    report = audit(run, 1.0, cache=run.parent / "cache", data=run.parent / "examples.npz")
    found = next(finding for finding in report.findings if finding.claim is Claim.FIGURES)
    assert found.outcome is Outcome.NOT_CHECKED and "mine was given as an object" in found.why
    assert found.figure == "24 figures evaluated again: the same bits"
    assert report.exit_code == 4


def test_without_a_test_set_the_validation_set_is_measured_all_the_same(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", recipe_for(write_examples(tmp_path), test=0.0))
    assert [sorted(event.metrics) for event in run.of(ev.Measured)] == [["val_accuracy", "val_auc", "val_loss"]] * 3
    assert not any(isinstance(entry, e.Measure) for entry in entries(run.result.run))
    lines = [json.loads(line) for line in (run.result.run / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines if "metrics" in line] == [3, 7, 11]


def test_a_recipe_without_evaluation_has_the_document_that_it_always_had() -> None:
    assert b"evaluation" not in tiny_recipe().to_bytes()
    spec = EvaluationSpec(metrics=("f1",), early_stopping=StoppingSpec("loss"))
    changed = msgspec.structs.replace(tiny_recipe(), evaluation=spec)
    assert Recipe.from_bytes(changed.to_bytes()) == changed
    assert json.loads(changed.to_bytes())["evaluation"] == {"early_stopping": {"figure": "loss"}, "metrics": ["f1"]}


def fails(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    raise ValueError("no such average")


@pytest.mark.parametrize(
    ("evaluation", "metrics", "why"),
    [
        ({"metrics": ("mae",)}, None, "tried on a few examples of the test set: mae: mae is of numbers"),
        ({}, [fails], "fails: ValueError: no such average"),
        ({"keep_best": "val_f1"}, None, "keep_best = 'val_f1': no such figure; there are accuracy, auc, loss, val_acc"),
        ({"keep_best": "mine"}, [mine], 'say whether less is better: best_mode = "min" or "max"'),
        ({"early_stopping": StoppingSpec("mine")}, [mine], "early_stopping.mode"),
        ({"metrics": ("object:mine",)}, None, "mine was given as an object in Python, which is not here"),
    ],
)
def test_what_would_fail_after_an_epoch_is_an_error_before_the_machine_is_checked(
    evaluation: dict[str, Any], metrics: Any, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlt.manager.setup.check_machine", lambda *_: pytest.fail("the machine was checked first"))
    run = loaded(tmp_path / "run", recipe_for(write_examples(tmp_path), **evaluation), metrics=metrics)
    with pytest.raises(UsageError) as caught:
        run.start(seeded(1))
    assert why in str(caught.value)
    assert not (tmp_path / "run").exists()


def only_where_both_occur(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    if len(targets.unique()) < 2:
        raise ValueError("only one class")
    return 1.0


def test_a_metric_that_few_examples_are_too_few_for_is_tried_on_more(tmp_path: Path) -> None:
    from podlt.manager.metrics.trial import try_evaluation

    x = np.zeros((4000, 64), "f4")
    np.savez(tmp_path / "rare.npz", x=x, y=(np.arange(4000) % 2000 == 33).astype("i8"))
    recipe = recipe_for(tmp_path / "rare.npz", test=0.5, validation=0.0)
    run = loaded(tmp_path / "run", recipe, metrics=[only_where_both_occur])
    assert try_evaluation(run._evaluator(), run._train, run.recipe) is None


def test_a_metric_that_is_gone_keeps_no_run_from_being_resumed(
    tmp_path: Path, measured: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(write_examples(tmp_path), metrics=("accuracy", "gone_metrics:mine"))
    with pytest.raises(UsageError, match=r"evaluation\.metrics gone_metrics:mine: cannot be imported"):
        loaded(tmp_path / "run", recipe)
    monkeypatch.setattr(RunDirectory, "has_entries", lambda self: True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_bytes(recipe.to_bytes())
    monkeypatch.chdir(tmp_path)
    metrics = loaded(tmp_path / "run", recipe).inputs.metrics
    assert [metric.name for metric in metrics.chosen or ()] == ["accuracy"] and "gone_metrics" in metrics.missing[
        "mine"
    ]


class Counting(nn.Module):
    """A model that counts its calls, in a buffer and in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(64, 2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        torch.rand(1)
        return self.line(x)


def test_the_trial_leaves_the_model_and_the_dice_as_they_were(tmp_path: Path) -> None:
    from podlt.manager.metrics.trial import try_evaluation

    model = Counting()
    run = loaded(tmp_path / "run", recipe_for(write_examples(tmp_path)), model=model)
    before = torch.get_rng_state()
    assert try_evaluation(run._evaluator(), run._train, run.recipe) is None
    assert int(model.calls) == 0 and torch.equal(torch.get_rng_state(), before)


def test_a_disk_on_which_the_rounds_do_not_fit_is_refused_and_a_tight_one_said(tmp_path: Path) -> None:
    even: dict[str, Any] = {
        "epochs": 10,
        "workers": 5,
        "protocol": ProtocolSpec(checked=0.0),
    }  # four rounds an epoch, whatever is drawn
    model, recipe = nn.Linear(1000, 1000, bias=False), tiny_recipe(**even)
    assert history_bytes(model, recipe, 200) == 4_000_000 * (40 + 1 + 1)  # updates, a checkpoint, the model

    def said(free: int) -> tuple[str, bool]:
        return try_disk(tmp_path, model, recipe, 200, lambda _: free)

    assert said(10**12) == ("", False)
    text, tight = said(200_000_000)
    assert tight and "160.2 MiB" in text and "190.7 MiB are free" in text
    with pytest.raises(UsageError, match='history = "last"'):
        said(100_000_000)
    early = msgspec.structs.replace(recipe, evaluation=EvaluationSpec(early_stopping=StoppingSpec("loss")))
    assert try_disk(tmp_path, model, early, 200, lambda _: 100_000_000)[1]
    last = tiny_recipe(**even, history="last", checkpoint_every=5)
    assert history_bytes(model, last, 200) == 4_000_000 * (10 + 3 + 1)


def values_of(*values: float) -> list[ev.Event]:
    return [ev.Measured(epoch=i, metrics={"val_loss": value}) for i, value in enumerate(values)]


def test_early_stopping_ends_a_run_once_a_figure_is_no_better_for_long() -> None:
    stopping = EarlyStopping(BestSoFar("val_loss", min_delta=0.01), patience=2)
    for event in values_of(0.9, 0.8, 0.81, 0.7, 0.695):
        stopping(event)
    stopping(ev.Measured(epoch=5, metrics={}))  # a figure that is missing is neither better nor worse
    with pytest.raises(StopTraining, match=r"val_loss .* better than 0\.7 by more than 0\.01 in 2 evaluations"):
        stopping(values_of(0.71)[0])


def test_a_mode_says_whether_more_is_better() -> None:
    best = BestSoFar("val_loss", "max")
    assert [best.take({"val_loss": value}) for value in (0.5, 0.4, 0.6)] == [True, False, True]


def test_what_a_resumed_run_decides_by_is_what_it_measured_before(measured: Trained, tmp_path: Path) -> None:
    run = measured.result.run
    recipe = Recipe.from_bytes((run / "recipe.json").read_bytes())
    stop = StoppingSpec("val_loss", patience=2, mode="max")  # the loss falls: every evaluation but the first is worse
    recipe = msgspec.structs.replace(recipe, evaluation=EvaluationSpec(early_stopping=stop))
    directory = RunDirectory(run)
    listener = deciding(recipe, directory, None, None, directory.log(), ev.ignore)  # type: ignore[arg-type]
    with pytest.raises(StopTraining, match="in 6 evaluations"):
        listener(values_of(-1.0)[0])


def test_a_loss_of_ones_own_is_tried_too(tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(recipe_for(write_examples(tmp_path)), loss=LossSpec("bce"))
    with pytest.raises(UsageError, match="as many outputs as labels"), hosts_in_threads():
        podlt.api.train(recipe, run=tmp_path / "run", processes=1, cache=tmp_path / "cache")


def test_early_stopping_ends_a_run_which_is_complete_and_keeps_its_best_parameters(tmp_path: Path) -> None:
    stop = StoppingSpec("val_loss", patience=2, mode="max")  # the loss falls: the first evaluation is the "best"
    recipe = recipe_for(write_examples(tmp_path), epochs=9, early_stopping=stop, keep_best="val_loss", best_mode="max")
    run = trained(tmp_path / "run", recipe)
    assert run.result.ended.startswith("val_loss has not become better than")
    assert [event.epoch for event in run.of(ev.Measured)] == [0, 1, 2]
    assert run.result.best is not None and (run.result.best.epoch, run.result.best.rounds) == (0, 3)
    assert run.state.closed is not None and run.state.closed.outcome == "complete"
    assert verify(run.result.run).exit_code == 0
