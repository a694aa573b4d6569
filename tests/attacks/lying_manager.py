"""A manager that lies about a real run, in one way each: what it does, and which claims fail.

Each lie is a patch of the manager's own code, or of its files after the run; its workers are honest unless they are
told to cheat. What is expected here is what docs/ATTACKS.md says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from near_hosts import train_near
from safetensors.numpy import load_file, save_file
from small_runs import seeded
from torch import nn

from podlt.crypto import HashChain, digest
from podlt.data.dataset import shard_digest_of
from podlt.data.spec import DataSpec
from podlt.engine.interface import Engine
from podlt.execution import adversary
from podlt.manager.batches import BatchReader, RoundBatch
from podlt.manager.round_driver import RoundDriver
from podlt.manager.setup import TrainingRun
from podlt.manager.weights import Average, Weights
from podlt.program import clip
from podlt.program.clip import Scale
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.manager import Manager
from podlt.protocol.plan import Upcoming
from podlt.recipe import ModelSpec, ProtocolSpec, Recipe, TrainingSpec, terms_of

Patch = pytest.MonkeyPatch

ROUND = 3
"""The round in which those lie who lie once."""


GUARDED = ProtocolSpec(checked=0.2, own=0.2, escrow=3, first_fault="evict")
"""One or two of seven shards or so are checked, and as many are the manager's own."""

CLASSIC = ProtocolSpec("classic", escrow=3)


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """One lie.

    Attributes:
        does: what the manager does, for the document.
        lie: patches the manager, if it lies while it runs.
        after: changes its files, if it lies afterwards.
        cheats: of its workers.
        rules: of the run.
        seed: of the run's secrets.
        verify: the claims that `verify` says fail.
        audit: those that `audit --fraction 1` says fail; where `verify` refused the log, nothing is executed.
        share: of ten audits of 5 %, how many end with exit code 1.
        by_chance: whether that rests on how many fakes the deal let pass, which another processor deals otherwise.
        fast: whether the fast tests play it.
    """

    does: str
    lie: Callable[[Patch], None] | None = None
    after: Callable[[Path], None] | None = None
    cheats: Sequence[str] = ()
    rules: ProtocolSpec = GUARDED
    seed: int = 1
    verify: tuple[Claim, ...] = ()
    audit: tuple[Claim, ...] = ()
    share: int = 10
    by_chance: bool = False
    fast: bool = False


def recipe(rules: ProtocolSpec = GUARDED) -> Recipe:
    """24 rounds or so of eight workers, in a third of a second."""
    return Recipe(
        data=DataSpec("digits"),
        model=ModelSpec("podlt.models:mlp", {"inputs": 64, "hidden": 16, "outputs": 10}),
        optimizer={"name": "adamw", "lr": 0.03},
        training=TrainingSpec(epochs=2, workers=8, batch_size=120, seed=1),
        protocol=rules,
        arithmetic="stock",
    )


def play(attack: Attack, path: Path) -> Path:
    """The directory of a run whose manager lies; the same each time."""
    with pytest.MonkeyPatch.context() as patch:
        if attack.lie is not None:
            attack.lie(patch)
        train_near(path, recipe(attack.rules), cheats=list(attack.cheats), entropy=seeded(attack.seed))
    if attack.after is not None:
        attack.after(path)
    return path


# -- averages --------------------------------------------------------------------------------------------------------


def _average(change: Callable[[Weights, np.ndarray], None]) -> Callable[[Patch], None]:
    """Applies something else than the average: `change` may write into its values but the first, the loss."""

    def lie(patch: Patch) -> None:
        honest = Weights.average

        def average(self: Weights, updates: Sequence[np.ndarray], *about: Any) -> Average:
            found = honest(self, updates, *about)
            change(self, found.data[: self.update_layout.float_bytes].view(np.float32)[1:])
            return found

        patch.setattr(Weights, "average", average)

    return lie


def _once(weights: Weights, values: np.ndarray) -> None:
    if weights.steps == ROUND:
        values *= np.float32(1.5)


def _always(weights: Weights, values: np.ndarray) -> None:
    values *= np.float32(1.5)


def _behind_a_fake(patch: Patch) -> None:
    """Only in rounds in which a fake is applied, whose average nobody can work out again."""
    honest = RoundDriver.judge

    def judge(self: RoundDriver) -> Any:
        roles = self._manager.roles
        faked = set(self.figures.faked)
        compared = {seat for shard in (*roles.checked, *roles.own) for seat in roles.group(shard)}
        verdicts, average = honest(self)
        if faked and not faked & compared:
            layout = self._weights.update_layout
            average.data[: layout.float_bytes].view(np.float32)[1:] += np.float32(0.01)
            layout.clear_gaps(average.data)
        return verdicts, average

    patch.setattr(RoundDriver, "judge", judge)


def _faster_steps(patch: Patch) -> None:
    """Applies each average twice as strongly as the recipe's optimiser would."""
    honest = Weights.apply

    def apply(self: Weights, data: np.ndarray, seen: int) -> None:
        before = self._flat.clone()
        honest(self, data, seen)
        self._flat.add_(self._flat - before)

    patch.setattr(Weights, "apply", apply)


def _loss(patch: Patch) -> None:
    honest = Manager.apply
    patch.setattr(
        Manager, "apply", lambda self, update, state, loss, *more: honest(self, update, state, loss / 100, *more)
    )


def _clips(lie: Callable[[Sequence[Scale]], Sequence[Scale]]) -> Callable[[Patch], None]:
    """Clips otherwise than by the rule in one round, and says so."""

    def patched(patch: Patch) -> None:
        honest, rounds = Manager.open, [0]

        def open_round(self: Manager, plan: Upcoming, shards: Sequence[bytes]) -> Any:
            rounds[0] = self.state.round
            return honest(self, plan, shards)

        def chosen(*about: Any) -> list[Scale]:
            found = clip.scales_of(*about)
            return list(lie(found)) if rounds[0] == ROUND else found

        patch.setattr(Manager, "open", open_round)
        patch.setattr("podlt.manager.weights.scales_of", chosen)

    return patched


def _hidden_clip(patch: Patch) -> None:
    """Says that nothing was clipped."""
    honest = Manager.apply
    patch.setattr(Manager, "apply", lambda self, update, state, loss, clipped: honest(self, update, state, loss))


# -- how it begins ---------------------------------------------------------------------------------------------------


def _begin(**other: Any) -> Callable[[Patch], None]:
    def lie(patch: Patch) -> None:
        honest = TrainingRun._begin
        patch.setattr(TrainingRun, "_begin", lambda self, *args: msgspec.structs.replace(honest(self, *args), **other))

    return lie


def _begin_as(other: Recipe, examples: int | None = None) -> Callable[[Patch], None]:
    """Begins with the terms of another recipe, or over fewer examples, with a chain of secrets that fits them."""

    def lie(patch: Patch) -> None:
        def begin(self: TrainingRun, *args: Any) -> e.Begin:
            entry = honest(self, *args)
            count = examples or entry.examples
            terms = msgspec.structs.asdict(terms_of(other, count))
            end = self.directory.chain(terms["chain_length"]).end
            return msgspec.structs.replace(entry, examples=count, **terms, chain_end=end)

        def chain(self: TrainingRun, length: int) -> HashChain:
            return self.directory.chain(terms_of(other, examples or self.inputs.data.train.examples).chain_length)

        honest = TrainingRun._begin
        patch.setattr(TrainingRun, "_begin", begin)
        patch.setattr(TrainingRun, "_chain", chain)

    return lie


def _training(**other: Any) -> Recipe:
    return msgspec.structs.replace(recipe(), training=msgspec.structs.replace(recipe().training, **other))


def _other_start(patch: Patch) -> None:
    honest = TrainingRun._capture

    def capture(self: TrainingRun, fields: Any, examples: Any) -> Any:
        captured = honest(self, fields, examples)
        for name, value in captured.state.items():
            if name.startswith("param"):
                value.mul_(0.5).add_(0.01)
        return captured

    patch.setattr(TrainingRun, "_capture", capture)


def _other_program(patch: Patch) -> None:
    """Trains another model than the recipe's: with tanh where that has relu."""
    honest = TrainingRun._capture

    def capture(self: TrainingRun, fields: Any, examples: Any) -> Any:
        inputs, model = self.inputs, self.inputs.model
        assert isinstance(model, nn.Sequential)
        layers = [nn.Tanh() if isinstance(layer, nn.ReLU) else layer for layer in model]
        self.inputs = msgspec.structs.replace(inputs, model=nn.Sequential(*layers))
        captured = honest(self, fields, examples)
        self.inputs = inputs
        return captured

    patch.setattr(TrainingRun, "_capture", capture)


# -- examples
# -----------------------------------------------------------------------------------------------------------


def _poisoned_examples(patch: Patch) -> None:
    honest = BatchReader._fill

    def fill(self: BatchReader, plan: Upcoming, half: int) -> RoundBatch:
        batch = honest(self, plan, half)
        if plan.epoch or not plan.offset <= 240 < plan.offset + plan.examples:
            return batch
        engine: Engine = self._engine
        examples = engine.batch(half, plan.examples)
        for values in examples.values():
            if values.dtype.kind in "iu" and values.ndim == 1:
                values[slice(*batch.bounds[0])] = 7
        start, stop = batch.bounds[0]
        first = shard_digest_of(self._dataset.fields, {name: v[start:stop] for name, v in examples.items()})
        return msgspec.structs.replace(batch, shards=[first, *batch.shards[1:]])

    patch.setattr(BatchReader, "_fill", fill)


# -- convictions -----------------------------------------------------------------------------------------------------


def _convictions(manager: Manager) -> int:
    return sum(worker.convictions for worker in manager.state.workers.values())


def _evict_by_own_task(patch: Patch) -> None:
    """Says that its own execution of a shard gave something else, and applies that."""
    honest = RoundDriver._executed_own

    def executed(self: RoundDriver, shard: int) -> np.ndarray:
        update = honest(self, shard)
        round = self._manager.state.revealed
        if round.open.round >= ROUND and shard in round.own and not _convictions(self._manager):
            update.view(np.float32)[1:50] += np.float32(0.5)
        return update

    patch.setattr(RoundDriver, "_executed_own", executed)


def _side_with_fakes(patch: Patch) -> None:
    """Where two differ it says that its execution gave the fake: the honest one is convicted."""
    honest = RoundDriver._executed_own

    def executed(self: RoundDriver, shard: int) -> np.ndarray:
        round = self._manager.state.revealed
        faked = set(self.figures.faked)
        for copy in round.results:
            if round.roles.seats[copy[0]] == shard and copy[0] in faked:
                return self._slot(copy).copy()
        return honest(self, shard)

    patch.setattr(RoundDriver, "_executed_own", executed)


def _evict_as_referee(patch: Patch) -> None:
    """Calls the result of a shard that nobody compared not finite, and accepts its favourite instead."""
    honest_suspects, honest_execute = RoundDriver._suspects, RoundDriver._execute
    chosen: list[int] = []

    def suspects(self: RoundDriver, updates: Sequence[np.ndarray], average: Average) -> list[int]:
        found = honest_suspects(self, updates, average)
        state = self._manager.state
        if state.round == ROUND:
            roles = state.revealed.roles
            due = state.revealed.due()
            chosen[:] = [next(f for _, f in sorted(roles.seats.items()) if f not in due)]
        return sorted({*found, *(chosen if state.round == ROUND else [])})

    def execute(self: RoundDriver, shard: int) -> np.ndarray:
        update = honest_execute(self, shard)
        if self._manager.state.round == ROUND and chosen == [shard]:
            update.view(np.float32)[1:50] += np.float32(0.5)
        return update

    patch.setattr(RoundDriver, "_suspects", suspects)
    patch.setattr(RoundDriver, "_execute", execute)


def _frame_by_vote(patch: Patch) -> None:
    """Its two workers of a coalition fake only where both meet an honest third: the manager knows the draw."""
    honest_open = Manager.open
    chosen: set[bytes] = set()

    def open_round(self: Manager, plan: Upcoming, shards: Sequence[bytes]) -> Any:
        dealt = honest_open(self, plan, shards)
        checked = self.roles.checked[0]
        if len({2, 4} & set(self.roles.group(checked))) == 2:
            chosen.add(shards[checked])
        return dealt

    def flip(honest: adversary.Execute, seed: bytes) -> adversary.Execute:
        fake = honest_flip(honest, seed)
        return lambda work: fake(work) if work.task.shard in chosen else honest(work)

    honest_flip = adversary.sign_flip
    patch.setattr(Manager, "open", open_round)
    patch.setattr(adversary, "sign_flip", flip)


# -- results ---------------------------------------------------------------------------------------------------------


def _figures(patch: Patch) -> None:
    honest = Manager.measure

    def measure(self: Manager, figures: dict[str, float]) -> e.Measure:
        return honest(self, {**figures, "accuracy": 0.999})

    patch.setattr(Manager, "measure", measure)


def _fewer_figures(patch: Patch) -> None:
    honest = Manager.measure
    patch.setattr(Manager, "measure", lambda self, figures: honest(self, {}))


def _no_test_set(patch: Patch) -> None:
    _begin(test=e.NO_TEST)(patch)


def _swapped(run: Path) -> None:
    """What cases/newcomer/forged_report.py does."""
    tensors = load_file(run / "model.safetensors")
    save_file({name: values * 2 for name, values in tensors.items()}, run / "model.safetensors")
    (run / "metrics.jsonl").write_text('{"epoch":1,"metrics":{"accuracy":1.0,"loss":0.0001},"round":29}\n')


def _other_first_checkpoint(run: Path) -> None:
    path = run / "checkpoints" / "00000000.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)


def _other_update(run: Path) -> None:
    path = run / "updates" / f"{ROUND:08d}.bin"
    data = np.frombuffer(bytearray(path.read_bytes()), np.float32)
    data[7] += 1
    path.write_bytes(data.tobytes())


ATTACKS: dict[str, Attack] = {
    "average-one-round": Attack(
        does="applies one and a half times the average in one round",
        lie=_average(_once),
        audit=(Claim.AVERAGES,),
        share=0,
    ),
    "average-all-rounds": Attack(
        does="applies one and a half times the average in every round", lie=_average(_always), audit=(Claim.AVERAGES,)
    ),
    "average-behind-a-fake": Attack(
        does="adds 0.01 to every value of the average, in each round in which a fake is applied",
        lie=_behind_a_fake,
        cheats=["2:sign-flip"],
        audit=(Claim.NO_FAKES,),
        share=0,
        by_chance=True,
        fast=True,
        seed=6,
    ),
    "optimizer": Attack(
        does="applies each average twice as strongly as the recipe's optimiser",
        lie=_faster_steps,
        audit=(Claim.PARAMETERS,),
    ),
    "loss": Attack(does="logs a hundredth of each loss", lie=_loss, audit=(Claim.LOSSES,)),
    "init": Attack(
        does="begins with other parameters than the recipe's seed gives", lie=_other_start, audit=(Claim.START,)
    ),
    "program": Attack(
        does="trains another model than the recipe's: tanh where that has relu",
        lie=_other_program,
        audit=(Claim.PROGRAM,),
    ),
    "begin-reward": Attack(
        does="begins with a reward of 0",
        lie=_begin_as(recipe(msgspec.structs.replace(GUARDED, reward=0))),
        verify=(Claim.TERMS,),
        audit=(Claim.TERMS,),
    ),
    "begin-unchecked": Attack(
        does="begins with nothing checked, and nothing its own",
        lie=_begin_as(recipe(msgspec.structs.replace(GUARDED, checked=0.0, own=0.0))),
        verify=(Claim.TERMS,),
        audit=(Claim.TERMS,),
    ),
    "begin-epochs": Attack(
        does="begins with one epoch", lie=_begin_as(_training(epochs=1)), verify=(Claim.TERMS,), audit=(Claim.TERMS,)
    ),
    "begin-seed": Attack(
        does="begins with a seed of its choice",
        lie=_begin_as(_training(seed=2)),
        verify=(Claim.TERMS,),
        audit=(Claim.TERMS,),
    ),
    "begin-batch": Attack(
        does="begins with smaller batches",
        lie=_begin_as(_training(batch_size=60)),
        verify=(Claim.TERMS,),
        audit=(Claim.TERMS,),
    ),
    "begin-examples": Attack(
        does="trains on a third of the examples, in terms that fit each other",
        lie=_begin_as(recipe(), 600),
        audit=(Claim.DATA,),
    ),
    "begin-test": Attack(does="begins with another test set", lie=_begin(test=digest("test/1")), audit=(Claim.DATA,)),
    "begin-no-test": Attack(does="says that there is no test set", lie=_no_test_set, audit=(Claim.DATA,)),
    "begin-arithmetic": Attack(
        does="says that its arithmetic is one that nobody has", lie=_begin(arithmetic=bytes(32)), share=0
    ),
    "clip-favourite": Attack(
        does="scales one worker's update by an eighth in one round, and says that the rule clipped it",
        lie=_clips(lambda found: [Scale(0, 0, 3)]),
        audit=(Claim.AVERAGES,),
        share=0,
    ),
    "clip-nothing": Attack(
        does="does not clip in one round what the rule clips",
        lie=_clips(lambda found: []),
        rules=msgspec.structs.replace(GUARDED, clip=1),
        audit=(Claim.AVERAGES,),
        share=0,
    ),
    "clip-hidden": Attack(
        does="clips by the rule, and says that it did not",
        lie=_hidden_clip,
        rules=msgspec.structs.replace(GUARDED, clip=1),
        audit=(Claim.AVERAGES,),
    ),
    "own-evict": Attack(
        does="evicts who answered for a shard of its own by what it says it found, and applies that",
        lie=_evict_by_own_task,
        audit=(Claim.CONVICTIONS, Claim.NO_FAKES),
    ),
    "sides-with-fakes": Attack(
        does="has two workers of its own that fake, and as referee finds what they gave, wherever anybody differs",
        lie=_side_with_fakes,
        cheats=["2:sign-flip"],
        audit=(Claim.RESULTS, Claim.CONVICTIONS, Claim.NO_FAKES),
    ),
    "referee-evict": Attack(
        does="evicts who answered for a shard by its own word, and applies its favourite",
        lie=_evict_as_referee,
        audit=(Claim.CONVICTIONS, Claim.NO_FAKES),
    ),
    "vote-framed": Attack(
        does="has two workers of its own, which in a classic run outvote an honest third by the same fake",
        lie=_frame_by_vote,
        rules=CLASSIC,
        cheats=["2:coalition"],
        seed=7,
        audit=(Claim.RESULTS, Claim.CONVICTIONS, Claim.NO_FAKES),
    ),
    "poisoned-examples": Attack(
        does="gives the examples of a shard a label of its choice, and logs the digest of those",
        lie=_poisoned_examples,
        audit=(Claim.SHARDS,),
    ),
    "figures": Attack(does="logs an accuracy of 0.999", lie=_figures, audit=(Claim.FIGURES,)),
    "no-figures": Attack(does="logs no figures, as if none were finite", lie=_fewer_figures, audit=(Claim.FIGURES,)),
    "swapped": Attack(
        does="doubles every weight of model.safetensors, and writes figures beside it",
        after=_swapped,
        verify=(Claim.MODEL,),
        audit=(Claim.MODEL,),
    ),
    "checkpoint": Attack(does="changes the first checkpoint", after=_other_first_checkpoint, audit=(Claim.START,)),
    "update": Attack(does="changes the file of an update", after=_other_update, audit=(Claim.PARAMETERS,)),
}
