"""Every claim of the audit, in each of its outcomes: what holds, what a lying manager did, and what is not here."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from near_hosts import train_near
from small_runs import CLASSIC, OFTEN, Trained, entries, replayed, seeded, small_recipe, tiny_recipe

from podlt.crypto import blob_digest
from podlt.data.dataset import shard_digest_of
from podlt.errors import TooFewWorkersError, UsageError
from podlt.manager.audit import audit
from podlt.manager.audit.logged import LoggedRound, logged
from podlt.manager.audit.tally import rounds_text
from podlt.manager.audit.walk import Walk
from podlt.manager.batches import BatchReader, RoundBatch
from podlt.manager.directory import RunDirectory
from podlt.manager.metrics.evaluation import Evaluation
from podlt.manager.metrics.evaluator import Evaluator
from podlt.manager.round_driver import RoundDriver
from podlt.manager.setup import TrainingRun
from podlt.manager.weights import Weights, recipe_optimizer
from podlt.program.ir import Program
from podlt.program.layout import state_layout
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Outcome
from podlt.protocol.manager import Manager
from podlt.recipe import Recipe
from podlt.sim.simulate import simulate
from podlt.store.bundle import write_bundle
from podlt.verify import verify

OWN = [claim for claim in Claim if claim.command == "audit" and claim is not Claim.AGGREGATES]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of honest workers."""
    return train_near(tmp_path_factory.mktemp("run") / "honest", tiny_recipe(epochs=2), entropy=seeded(1)).result.run


@pytest.fixture
def run(tmp_path: Path, honest: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(honest, tmp_path / "run")


def outcomes(report: Any) -> dict[Claim, Outcome]:
    return {claim: report.finding(claim).outcome for claim in OWN}


def test_an_audit_of_everything_leaves_nothing_of_an_honest_run_unchecked(honest: Path) -> None:
    before = {path: path.read_bytes() for path in honest.rglob("*") if path.is_file() and "log.db" not in path.name}
    report = audit(honest, 1.0)
    assert report.exit_code == 0 and set(outcomes(report).values()) == {Outcome.HOLDS}
    assert not report.finding(Claim.AGGREGATES).asked
    assert report.executed == report.tasks and report.averaged == list(range(report.rounds))
    assert all(path.read_bytes() == data for path, data in before.items())


def test_an_audit_of_a_part_says_of_how_many(honest: Path) -> None:
    report = audit(honest, 0.05, seed=1)
    assert report.exit_code == 0 and 0 < report.executed < report.tasks
    for claim in (Claim.RESULTS, Claim.AVERAGES, Claim.NO_FAKES):
        finding = report.finding(claim)
        assert (
            finding.outcome is Outcome.NOT_CHECKED
            and not finding.asked
            and "the others were not checked" in finding.why
        )
    again = audit(honest, 0.05, seed=1)
    assert again.averaged == report.averaged


def test_an_audit_needs_neither_settings_nor_keys(run: Path) -> None:
    for name in ("run.json", "manager.key", "workers.key", "rounds.jsonl", "lock"):
        (run / name).unlink()
    assert audit(run, 1.0).exit_code == 0


def test_a_bundle_with_updates_is_audited_like_its_run(honest: Path, tmp_path: Path) -> None:
    write_bundle(honest, tmp_path / "run.podlt", updates=True)
    report = audit(tmp_path / "run.podlt", 1.0)
    assert report.exit_code == 0 and set(outcomes(report).values()) == {Outcome.HOLDS}


def test_without_updates_all_is_worked_out_again_if_all_is_executed_and_else_said_to_be_missing(
    honest: Path, tmp_path: Path
) -> None:
    write_bundle(honest, tmp_path / "run.podlt")
    assert audit(tmp_path / "run.podlt", 1.0).exit_code == 0  # averages and first parameters follow from the work
    report = audit(tmp_path / "run.podlt", 0.01, seed=1)
    assert report.exit_code == 4
    assert report.finding(Claim.PARAMETERS).outcome is Outcome.NOT_CHECKED
    assert "update is not here" in report.finding(Claim.PARAMETERS).why
    assert "updates" in report.finding(Claim.PARAMETERS).remedy


def test_what_a_short_history_does_not_keep_is_not_checked(tmp_path: Path) -> None:
    recipe = tiny_recipe(epochs=3, workers=5, history="last", checkpoint_every=4)
    run = train_near(tmp_path / "run", recipe, entropy=seeded(1)).result.run
    report = audit(run, 0.3, seed=5)
    assert report.exit_code == 4 and not report.mismatches
    assert report.finding(Claim.PARAMETERS).outcome is Outcome.NOT_CHECKED
    assert "rounds 0 to" in report.finding(Claim.PARAMETERS).why
    kept = [int(path.stem) for path in RunDirectory(run).checkpoints.iterdir() if int(path.stem)]
    assert report.rounds == replayed(run).steps - min(kept) > 0  # from the oldest checkpoint that is left


def test_only_the_log_is_not_enough(honest: Path) -> None:
    report = audit(honest / "log.db", 1.0)
    assert report.exit_code == 4 and set(outcomes(report).values()) == {Outcome.NOT_CHECKED}


def test_a_log_that_fails_is_not_executed(run: Path) -> None:
    (run / "recipe.json").write_text((run / "recipe.json").read_text().replace('"epochs":2', '"epochs":3'))
    report = audit(run, 1.0)
    assert report.exit_code == 1 and set(outcomes(report).values()) == {Outcome.NOT_CHECKED}
    assert "the log fails at claim 6" in report.finding(Claim.RESULTS).why


def test_a_simulated_run_has_nothing_to_execute(tmp_path: Path) -> None:
    simulate(8, {"always": 1}, rounds=12, seed=1, whole=True, directory=tmp_path / "run")
    report = audit(tmp_path / "run", 1.0)
    assert report.exit_code == 4 and "simulated" in report.finding(Claim.RESULTS).why


def test_an_audit_of_nothing_or_of_too_much_is_refused(honest: Path) -> None:
    for fraction in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="fraction"):
            audit(honest, fraction)
    with pytest.raises(UsageError, match="no run here"):
        audit(honest.parent, 0.5)
    with pytest.raises(UsageError, match="no such file or folder"):
        audit(honest, 0.5, data=honest / "nowhere")


# -- a lying manager -------------------------------------------------------------------------------------------------

Lie = Callable[[pytest.MonkeyPatch], None]


def other_average(patch: pytest.MonkeyPatch) -> None:
    honestly = Weights.average

    def biased(self: Weights, *given: Any) -> Any:
        average = honestly(self, *given)
        average.data[: self.update_layout.float_bytes].view(np.float32)[20] += np.float32(0.5)
        return average

    patch.setattr(Weights, "average", biased)


def other_loss(patch: pytest.MonkeyPatch) -> None:
    honestly = Manager.apply
    patch.setattr(
        Manager,
        "apply",
        lambda self, update, parameters, loss, *rest: honestly(self, update, parameters, loss / 9, *rest),
    )


def other_step(patch: pytest.MonkeyPatch) -> None:
    honestly = Weights.apply

    def twice(self: Weights, data: np.ndarray, seen: int) -> None:
        honestly(self, data, seen)
        if self.steps == 3:
            next(iter(self.views.values())).mul_(2)

    patch.setattr(Weights, "apply", twice)


def other_start(patch: pytest.MonkeyPatch) -> None:
    honestly = TrainingRun._capture

    def capture(self: TrainingRun, fields: Any, examples: Any) -> Any:
        captured = honestly(self, fields, examples)
        for name, value in captured.state.items():
            if name.startswith("param"):
                value.mul_(0.5).add_(0.01)
        return captured

    patch.setattr(TrainingRun, "_capture", capture)


def measuring(patch: pytest.MonkeyPatch, **figures: float) -> None:
    honestly = Evaluator.measure
    patch.setattr(Evaluator, "measure", lambda self, state: Evaluation({**honestly(self, state).values, **figures}))


def other_figures(patch: pytest.MonkeyPatch) -> None:
    measuring(patch, accuracy=0.999)


def one_figure_more(patch: pytest.MonkeyPatch) -> None:
    measuring(patch, auc=0.999)


def other_begin(**fields: bytes) -> Lie:
    def lie(patch: pytest.MonkeyPatch) -> None:
        honestly = TrainingRun._begin
        patch.setattr(
            TrainingRun, "_begin", lambda self, *rest: msgspec.structs.replace(honestly(self, *rest), **fields)
        )

    return lie


def poisoned_examples(patch: pytest.MonkeyPatch) -> None:
    honestly = BatchReader._fill

    def fill(self: BatchReader, plan: Any, half: int) -> RoundBatch:
        batch = honestly(self, plan, half)
        if plan.offset:
            views = self._engine.batch(half, plan.examples)
            next(v for v in views.values() if v.dtype.kind in "iu" and v.ndim == 1)[:] = 7
            pieces = [{name: v[start:stop] for name, v in views.items()} for start, stop in batch.bounds]
            digests = [shard_digest_of(self._dataset.fields, piece) for piece in pieces]
            return RoundBatch(batch.plan, half, batch.bounds, digests)
        return batch

    patch.setattr(BatchReader, "_fill", fill)


def convicted_by_word(patch: pytest.MonkeyPatch) -> None:
    executed, suspects = RoundDriver._executed_own, RoundDriver._suspects

    def false(self: RoundDriver, shard: int) -> np.ndarray:
        found = executed(self, shard)
        found[: self._weights.update_layout.float_bytes].view(np.float32)[0] += 1
        return found

    def suspecting(self: RoundDriver, *given: Any) -> list[int]:
        return [0] if self._manager.state.round == 1 else suspects(self, *given)

    patch.setattr(RoundDriver, "_executed_own", false)
    patch.setattr(RoundDriver, "_suspects", suspecting)


LIES: dict[str, tuple[Lie, *tuple[Claim, ...]]] = {
    "another training set": (other_begin(data=bytes(32)), Claim.DATA),
    "another test set": (other_begin(test=bytes([1]) * 32), Claim.DATA),
    "other first parameters": (other_start, Claim.START),
    "other examples": (poisoned_examples, Claim.SHARDS),
    "an execution of the manager's own": (convicted_by_word, Claim.CONVICTIONS, Claim.NO_FAKES),
    "another average": (other_average, Claim.AVERAGES),
    "another loss": (other_loss, Claim.LOSSES),
    "another step": (other_step, Claim.PARAMETERS),
    "other figures": (other_figures, Claim.FIGURES),
    "a figure more": (one_figure_more, Claim.FIGURES),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_manager_lies_about_fails_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    tell, *claims = LIES[lie]
    with monkeypatch.context() as patch:
        tell(patch)
        run = train_near(tmp_path / "run", tiny_recipe(workers=5), entropy=seeded(6)).result.run
    assert verify(run, jobs=1).exit_code == 0  # the log follows the rules: only who executes it can know
    report = audit(run, 1.0, jobs=1)
    failing = [finding.claim for finding in report.findings if finding.outcome is Outcome.FAILS]
    assert report.exit_code == 1 and failing == claims, report.findings
    assert all(report.finding(claim).why for claim in claims)


def test_a_dropped_test_set_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        other_begin(test=e.NO_TEST)(patch)
        run = train_near(tmp_path / "run", tiny_recipe(), entropy=seeded(6)).result.run
    assert "says that there is none" in audit(run, 1.0).finding(Claim.DATA).why


def test_a_vote_of_two_liars_does_not_convict_an_honest_third(tmp_path: Path) -> None:
    with pytest.raises(TooFewWorkersError):
        train_near(tmp_path / "run", tiny_recipe(protocol=CLASSIC), cheats=["2:coalition"], entropy=seeded(2))
    ((victim,),) = [v.convicted for v in entries(tmp_path / "run") if isinstance(v, e.Verdict) and v.convicted]
    assert verify(tmp_path / "run", jobs=1).exit_code == 0
    report = audit(tmp_path / "run", 0.01, seed=1)
    assert [conviction.innocent for conviction in report.false_convictions] == [[victim]]
    why = report.finding(Claim.CONVICTIONS).why
    assert report.exit_code == 1 and "by a vote" in why and f"worker {victim} gave just that" in why


def test_fakes_that_were_applied_before_their_author_was_caught_are_counted(cheated: Trained) -> None:
    run = cheated.result.run
    report = audit(run, 1.0, seed=1)
    applied = {f["round"] for f in map(msgspec.json.decode, (run / "rounds.jsonl").open("rb")) if f["applied"]}
    assert applied and {fake.round for fake in report.fakes} == applied
    assert {worker for fake in report.fakes for worker in fake.workers} <= set(cheated.result.convicted)
    finding = report.finding(Claim.NO_FAKES)
    assert finding.outcome is Outcome.FAILS and re.search("before (it was|they were) caught", finding.why)
    assert finding.why.startswith(f"{len(report.fakes)} fake") and rounds_text(applied) in finding.why
    assert report.finding(Claim.RESULTS).outcome is Outcome.HOLDS
    assert {item.round for item in report.not_averaged} == applied
    assert sorted([*report.averaged, *applied]) == list(range(report.rounds))


def test_a_cheater_that_was_caught_before_it_did_harm_leaves_a_run_that_holds(tmp_path: Path) -> None:
    recipe = tiny_recipe(workers=4, examples=60, batch_size=30, protocol=OFTEN)
    for seed in range(20):  # of the draws: in some of them the first fake is the checked shard's
        path = tmp_path / str(seed)
        trained = train_near(path, recipe, cheats=["1:sign-flip"], entropy=seeded(seed))
        applied = any(b'"applied":[]' not in line for line in (path / "rounds.jsonl").read_bytes().splitlines())
        if trained.result.convicted and not applied:
            report = audit(path, 1.0)
            assert report.exit_code == 0 and report.mismatches and all(m.convicted for m in report.mismatches)
            return
    pytest.fail("no seed of these caught the cheater at its first fake")


def test_a_first_checkpoint_that_was_changed_fails(run: Path) -> None:
    path = RunDirectory(run).checkpoint(0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    report = audit(run, 0.05)
    assert report.exit_code == 1 and "first checkpoint" in report.finding(Claim.START).why


@pytest.mark.slow
def test_every_byte_of_the_first_checkpoint_is_looked_at(run: Path) -> None:
    """Of it the log binds the parameters alone: what else is there must be what a run begins with."""
    path = RunDirectory(run).checkpoint(0)
    whole = path.read_bytes()
    dice = random.Random(1)
    for place in [*dice.sample(range(400), 12), *dice.sample(range(400, len(whole)), 12)]:
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        report = audit(run, 0.01, seed=1, jobs=1)
        assert report.finding(Claim.START).outcome is Outcome.FAILS, place
        assert report.exit_code == 1


def test_momentum_that_a_manager_signed_before_the_first_round_is_not_believed(run: Path) -> None:
    directory = RunDirectory(run)
    program = Program.from_bytes(directory.document("program.json"))
    recipe = Recipe.from_bytes(directory.document("recipe.json"))
    weights = Weights(program, recipe_optimizer(recipe, 200), np.zeros(state_layout(program).nbytes, np.uint8))
    identity, key = e.identity(entries(run)[0]), directory.manager_key()
    weights.load(directory.checkpoint(0), identity, key.public)
    weights.optimizer_state["momentum"] += 1
    weights.save(directory.checkpoint(0), identity, key)
    report = audit(run, 1.0)
    assert "has taken steps before the first" in report.finding(Claim.START).why
    assert report.finding(Claim.PARAMETERS).outcome is Outcome.HOLDS  # from no momentum, as it was trained


def test_first_parameters_up_to_rounding_hold_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honestly = TrainingRun._capture

    def capture(self: TrainingRun, fields: Any, examples: Any) -> Any:
        captured = honestly(self, fields, examples)
        value = next(v for name, v in captured.state.items() if name.startswith("param"))
        value.flatten()[3] *= 1 + 2**-22
        return captured

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_capture", capture)
        run = train_near(tmp_path / "run", tiny_recipe(), entropy=seeded(6)).result.run
    report = audit(run, 1.0)
    assert report.exit_code == 0 and "up to rounding (largest difference" in report.finding(Claim.START).figure


def test_parameters_that_were_given_are_a_named_input(tmp_path: Path) -> None:
    torch.manual_seed(5)
    module = torch.nn.Sequential(torch.nn.Linear(64, 10))
    run = train_near(tmp_path / "run", tiny_recipe(), model=module, entropy=seeded(1)).result.run
    begin = entries(run)[0]
    recipe = msgspec.json.decode((run / "recipe.json").read_bytes())
    assert recipe["model"]["parameters"] == begin.parameters.hex()
    report = audit(run, 1.0)
    assert report.finding(Claim.START).outcome is Outcome.HOLDS and "given input" in report.finding(Claim.START).figure
    assert report.finding(Claim.FIGURES).outcome is Outcome.NOT_CHECKED  # podlt.models:mlp is not that module
    assert report.exit_code == 4
    (run / "recipe.json").write_text((run / "recipe.json").read_text().replace(begin.parameters.hex(), "ab" * 32))
    assert verify(run, jobs=1).exit_code == 1


def test_another_machines_rounding_is_not_fraud(honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own arithmetic promises no bits between machines: then nothing was checked, and nothing fails."""
    honestly = Walk._one

    def rounded(self: Walk, *arguments: Any) -> np.ndarray:
        out = honestly(self, *arguments)
        out[: self._weights.update_layout.float_bytes].view(np.float32)[:] *= np.float32(1 + 2**-20)
        return out

    monkeypatch.setattr(Walk, "_one", rounded)
    report = audit(honest, 1.0)
    assert report.exit_code == 4 and "rounds otherwise on this machine" in report.finding(Claim.RESULTS).why


def test_a_round_that_was_never_paid_is_looked_at_all_the_same(honest: Path) -> None:
    class Cut:
        def __init__(self, log: Any) -> None:
            self._log = log

        def entries(self, first: int = 0) -> Any:
            for row in self._log.entries(first):
                if isinstance(e.decode(row[2]), e.Pay):
                    return
                yield row

    with closing(RunDirectory(honest).log()) as log:
        (found,) = logged(Cut(log))  # type: ignore[arg-type]
    assert isinstance(found, LoggedRound) and found.apply is not None and found.results


def test_numbers_of_rounds_are_joined_for_people() -> None:
    assert rounds_text([3]) == "round 3" and rounds_text([0, 1, 2, 7, 5]) == "rounds 0 to 2, 5, 7"
    assert rounds_text(range(0, 100, 2)).endswith("22, ...")


def test_what_was_applied_behind_a_fake_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a round that holds a fake a manager may apply anything, as its average cannot be worked out again."""
    honest = RoundDriver.judge

    def judge(self: RoundDriver) -> Any:
        roles = self._manager.roles
        seen = {*roles.checked, *roles.own}
        behind = [seat for seat in self.figures.faked if roles.seats[seat] not in seen]
        verdicts, average = honest(self)
        if behind:
            layout = self._weights.update_layout
            average.data[: layout.float_bytes].view(np.float32)[1:] += np.float32(0.01)
            layout.clear_gaps(average.data)
        return verdicts, average

    with monkeypatch.context() as patch:
        patch.setattr(RoundDriver, "judge", judge)
        recipe = small_recipe(epochs=1, protocol=OFTEN)
        trained = train_near(tmp_path / "run", recipe, cheats=["2:sign-flip"], entropy=seeded(4))
    assert trained.result.convicted and verify(tmp_path / "run", jobs=1).exit_code == 0
    report = audit(tmp_path / "run", 1.0)
    assert report.exit_code == 1 and report.finding(Claim.NO_FAKES).outcome is Outcome.FAILS
    assert "or anything else: nobody can tell" in report.finding(Claim.NO_FAKES).why
    assert report.finding(Claim.AVERAGES).outcome is Outcome.NOT_CHECKED


def test_an_update_that_the_log_names_but_that_is_none_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short, honestly = b"no update at all", Manager.apply

    def apply(self: Manager, update: bytes, *rest: Any) -> None:
        honestly(self, blob_digest(short) if self.state.round == 1 else update, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Manager, "apply", apply)
        run = train_near(tmp_path / "run", tiny_recipe(), entropy=seeded(6)).result.run
    RunDirectory(run).update(1).write_bytes(short)
    report = audit(run, 1.0)
    assert report.exit_code == 1 and "round 1: the file of its update" in report.finding(Claim.PARAMETERS).why
