"""Begins a run, or resumes one: everything around the trainer's loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import torch
from torch import nn

from podlt.access.registry import Registry
from podlt.crypto import HashChain
from podlt.data.dataset import Dataset
from podlt.engine.interface import Engine, Job, Workplace
from podlt.errors import UsageError
from podlt.execution.task_executor import TaskExecutor
from podlt.inference.description import describe_run
from podlt.inference.pretrained import write_configuration
from podlt.log.merkle import Tree
from podlt.manager import events as ev
from podlt.manager.amendments import Optimizers, amendment
from podlt.manager.capture_inputs import piece_examples, planned, task_examples, tried_examples
from podlt.manager.directory import Entropy, RunDirectory, Settings
from podlt.manager.ending import Ending
from podlt.manager.first_entry import MANY_ROUNDS, chain_length, first_entry, naming_parameters, naming_torch
from podlt.manager.inputs import RunInputs, load_inputs
from podlt.manager.leftovers import drop_later_figures, require_untrained, write_trained
from podlt.manager.loop import Trainer
from podlt.manager.metrics.evaluation import batch_examples
from podlt.manager.metrics.evaluator import Evaluator
from podlt.manager.metrics.given import Metrics, naming_metrics
from podlt.manager.metrics.stopping import deciding
from podlt.manager.precheck import check_machine, try_inputs, try_task
from podlt.manager.proof_line import proof_line
from podlt.manager.resume import check_documents, check_secrets, replay_log, restore_weights
from podlt.manager.weights import Weights, first_digest, recipe_optimizer
from podlt.program.capture import Captured, capture
from podlt.program.ir import FieldSpec, Program
from podlt.program.layout import state_layout
from podlt.program.needs import least_examples
from podlt.program.step import Loss
from podlt.program.validate import validate
from podlt.protocol import entries as e
from podlt.protocol.manager import Manager
from podlt.protocol.rules import RunState
from podlt.recipe import Recipe, with_workers
from podlt.recipe_changes import changed
from podlt.store.log_store import LogStore
from podlt.store.run_names import INFERENCE, PROGRAM, RECIPE
from podlt.witness.asker import WitnessAsker

Clock = Callable[[], int]


def wall_clock() -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 10**6


class TrainingRun:
    """One run, from its directory: begun or resumed, and trained to its end.

    Args:
        directory: of the run.
        recipe: as it stands in the directory, or as it is to be.
        inputs: what it names, loaded.
        given: whether the model was given as an object: then the recipe names its first parameters.
        listener: is called with every event.
        clock: milliseconds.
        place: where the workers are.

    Attributes:
        trainer: while the run is trained: it has the parameters.
    """

    def __init__(
        self,
        directory: RunDirectory,
        recipe: Recipe,
        inputs: RunInputs,
        *,
        given: bool,
        listener: ev.Listener,
        clock: Clock,
        place: Workplace,
    ) -> None:
        self.directory, self.recipe, self.inputs = directory, recipe, inputs
        self._ending = Ending(directory, listener)
        self.trainer: Trainer | None = None
        self._given, self._listener, self._clock, self._place = given, self._ending.tell, clock, place

    @classmethod
    def load(
        cls,
        directory: RunDirectory,
        recipe: Recipe,
        settings: Settings,
        *,
        model: nn.Module | None,
        loss: Loss | None = None,
        listener: ev.Listener,
        clock: Clock,
        cache: Path | None,
        place: Workplace,
        metrics: Metrics | None = None,
    ) -> Self:
        """A run, with what its recipe names loaded. Arguments and errors as `load_inputs`, the others as the class.

        The metrics of a new run are those that are given here, if any are: its recipe then names them.
        """
        if metrics is not None and not (directory.path.is_dir() and directory.has_entries()):
            recipe = naming_metrics(recipe, metrics)
        inputs = load_inputs(
            directory, recipe, settings, model=model, loss=loss, listener=listener, cache=cache, metrics=metrics
        )
        return cls(directory, recipe, inputs, given=model is not None, listener=listener, clock=clock, place=place)

    # -- a new run ---------------------------------------------------------------------------------------------------

    def start(self, entropy: Entropy) -> None:
        """Captures the program, makes keys, writes the first entries, and trains.

        Raises:
            UnsupportedError: the model holds an operation that a program cannot.
        """
        with self.started(entropy) as trainer:
            trainer.train()
            self._write_trained(trainer.weights, trainer.manager.state)

    @contextmanager
    def started(self, entropy: Entropy) -> Iterator[Trainer]:
        """A new run with its workers joined, about to open its first round.

        Args:
            entropy: where secrets come from.
        """
        length = chain_length(self.recipe, self._train.examples)
        fault = try_inputs(self.inputs, self.recipe, self.directory.path, self._listener)
        check_machine(self.recipe, self._listener)
        self._listener(ev.ProofPlanned(text=proof_line(self.recipe, self._train.examples)))
        self._listener(ev.Preparing(what="capturing the training step"))
        fields = [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in self._train.fields]
        with self._place.ready(self.recipe.training.workers) as make:
            examples = tried_examples(self.recipe, self._train)
            captured = self._capture(fields, examples)
            if fault is not None:
                raise fault
            program, notices = planned(captured, self.recipe, self._train.examples)
            try_task(captured, self._executor(program), examples)
            for notice in notices:
                self._listener(ev.Preparing(what=notice))
            self.recipe = naming_torch(self.recipe, str(torch.__version__))
            if self._given or self.recipe.model.parameters:
                self.recipe = naming_parameters(self.recipe, first_digest(program, captured.state).hex())
            self._make(program, entropy)
            manager = Manager(RunState(), self._chain(length), self._clock)
            with closing(make(self._job(program))) as engine:
                weights = Weights(program, self.inputs.optimizer, engine.state)
                weights.set(captured.state)
                captured.state.clear()
                manager.begin(self._begin(program, weights.digest(), entropy(32), length))
                weights.save(self.directory.checkpoint(0), manager.state.run, self.directory.manager_key())
                with (
                    closing(self.directory.log(create=True)) as store,
                    self._trainer(manager, weights, engine, program, Tree(), store) as trainer,
                ):
                    trainer.members.begin(self.recipe.training.workers)
                    self._tell_started(trainer, resumed=False)
                    yield trainer

    def _capture(self, fields: list[FieldSpec], examples: Mapping[str, torch.Tensor]) -> Captured:
        """The program, and the parameters that the run begins with."""
        train, arithmetic = self.inputs.data.train, self.recipe.program_arithmetic
        most = piece_examples(self.recipe, train.examples)
        return capture(self.inputs.model, self.inputs.loss, fields, arithmetic, examples, most)

    def _make(self, program: Program, entropy: Entropy) -> None:
        """Makes the directory, once nothing that the user gave can be wrong any more."""
        self.directory.make()
        self.directory.lock()
        if self.directory.has_entries():
            raise UsageError(f"{self.directory.path}: another process has just begun a run here")
        self.directory.write_settings(msgspec.structs.replace(self.inputs.settings, engine=self._place.name))
        self.directory.write_document(RECIPE, self.recipe.to_bytes())
        self.directory.write_document(PROGRAM, program.to_bytes())
        self.directory.make_keys(self.recipe.training.workers if self._place.keeps_keys else 0, entropy, exactly=True)

    def _begin(self, program: Program, parameters: bytes, nonce: bytes, length: int) -> e.Begin:
        return first_entry(
            self.recipe,
            self.inputs.data,
            program,
            at=self._clock(),
            manager=self.directory.manager_key().public,
            nonce=nonce,
            parameters=parameters,
            chain=self.directory.chain(length),
        )

    def weights(self, memory: np.ndarray) -> Weights:
        """The run's parameters and optimiser, over some memory (uint8)."""
        return Weights(self._program(), self.inputs.optimizer, memory)

    def _chain(self, length: int) -> HashChain:
        if length > MANY_ROUNDS:
            self._listener(ev.Preparing(what=f"making the secrets of {length:,} rounds"))
        return self.directory.chain(length)

    # -- a run that is resumed ---------------------------------------------------------------------------------------

    def resume(self, workers: int, entropy: Entropy, changes: Mapping[str, Any]) -> None:
        """Resumes after the last round that is whole in the log; of a complete run nothing is left but by a change.

        A run that was killed before its first entry was written begins anew.

        Args:
            workers: how many there shall be at least, apart from those that were evicted; before the first entry, what
                the recipe is to say; 0 for what it says, or for those that come back.
            entropy: where secrets come from.
            changes: dotted paths of the recipe's fields -> what they are from now on.

        Raises:
            StorageError: the log is gone, or a file that it names.
            InvalidProofError: log, program, data or a file of the run is not what the log says.
            UsageError: the run's workers are in another engine.
        """
        if (before := self.inputs.settings.engine) != self._place.name:
            raise UsageError(
                f"{self.directory.path}: its workers are in the engine {before}, not {self._place.name}: it cannot be "
                "resumed there"
            )
        self.directory.lock()
        if not self.directory.has_entries():
            require_untrained(self.directory)
            if self._given:  # nobody has seen the parameters of before
                model = msgspec.structs.replace(self.recipe.model, parameters="")
                self.recipe = msgspec.structs.replace(self.recipe, model=model)
            self._change(changed(self.recipe, changes))
            if workers:
                self._ask_for(workers)
            self.start(entropy)
            return
        check_machine(self.recipe, self._listener)
        with closing(self.directory.log()) as store:
            self._resume_logged(store, workers, entropy, changes)

    def _resume_logged(self, store: LogStore, workers: int, entropy: Entropy, changes: Mapping[str, Any]) -> None:
        """Replays the log, holds the run's files against it, and trains what is left."""
        program = self._program()
        state, applied, tree = replay_log(store)
        begin = state.begin
        assert begin is not None
        chain = self._chain(begin.chain_length)
        check_documents(begin, self.directory.document(RECIPE), program, self._train)
        check_secrets(state, self.directory, workers=self._place.keeps_keys)
        self._remember_places()
        optimizers = Optimizers(self.recipe, self._train.examples, state.amendments)
        again = amendment(optimizers.recipe, changes, state, chain)
        complete = state.closed is not None and state.closed.outcome == "complete"
        if complete or again is not None:
            self.directory.drop_finish_request()
        if complete and again is None:
            weights = self.weights(np.zeros(state_layout(program).nbytes, np.uint8))
            restore_weights(weights, self.directory, state, applied, optimizers)
            self._write_trained(weights, state)
            return
        if self._place.keeps_keys:
            evicted = sum(worker.status == "evicted" for worker in state.workers.values())
            self.directory.make_keys(max(workers + evicted, len(state.workers)), entropy)
        manager = Manager(state, chain, self._clock)
        with (
            self._place.ready(len(self.directory.worker_seeds())) as make,
            closing(make(self._job(program))) as engine,
        ):
            weights = Weights(program, self.inputs.optimizer, engine.state)
            restore_weights(weights, self.directory, state, applied, optimizers)
            manager.resume(anew=engine.elastic)
            with self._trainer(manager, weights, engine, program, tree, store) as trainer:
                if state.amendments or again is not None:  # the model of an earlier part is not the run's any more
                    self.directory.model.unlink(missing_ok=True)
                if again is not None:
                    trainer.amend(again)
                    weights.use(Optimizers(self.recipe, self._train.examples, state.amendments).at(weights.steps))
                trainer.members.begin(workers)
                drop_later_figures(self.directory, state)
                self._tell_started(trainer, resumed=True)
                trainer.train()
            self._write_trained(weights, manager.state)

    def _write_trained(self, weights: Weights, state: RunState) -> None:
        """Writes the model, and what it must know of its data to be given new examples."""
        write_trained(self.directory, self._program(), weights)
        train = self._train
        known = {"run": state.run, "parameters": state.parameters}
        write_configuration(self.directory.path, self.inputs.model)
        describe_run(self.recipe, train.fields, train.info, **known).write(self.directory.path / INFERENCE)

    def _remember_places(self) -> None:
        """Writes down where the data and the code are now, once the data have been found to be the run's."""
        before, now = self.directory.settings(), self.inputs.settings
        after = msgspec.structs.replace(before, code=now.code, source=now.source, test=now.test)
        if after != before:
            self.directory.write_settings(after)

    def _ask_for(self, workers: int) -> None:
        """Has the recipe of a run that has not begun ask for so many workers.

        Raises:
            UsageError: too few.
        """
        settings = self.inputs.settings
        cheats = {number: cheat for number, cheat in settings.cheats.items() if int(number) < workers}
        settings = msgspec.structs.replace(settings, cheats=cheats)
        self.inputs = msgspec.structs.replace(self.inputs, settings=settings)
        self._change(with_workers(self.recipe, workers))

    def _change(self, recipe: Recipe) -> None:
        """Takes another recipe before the first entry, and the optimiser whose schedule ends with its rounds."""
        self.recipe = recipe
        self.inputs = msgspec.structs.replace(self.inputs, optimizer=recipe_optimizer(recipe, self._train.examples))

    def _evaluator(self) -> Evaluator:
        return Evaluator.of(self.inputs.model, self.inputs.loss, self.inputs.metrics, self.inputs.data)

    def _program(self) -> Program:
        program = Program.from_bytes(self.directory.document(PROGRAM))
        validate(program, examples=task_examples(self.recipe, self._train.examples))
        return program

    # -- both --------------------------------------------------------------------------------------------------------

    def _trainer(
        self, manager: Manager, weights: Weights, engine: Engine, program: Program, tree: Tree, store: LogStore
    ) -> Trainer:
        evaluator = msgspec.structs.replace(self._evaluator(), examples=batch_examples(program))
        ending, registry = self._ending, Registry(self.directory.path)
        ending.listener = deciding(self.recipe, self.directory, program, weights, store, ending.listener)
        return Trainer(
            recipe=self.recipe,
            directory=self.directory,
            manager=manager,
            weights=weights,
            engine=engine,
            held=registry.held,
            operator=registry.operator,
            referee=self._executor(program),
            dataset=self._train,
            tree=tree,
            store=store,
            key=self.directory.manager_key(),
            evaluator=evaluator,
            ending=ending,
            least_examples=least_examples(program)[0] * self.recipe.training.local_steps,
            witnesses=WitnessAsker.of_run(self.recipe, self.directory.cosignatures, store),
        )

    def _tell_started(self, trainer: Trainer, *, resumed: bool) -> None:
        self.trainer = trainer
        state = trainer.manager.state
        self._listener(
            ev.Started(
                run=state.run.hex(),
                path=str(self.directory.path),
                workers=state.active_count,
                processes=trainer.engine.processes,
                parameters=sum(v.numel() for n, v in trainer.weights.views.items() if n.startswith("param:")),
                examples=self._train.examples,
                epochs=state.epochs,
                rounds=state.round + trainer.rounds_left(),
                resumed=resumed,
            )
        )

    @property
    def _train(self) -> Dataset:
        return self.inputs.data.train

    def _executor(self, program: Program) -> TaskExecutor:
        training = self.recipe.training
        return TaskExecutor(program, training.local_steps, training.local_lr)

    def _job(self, program: Program) -> Job:
        training = self.recipe.training
        return Job(
            directory=self.directory.path,
            key=self.directory.manager_key(),
            seeds=self.directory.worker_seeds(),
            workers=training.workers,
            program=program,
            fields=list(self._train.fields),
            batch_size=min(training.batch_size, self._train.examples),
            local_steps=training.local_steps,
            local_lr=training.local_lr,
            task_examples=task_examples(self.recipe, self._train.examples) * training.local_steps,
        )
