"""`podlt.train(model, dataset, ...)`: the call itself, its result, and callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from near_hosts import hosts_in_threads
from object_runs import SMALL, arrays, network, train_objects
from small_runs import seeded, tiny_recipe
from torch import nn

import podlt
from podlt.callbacks import Callback, CallbackListener, LiveRun, TensorBoard
from podlt.manager import events as ev
from podlt.manager.reproduction import reproduce
from podlt.protocol.claims import Claim, Outcome
from podlt.run_start import in_turn


class Diary(Callback):
    """Writes down what it is called for."""

    def __init__(self) -> None:
        self.moments: list[str] = []
        self.sums: list[float] = []
        self.run: LiveRun | None = None

    def on_start(self, run: LiveRun) -> None:
        self.run = run
        self._note("start", run)

    def on_round(self, run: LiveRun, round: ev.RoundDone) -> None:
        self._note(f"round {round.round}", run)

    def on_epoch(self, run: LiveRun, epoch: int, metrics: Mapping[str, float]) -> None:
        self._note(f"epoch {epoch} {sorted(metrics)}", run)

    def on_conviction(self, run: LiveRun, conviction: ev.Convicted) -> None:
        self._note("conviction", run)

    def on_end(self, run: LiveRun) -> None:
        self._note("end", run)

    def on_failure(self, run: LiveRun, error: BaseException) -> None:
        self.moments.append(f"failure {error}")

    def _note(self, moment: str, run: LiveRun) -> None:
        self.moments.append(moment)
        self.sums.append(sum(float(p.detach().sum()) for p in run.model.parameters()))


CHECKED: dict[str, Any] = {"workers": 6, "batch_size": 20, "protocol": {"checked": 1.0}}
"""Each shard has a spare, so that a cheater is caught at once."""


class Finished:
    """A run by objects, with a cheater, and who followed it."""

    def __init__(self, path: Path) -> None:
        self.diary, self.events, self.model = Diary(), [], network()
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        with hosts_in_threads():
            self.result = podlt.train(
                self.model, arrays(), loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=2, run=path,
                cheats=["1:sign-flip"], callbacks=[self.diary], listener=self.events.append, entropy=seeded(1),
                **{**SMALL, **CHECKED},
            )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run for all who look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODLT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return Finished(tmp_path_factory.mktemp("objects") / "run")


def test_the_call_is_the_run_of_the_recipe_that_it_makes(finished: Finished, tmp_path: Path) -> None:
    options = {name: value for name, value in SMALL.items() if name != "processes"}
    recipe = podlt.recipe_of(
        network(), arrays(), optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0,
        "nesterov": False}, epochs=2, **{**options, **CHECKED},
    )  # fmt: skip
    with hosts_in_threads():
        again = podlt.train(
            recipe, model=network(), loss=nn.CrossEntropyLoss(), run=tmp_path / "run", processes=1,
            cheats=["1:sign-flip"], entropy=seeded(1),
        )  # fmt: skip
    assert again.parameters == finished.result.parameters
    assert (again.run / "recipe.json").read_bytes() == (finished.result.run / "recipe.json").read_bytes()


def test_the_run_is_proven_and_the_result_is_the_callers_own_module(finished: Finished) -> None:
    assert podlt.verify(finished.result.run).ok
    assert finished.result.model is finished.model
    assert finished.result.convicted


def test_a_result_is_short_and_a_table_in_a_notebook(finished: Finished) -> None:
    text, html = repr(finished.result), finished.result._repr_html_()
    assert len(text) < 250 and "1 convicted" in text and "accuracy" in text
    for part in (str(finished.result.run), "accuracy", f"workers {finished.result.convicted[0]}"):
        assert part in html


def test_the_history_has_an_example_a_round(finished: Finished) -> None:
    history = finished.result.history
    done = [event for event in finished.events if isinstance(event, ev.RoundDone)]
    assert history.index.name == "round" and list(history.index) == [event.round for event in done]
    assert list(history["loss"]) == [event.loss for event in done]
    assert set(history["epoch"]) == {0, 1} and history["convicted"].sum() == 1
    figures = history["test_accuracy"].dropna()
    assert len(figures) == 2 and figures.iloc[-1] == finished.result.metrics["accuracy"]
    assert history["seconds"].min() > 0


def test_callbacks_are_called_at_the_usual_moments(finished: Finished) -> None:
    moments = finished.diary.moments
    assert (moments[0], moments[-1]) == ("start", "end")
    place = moments.index("conviction")
    assert moments[place + 1].startswith("round")
    epochs = [moment for moment in moments if moment.startswith("epoch")]
    assert epochs == ["epoch 0 ['accuracy', 'loss']", "epoch 1 ['accuracy', 'loss']"]
    assert moments[moments.index(epochs[0]) - 1].startswith("round")


def test_the_model_has_the_parameters_of_the_moment(finished: Finished) -> None:
    moments, sums = finished.diary.moments, finished.diary.sums
    rounds = [total for moment, total in zip(moments, sums, strict=True) if moment.startswith("round")]
    assert sums[0] == pytest.approx(sum(float(p.detach().sum()) for p in network().parameters()))
    assert len(set(rounds)) == len(rounds)
    assert rounds[-1] == sums[-1] == sum(float(p.detach().sum()) for p in finished.result.model.parameters())
    assert finished.diary.run is not None
    with pytest.raises(podlt.UsageError, match="from on_start to on_end only"):
        _ = finished.diary.run.model


def test_an_epoch_without_figures_is_an_epoch_too(tmp_path: Path) -> None:
    diary = Diary()
    train_objects(tmp_path / "run", test_fraction=0.0, epochs=2, callbacks=[diary])
    assert [moment for moment in diary.moments if "epoch" in moment] == ["epoch 0 []", "epoch 1 []"]


class Failing(Callback):
    """Whoever raises anything else ends the run as an error does."""

    def on_round(self, run: LiveRun, round: ev.RoundDone) -> None:
        raise ValueError("no more")


def test_callbacks_hear_of_a_failure(tmp_path: Path) -> None:
    diary = Diary()
    with pytest.raises(ValueError, match="no more"):
        train_objects(tmp_path / "run", callbacks=[diary, Failing()])
    assert diary.moments == ["start", "round 0", "failure no more"]


class Stopping(Callback):
    """Wants the run to end at its first moment."""

    def on_start(self, run: LiveRun) -> None:
        raise podlt.StopTraining("enough")


def test_all_hear_an_event_that_one_of_them_stops_at(finished: Finished) -> None:
    diary, heard = Diary(), []
    callbacks = CallbackListener([Stopping(), diary])
    callbacks._run = finished.diary.run
    diary._note = lambda moment, run: diary.moments.append(moment)  # type: ignore[method-assign]
    started = next(event for event in finished.events if isinstance(event, ev.Started))
    with pytest.raises(podlt.StopTraining, match="enough"):
        in_turn([callbacks, heard.append])(started)
    assert diary.moments == ["start"] and heard == [started]


def line() -> nn.Module:
    """A module that is captured fast."""
    module = nn.Sequential(nn.Linear(4, 3))
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


@pytest.mark.parametrize(
    ("given", "says"), [([Diary], r"got Diary: give an object, Diary\(\)"), ([print], "got builtin")]
)
def test_what_is_no_callback_is_refused_before_anything_is_trained(given: list[Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(podlt.UsageError, match=says):
        podlt.train(line(), arrays(), loss="cross_entropy", callbacks=given, run=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_given_loss_is_trained_by_and_asked_for_again_at_resumption(tmp_path: Path) -> None:
    smooth, (x, y) = nn.CrossEntropyLoss(label_smoothing=0.1), arrays()
    with hosts_in_threads():
        result = podlt.train(line(), (x, y), loss=smooth, run=tmp_path / "run", **{**SMALL, "batch_size": 90})
        with pytest.raises(podlt.UsageError, match=r"given:Sequential: an object .* give model="):
            podlt.resume(result.run)
        with pytest.raises(podlt.UsageError, match=r"given:CrossEntropyLoss: an object .* give loss="):
            podlt.resume(result.run, model=line())
        again = podlt.resume(result.run, model=line(), loss=smooth)
    first = float(smooth(line()(torch.from_numpy(x)), torch.from_numpy(y)).detach())
    assert result.history["loss"].iloc[0] == pytest.approx(first, abs=0.1)
    assert again.parameters == result.parameters


def test_a_run_of_a_module_object_is_checked_with_the_module(tmp_path: Path) -> None:
    with hosts_in_threads():
        result = podlt.train(line(), arrays(), loss=nn.CrossEntropyLoss(), run=tmp_path / "run", **SMALL)
    run = str(result.run)  # as the pages write it
    assert podlt.verify(run).ok
    without = podlt.audit(run, 1.0).finding(Claim.PROGRAM)
    assert without.outcome is Outcome.NOT_CHECKED and without.remedy.endswith("--model MODULE:CALLABLE")
    report = podlt.audit(run, 1.0, model=line())
    assert {report.finding(claim).outcome for claim in (Claim.PROGRAM, Claim.FIGURES)} == {Outcome.HOLDS}
    again = reproduce(run, model=line())
    assert again.exit_code == 0 and again.program is not None and again.program.outcome is Outcome.HOLDS
    podlt.export(run, tmp_path / "folder")
    with pytest.raises(podlt.UsageError, match=r"an object of the Python program .* --model MODULE:CALLABLE"):
        podlt.predict(tmp_path / "folder", arrays()[0])


def test_a_module_is_not_taken_for_one_that_the_recipe_names(tmp_path: Path) -> None:
    with hosts_in_threads():
        result = podlt.train(tiny_recipe(), run=tmp_path / "run")
    with pytest.raises(podlt.UsageError, match="the recipe names its model"):
        podlt.audit(result.run, model=line())


NUMBERS = {"data": {"target": "number"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), {}),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2])), {}),
        (nn.CrossEntropyLoss(ignore_index=1), {}),
        (nn.MultiMarginLoss(), {}),
        (nn.SmoothL1Loss(beta=0.3), NUMBERS),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 3.0, 4.0])), NUMBERS),
    ],
    ids=["smoothing", "weight", "ignore", "margin", "beta", "pos_weight"],
)
def test_a_loss_means_what_pytorch_means_over_any_workers(
    loss: nn.Module, options: dict[str, Any], tmp_path: Path
) -> None:
    x, classes = map(torch.from_numpy, arrays())
    y = nn.functional.one_hot(classes, 3).float() if options else classes
    model, eager = network(), network()
    with hosts_in_threads():
        result = podlt.train(
            model, (x, y), loss=loss, optimizer=torch.optim.SGD(model.parameters(), lr=0.5), epochs=3,
            run=tmp_path / "run", workers=5, batch_size=len(x), arithmetic="stock", processes=1, **options,
        )  # fmt: skip
    optimizer, losses = torch.optim.SGD(eager.parameters(), lr=0.5), []
    for _ in range(3):
        found = loss(eager(x), y)
        losses.append(float(found.detach()))
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    assert list(result.history["loss"]) == pytest.approx(losses, rel=1e-6)
    for ours, theirs in zip(result.model.parameters(), eager.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_callbacks_are_there_by_the_packages_name() -> None:
    assert podlt.callbacks.TensorBoard is TensorBoard and podlt.callbacks.Callback is Callback


@pytest.mark.parametrize(
    ("arguments", "options", "reason"),
    [
        ((network(),), {}, "expected what to train on after the module"),
        (("digits.toml", arrays()), {}, "dataset: for podlt.train"),
        (("digits.toml",), {"epochs": 3}, "epochs: for podlt.train"),
        ((network(), arrays()), {"model": network()}, "the module comes first already"),
        ((network(), arrays()), {"engine": "rai"}, "expected local or ray"),
    ],
)
def test_arguments_of_the_other_call_are_refused(arguments: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(podlt.UsageError, match=reason):
        podlt.train(*arguments, **options)
