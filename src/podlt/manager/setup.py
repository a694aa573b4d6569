"""Starts a run, or goes on with one: everything around the trainer's loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
from torch import nn

from podlt.crypto import HashChain
from podlt.engine.interface import Engine, Job, Workplace
from podlt.engine.local.workplace import LocalMachine
from podlt.errors import UsageError
from podlt.execution.conformance import arithmetic_digest, conformance
from podlt.execution.task_executor import TaskExecutor
from podlt.log.merkle import Tree
from podlt.manager import events as ev
from podlt.manager.capture_inputs import require_lines, tried_lines
from podlt.manager.data_source import find_for_resume
from podlt.manager.directory import Entropy, RunDirectory, Settings
from podlt.manager.leftovers import drop_later_figures, require_untrained, write_trained
from podlt.manager.loop import Trainer
from podlt.manager.metrics import evaluate_all, load_state
from podlt.manager.modules import build_model, code_folder, find_loss
from podlt.manager.resume import check_documents, check_secrets, replay_log, restore_weights
from podlt.manager.roster import Membership
from podlt.manager.weights import Weights, first_digest, recipe_optimizer
from podlt.network.access.registry import Registry
from podlt.program.capture import Captured, capture
from podlt.program.ir import FieldSpec, Program
from podlt.program.layout import state_layout
from podlt.program.preparation import unwrapped
from podlt.program.validate import validate
from podlt.protocol import entries as e
from podlt.protocol.manager import Manager
from podlt.protocol.plan import SETTLEMENT_ROUNDS, most_rounds
from podlt.protocol.rules import RunState
from podlt.recipe import Recipe, check, terms_of
from podlt.store.log_store import LogStore

Clock = Callable[[], int]

MOST_ROUNDS, MANY_ROUNDS = 20_000_000, 1_000_000
"""A secret for each is made when the run begins, and at each resumption: a second for a million. Many are worth a
word."""


def wall_clock() -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 10**6


class Session:
    """One run, from its directory.

    Args:
        directory: locked by this process.
        recipe: as it stands in the directory.
        settings: as they stand in the directory, or as they are to be.
        model: the user's module, when it is given as an object; else the recipe's name is imported.
        listener: is called with every event.
        clock: milliseconds.
        cache: where prepared data are kept.
        place: where the workers are; this machine unless given.
    """

    def __init__(
        self,
        directory: RunDirectory,
        recipe: Recipe,
        settings: Settings,
        *,
        model: nn.Module | None,
        listener: ev.Listener,
        clock: Clock,
        cache: Path | None,
        place: Workplace | None = None,
    ) -> None:
        self.directory, self.recipe = directory, recipe
        self._place = place or LocalMachine(settings.processes, settings.cheats)
        self._listener, self._clock, self._given = listener, clock, model is not None
        begun = directory.path.is_dir() and directory.has_entries()

        def progress(what: str, done: int, total: int | None) -> None:
            listener(ev.Preparing(what=what, done=done, total=total or 0))

        self.data, self.settings = find_for_resume(recipe, settings, directory.path, cache, progress, begun)
        code = code_folder(self.settings, directory.path)
        self.model = unwrapped(model) if model is not None else build_model(recipe, self.data.train.info, code)
        self.loss = find_loss(recipe, code)
        self._optimizer = recipe_optimizer(recipe, self.data.train.lines)

    # -- a new run ---------------------------------------------------------------------------------------------------

    def start(self, entropy: Entropy) -> None:
        """Captures the program, makes keys, writes the first entries, and trains.

        Raises:
            UnsupportedError: the model holds an operation that a program cannot.
        """
        with self.started(entropy) as trainer:
            trainer.train()
            self._finish(trainer.weights)

    @contextmanager
    def started(self, entropy: Entropy) -> Iterator[Trainer]:
        """A new run with its workers joined, about to open its first round."""
        length = self._chain_length()
        self._check_machine()
        self._listener(ev.Preparing(what="capturing the training step"))
        fields = [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in self.data.train.fields]
        with self._place.ready(self.recipe.training.workers) as make:
            captured = self._capture(fields)
            program = captured.program
            validate(program, lines=self.recipe.training.block_lines)
            require_lines(program, self.recipe, self.data.train.lines)
            for notice in captured.notices:
                self._listener(ev.Preparing(what=notice))
            self._name_given(program, captured)
            self._make(program, entropy)
            manager = Manager(RunState(), self._chain(length), self._clock)
            with closing(make(self._job(program))) as engine:
                weights = Weights(program, self._optimizer, engine.state)
                weights.set(captured.state)
                captured.state.clear()
                manager.begin(self._begin(program, weights.digest(), entropy(32), length))
                weights.save(self.directory.checkpoint(0), manager.state.run, self.directory.manager_key())
                with closing(self.directory.log(create=True)) as store:
                    trainer, members = self._trainer(manager, weights, engine, program, Tree(), store)
                    members.begin(self.recipe.training.workers)
                    self._tell_started(trainer, resumed=False)
                    yield trainer

    def _capture(self, fields: list[FieldSpec]) -> Captured:
        """The program, and the parameters that the run begins with."""
        lines = tried_lines(self.recipe, self.data.train)
        arithmetic, most = self.recipe.program_arithmetic, min(self.recipe.training.block_lines, self.data.train.lines)
        return capture(self.model, self.loss, fields, arithmetic, lines, most)

    def _name_given(self, program: Program, captured: Captured) -> None:
        """Has the recipe name the first parameters where no seed gives them, so that its terms bind them.

        Raises:
            UsageError: it names others.
        """
        named = self.recipe.model.parameters
        if not self._given and not named:
            return
        digest = first_digest(program, captured.state).hex()
        if named and named != digest:
            raise UsageError(
                f"model.parameters: the recipe names other first parameters ({named[:16]}...) than the model has "
                f"({digest[:16]}...): give the module that they are of, or leave the field out"
            )
        model = msgspec.structs.replace(self.recipe.model, parameters=digest)
        self.recipe = msgspec.structs.replace(self.recipe, model=model)

    def _make(self, program: Program, entropy: Entropy) -> None:
        """Makes the directory, once nothing that the user gave can be wrong any more."""
        self.directory.make()
        self.directory.lock()
        if self.directory.has_entries():
            raise UsageError(f"{self.directory.path}: another process has just begun a run here")
        self.directory.write_settings(msgspec.structs.replace(self.settings, engine=self._place.name))
        self.directory.write_document("recipe.json", self.recipe.to_bytes())
        self.directory.write_document("program.json", program.to_bytes())
        self.directory.make_keys(self.recipe.training.workers if self._place.keeps_keys else 0, entropy, exactly=True)

    def _begin(self, program: Program, parameters: bytes, nonce: bytes, chain_length: int) -> e.Begin:
        test = self.data.test
        return e.Begin(
            at=self._clock(),
            manager=self.directory.manager_key().public,
            nonce=nonce,
            recipe=self.recipe.digest(),
            program=program.digest,
            arithmetic=arithmetic_digest(program.arithmetic),
            data=self.data.train.digest,
            test=test.digest if test is not None else e.NO_TEST,
            parameters=parameters,
            lines=self.data.train.lines,
            chain_end=self.directory.chain(chain_length).end,
            **msgspec.structs.asdict(terms_of(self.recipe, self.data.train.lines)),
        )

    def weights(self, memory: np.ndarray) -> Weights:
        """The run's parameters and optimiser, over some memory (uint8)."""
        return Weights(self._program(), self._optimizer, memory)

    def _chain(self, length: int) -> HashChain:
        if length > MANY_ROUNDS:
            self._listener(ev.Preparing(what=f"making the secrets of {length:,} rounds"))
        return self.directory.chain(length)

    def _chain_length(self) -> int:
        """How many secrets the run needs at most.

        Raises:
            UsageError: more than a chain can have.
        """
        training = self.recipe.training
        rounds = most_rounds(self.data.train.lines, training.epochs, training.block_lines, training.fragment_lines)
        if rounds > MOST_ROUNDS:
            raise UsageError(
                f"training: {training.epochs:,} epochs are {rounds:,} rounds, and a run has at most {MOST_ROUNDS:,}: "
                "fewer epochs, or larger blocks"
            )
        return rounds + SETTLEMENT_ROUNDS

    # -- a run that goes on ------------------------------------------------------------------------------------------

    def resume(self, workers: int, entropy: Entropy) -> None:
        """Goes on after the last round that is whole in the log; nothing to do if the run is complete.

        A run that was killed before its first entry was written begins anew.

        Args:
            workers: how many there shall be at least, besides those that were evicted; before the first entry, what
                the recipe is to say; 0 for what it says, or for those that come back.

        Raises:
            StorageError: the log is gone, or a file that it names.
            InvalidProofError: log, program, data or a file of the run is not what the log says.
            UsageError: the run's workers are elsewhere.
        """
        if self.settings.engine != self._place.name:
            command = "podlt manager --resume" if self.settings.engine == "nats" else "podlt train --resume"
            raise UsageError(f"the workers of this run are elsewhere: go on with {command} {self.directory.path}")
        self.directory.lock()
        if not self.directory.has_entries():
            require_untrained(self.directory)
            if self._given:  # nobody has seen the parameters of before
                model = msgspec.structs.replace(self.recipe.model, parameters="")
                self.recipe = msgspec.structs.replace(self.recipe, model=model)
            if workers:
                self._ask_for(workers)
            self.start(entropy)
            return
        self._check_machine()
        program = self._program()
        with closing(self.directory.log()) as store:
            state, applied, tree = replay_log(store)
            begin = state.begin
            assert begin is not None
            self._chain(begin.chain_length)
            check_documents(begin, self.directory.document("recipe.json"), program, self.data.train)
            check_secrets(state, self.directory, workers=self._place.keeps_keys)
            self._remember_places()
            if state.closed is not None and state.closed.outcome == "complete":
                weights = self.weights(np.zeros(state_layout(program).nbytes, np.uint8))
                restore_weights(weights, self.directory, state, applied)
                self._finish(weights)
                return
            evicted = sum(worker.status == "evicted" for worker in state.workers.values())
            if self._place.keeps_keys:
                self.directory.make_keys(max(workers + evicted, len(state.workers)), entropy)
            manager = Manager(state, self.directory.chain(begin.chain_length), self._clock)
            with (
                self._place.ready(len(self.directory.worker_seeds())) as make,
                closing(make(self._job(program))) as engine,
            ):
                weights = Weights(program, self._optimizer, engine.state)
                restore_weights(weights, self.directory, state, applied)
                manager.resume()
                trainer, members = self._trainer(manager, weights, engine, program, tree, store)
                members.begin(workers)
                drop_later_figures(self.directory, state)
                self._tell_started(trainer, resumed=True)
                trainer.train()
                self._finish(weights)

    def _remember_places(self) -> None:
        """Keeps where the data and the code are now, once the data have been found to be the run's."""
        before, now = self.directory.settings(), self.settings
        after = msgspec.structs.replace(before, code=now.code, source=now.source, test=now.test)
        if after != before:
            self.directory.write_settings(after)

    def _ask_for(self, workers: int) -> None:
        """Has the recipe of a run that has not begun ask for so many workers.

        Raises:
            UsageError: too few.
        """
        training = msgspec.structs.replace(self.recipe.training, workers=workers)
        self.recipe = msgspec.structs.replace(self.recipe, training=training)
        check(self.recipe)
        cheats = {number: cheat for number, cheat in self.settings.cheats.items() if int(number) < workers}
        self.settings = msgspec.structs.replace(self.settings, cheats=cheats)
        self._optimizer = recipe_optimizer(self.recipe, self.data.train.lines)  # a schedule ends with the rounds

    def _check_machine(self) -> None:
        """Exact arithmetic: the manager averages and referees, so its own bits must be right as well.

        It comes before the workers' processes: they find compiled what would else be compiled by each of them.

        Raises:
            EngineError: this machine computes something else.
        """
        if self.recipe.arithmetic == "exact":
            self._listener(ev.Preparing(what="checking the arithmetic (compiled at its first use, in half a minute)"))
            conformance(self.recipe.program_arithmetic).require("this machine")

    def _program(self) -> Program:
        program = Program.from_bytes(self.directory.document("program.json"))
        validate(program, lines=self.recipe.training.block_lines)
        return program

    # -- both --------------------------------------------------------------------------------------------------------

    def _trainer(
        self, manager: Manager, weights: Weights, engine: Engine, program: Program, tree: Tree, store: LogStore
    ) -> tuple[Trainer, Membership]:
        training = self.recipe.training
        members = Membership(
            manager,
            engine,
            self._listener,
            head=lambda over: trainer.head(over),
            held=Registry(self.directory.path).held,
        )
        trainer = Trainer(
            recipe=self.recipe,
            directory=self.directory,
            manager=manager,
            weights=weights,
            engine=engine,
            members=members,
            referee=TaskExecutor(program, training.local_steps, training.local_lr),
            dataset=self.data.train,
            tree=tree,
            store=store,
            key=self.directory.manager_key(),
            measure=lambda: self._measure(weights),
            listener=self._listener,
        )
        return trainer, members

    def _tell_started(self, trainer: Trainer, *, resumed: bool) -> None:
        state = trainer.manager.state
        parameters = (v.numel() for n, v in trainer.weights.views.items() if n.startswith("param:"))
        self._listener(
            ev.Started(
                run=state.run.hex(),
                path=str(self.directory.path),
                workers=state.active_count,
                processes=trainer.engine.processes,
                parameters=sum(parameters),
                lines=self.data.train.lines,
                epochs=self.recipe.training.epochs,
                rounds=state.round + trainer.rounds_left(),
                resumed=resumed,
            )
        )

    def _finish(self, weights: Weights) -> None:
        write_trained(self.directory, self._program(), weights)

    def _measure(self, weights: Weights) -> dict[str, float]:
        if self.data.test is None:
            return {}
        load_state(self.model, weights.views)
        return evaluate_all(self.model, self.loss, self.data.test)

    def _job(self, program: Program) -> Job:
        training = self.recipe.training
        return Job(
            directory=self.directory.path,
            key=self.directory.manager_key(),
            seeds=self.directory.worker_seeds(),
            workers=training.workers,
            program=program,
            fields=list(self.data.train.fields),
            block_lines=min(training.block_lines, self.data.train.lines),
            local_steps=training.local_steps,
            local_lr=training.local_lr,
        )
