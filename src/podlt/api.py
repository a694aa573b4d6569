"""The public functions: train a recipe, go on with a run, and what comes back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
import torch
from safetensors.torch import load_file
from torch import nn

from podlt.engine.interface import Workplace
from podlt.errors import UsageError
from podlt.execution.task_executor import one_thread
from podlt.manager import events as ev
from podlt.manager.cheats import choose_cheaters
from podlt.manager.data_source import at_path, refuse_named, without_places
from podlt.manager.directory import Entropy, RunDirectory, Settings
from podlt.manager.metrics import load_state
from podlt.manager.resume import check_files, replay_log
from podlt.manager.setup import Clock, Session, wall_clock
from podlt.protocol.ledger import Account
from podlt.recipe import Recipe, check, load_recipe
from podlt.store.address import for_new_run


class Result(msgspec.Struct, frozen=True):
    """What a run came to.

    Attributes:
        run: its directory; module: the user's module with the trained parameters; metrics: on the test set, after
            the last epoch; rounds: how many there were; evicted: workers that cheated; ledger: every worker's credits;
            treasury: the manager's own account; parameters: digest of the final parameters.
    """

    run: Path
    module: nn.Module
    metrics: dict[str, float]
    rounds: int
    evicted: list[int]
    ledger: Mapping[int, Account]
    treasury: int
    parameters: bytes

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """The trained module's state."""
        return self.module.state_dict()


def train(
    recipe: Recipe | Path | str,
    *,
    run: Path | str | None = None,
    model: nn.Module | None = None,
    cheats: Sequence[str] = (),
    processes: int = 0,
    listener: ev.Listener = ev.ignore,
    cache: Path | None = None,
    entropy: Entropy = secrets.token_bytes,
    clock: Clock = wall_clock,
    place: Workplace | None = None,
    engine: Literal["local", "ray"] = "local",
    ray: str = "",
    ray_resources: Mapping[str, float] | None = None,
    store: str = "",
) -> Result:
    """Trains a recipe over many workers, with the proof.

    Args:
        recipe: a `Recipe`, or the path of a TOML file; relative paths in it start from the file's folder.
        run: the directory to make; by default runs/NAME-TIME here.
        model: the module itself, instead of the recipe's `module:callable` (which is then only a name). Its
            parameters are those that the run begins with; the run's recipe names their digest.
        cheats: workers that cheat, such as "3:sign-flip": for demonstrations and tests.
        processes: how many processes host the workers; 0 for one a core.
        listener: is called with every event of `podlt.manager.events`.
        cache: where prepared data are kept; entropy, clock: where secrets and time come from.
        place: where the workers are; if not told, `engine` says it: processes of this machine, or a Ray cluster, of
            which `ray` is the address and `ray_resources` what an actor takes (see `podlt.engine.ray.workplace`).
        store: the database for the log, postgresql://USER@HOST/DATABASE; by default it is a file of the run.

    Raises:
        UsageError: the recipe, the data or the model cannot be used; says where.
        TooFewWorkersError, DivergedError, StorageError: the run stopped, and can be resumed.
    """
    if engine not in ("local", "ray"):
        raise UsageError(f"engine {engine!r}: expected local or ray (strangers' machines join a podlt manager)")
    base = Path.cwd()
    name = "run"
    if not isinstance(recipe, Recipe):
        path = Path(recipe)
        recipe, base, name = load_recipe(path), path.resolve().parent, path.stem
    check(recipe)
    cheaters = choose_cheaters(cheats, recipe.training.workers, recipe.training.seed)
    settings = Settings(
        processes=processes,
        cheats=cheaters,
        base=str(base),
        engine=engine,
        address=ray,
        resources=dict(ray_resources or {}),
        store=for_new_run(store) if store else "",
    )
    recipe, settings = without_places(recipe, settings)
    path = Path(run) if run is not None else Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    session = Session(
        RunDirectory.new(path),
        recipe,
        settings,
        model=model,
        listener=listener,
        clock=clock,
        cache=cache,
        place=place or _workplace(settings),
    )
    return _run(session, lambda: session.start(entropy))


def resume(
    run: Path | str,
    *,
    workers: int = 0,
    model: nn.Module | None = None,
    processes: int | None = None,
    listener: ev.Listener = ev.ignore,
    cache: Path | None = None,
    entropy: Entropy = secrets.token_bytes,
    clock: Clock = wall_clock,
    place: Workplace | None = None,
    ray: str | None = None,
    ray_resources: Mapping[str, float] | None = None,
    data: Path | str | None = None,
    code: Path | str | None = None,
) -> Result:
    """Resumes a run after the last round that is whole in its log; the bits are those of an undisturbed run.

    Args:
        run: its directory.
        workers: how many workers there shall be at least, besides those that were evicted.
        model: the module itself, as in `train`.
        processes: how many processes host the workers; as before unless given.
        listener: is called with every event of `podlt.manager.events`.
        cache: where prepared data are kept.
        entropy: where secrets come from.
        clock: where the time comes from, in milliseconds.
        place: where the workers are; unless given, where they were: on this machine, or in a Ray cluster.
        ray: the address of the Ray cluster; as before unless given.
        ray_resources: what a Ray actor takes; as before unless given.
        data: where the data are now, if they moved: the source file, or a folder in which the recipe's names are
            looked up. The run remembers it.
        code: the folder of the model's module, if it moved. The run remembers it.

    Raises:
        UsageError: the data, or the model's module, are not where they were.
        InvalidProofError: a file of the run is not what its log says: reported, not repaired.
    """
    directory = RunDirectory.existing(Path(run))
    check_files(directory)
    recipe = Recipe.from_bytes(directory.document("recipe.json"))
    settings = directory.settings()
    if processes is not None:
        settings = msgspec.structs.replace(settings, processes=processes)
    if ray is not None:
        settings = msgspec.structs.replace(settings, address=ray)
    if ray_resources is not None:
        settings = msgspec.structs.replace(settings, resources=dict(ray_resources))
    if data is not None:
        refuse_named(recipe.data)
        found = at_path(recipe.data, Path(data))
        test = str(found.test) if found.test is not None else ""
        settings = msgspec.structs.replace(settings, source=str(found.source), test=test)
    if code is not None:
        if not Path(code).is_dir():
            raise UsageError(f"--code {code}: expected a folder")
        settings = msgspec.structs.replace(settings, code=str(Path(code).absolute()))
    session = Session(
        directory,
        recipe,
        settings,
        model=model,
        listener=listener,
        clock=clock,
        cache=cache,
        place=place or _workplace(settings),
    )
    return _run(session, lambda: session.resume(workers, entropy))


def _workplace(settings: Settings) -> Workplace | None:
    """Where the workers of a run's settings are, if that is neither this machine nor up to whoever calls.

    Raises:
        UsageError: there is no such cluster.
    """
    if settings.engine != "ray":
        return None
    from podlt.engine.ray.workplace import RayCluster

    return RayCluster(settings.address, settings.resources, settings.processes, settings.cheats)


def _run(session: Session, go: Callable[[], None]) -> Result:
    try:
        with one_thread():
            go()
    finally:
        session.directory.unlock()
    return load_result(session.directory.path, session.model)


def load_result(run: Path, module: nn.Module) -> Result:
    """What a run came to, read from its directory; `module` takes the trained parameters."""
    directory = RunDirectory.existing(run)
    with closing(directory.log()) as store:
        state, _, _ = replay_log(store)
    load_state(module, {f"param:{name}": value for name, value in load_file(directory.model).items()})
    return Result(
        run=run,
        module=module,
        metrics={figure.name: figure.value for figure in state.last_measure.figures} if state.last_measure else {},
        rounds=state.round,
        evicted=[number for number, worker in state.workers.items() if worker.status == "evicted"],
        ledger=state.ledger.accounts,
        treasury=state.ledger.treasury,
        parameters=state.parameters,
    )
