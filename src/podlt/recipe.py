"""A recipe: everything that fixes a run's bits and rules. A TOML file, or the same as Python objects.

A recipe names the user's model as `module:callable`; only the manager imports it. Its digest stands in the first entry
of the run's log.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from podlt import canonical, crypto
from podlt.data.spec import DataSpec, from_document
from podlt.errors import InvalidProofError, UsageError
from podlt.log.notes import WitnessKey
from podlt.protocol.options import CLASSIC, GUARDED, MILLION, MOST_CLIP, MOST_ESCROW, FirstFault, Preset, RuleOptions
from podlt.protocol.plan import RoundCut
from podlt.recipe_faults import in_words

SIMULATED = "simulated"
"""What the recipe of a simulated run names as its data."""

Positive = Annotated[int, Meta(ge=1, le=2**40)]
Whole = Annotated[int, Meta(ge=0, le=2**40)]


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`name` is `module:callable`; it is called with `args` and returns an `nn.Module`.

    An argument written "@name" is taken from what the data say of themselves (`podlt data describe`), such as
    "@cardinalities" for the sizes of categorical columns.

    The first parameters follow from the seed: `torch.manual_seed(training.seed)`, then the callable. Where the module
    was given as an object instead (`podlt.train(..., model=module)`), `parameters` is their digest, in hexadecimal.
    """

    name: str
    args: dict[str, Any] = {}
    parameters: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""


class LossSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name of `podlt.program.losses.NAMED`, or `module:callable` taking (model, *batch)."""

    name: str = "cross_entropy"


class TrainingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the data are dealt, and to how many.

    With `shard_size` 0 every round deals a whole batch; else each useful worker gets that many examples, and the
    rest of the batch is carried into the next round. With `local_steps` above 1 a worker returns the change of the
    parameters after that many steps at `local_lr`, instead of a gradient; by SGD, or by `local_optimizer`, such as
    `{"name": "adamw", "weight_decay": 0.1}`, whose state begins at zero in every task. With `micro_batch_size` a task
    (or a local step) is executed in pieces of at most that many examples, whose updates are added up
    (`podlt.program.pieces`): it takes the memory of a piece. A batch normalisation's statistics are then those of a
    piece.
    """

    epochs: Positive = 1
    workers: Annotated[int, Meta(ge=1, lt=2**20)] = 50
    batch_size: Positive = 1000
    shard_size: Whole = 0
    seed: Whole = 0
    local_steps: Positive = 1
    local_lr: Annotated[float, Meta(gt=0)] | None = None
    local_optimizer: dict[str, Any] = {}
    micro_batch_size: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    checkpoint_every: Positive = 50
    history: Literal["all", "last"] = "all"


Share = Annotated[float, Meta(ge=0, le=1)]


class ProtocolSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules. What is left out (None) is the preset's default; `classic` takes none of those.

    Args:
        preset: "guarded", or "classic", the seed to the letter: one shard a round gets two spares, and two outvote
            the third.
        checked: share of the shards that a second worker executes as well (0.03).
        own: share of the shards that the manager executes itself (0.02); 0 where it has no means to.
        own_most: how many shards of a round it executes at most (1).
        clip: an update beyond so many times the median norm of its round is scaled down (8); 0: none is.
        first_fault: "suspend" (a worker's first conviction costs its escrow, and it may come back once), or "evict".
        shares: "measured" (a faster worker gets more tasks of a round, where the engine measures), or "equal".
        escrow: how many younger credits of the same worker vest one.
        reward: credits an example.
    """

    preset: Preset = "guarded"
    checked: Share | None = None
    own: Share | None = None
    own_most: Whole | None = None
    clip: Annotated[int, Meta(ge=0, le=MOST_CLIP)] | None = None
    first_fault: FirstFault | None = None
    shares: Literal["measured", "equal"] = "measured"
    escrow: Annotated[int, Meta(ge=0, le=MOST_ESCROW)] = 50
    reward: Whole = 1

    @property
    def options(self) -> RuleOptions:
        """The rules, as the first entry of a run has them."""
        base = CLASSIC if self.preset == "classic" else GUARDED
        given = {name: getattr(self, name) for name in ("own_most", "clip", "first_fault")}
        shares = {name: getattr(self, name) for name in ("checked", "own")}
        given |= {name: None if value is None else round(value * MILLION) for name, value in shares.items()}
        chosen = {name: value for name, value in given.items() if value is not None}
        return msgspec.structs.replace(base, escrow=self.escrow, **chosen)


METRIC_OBJECT = "object:"
"""Before the name of a metric that was given as an object in Python: the recipe names it for the record."""


class StoppingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ends a run early, once a figure has not become better for some evaluations in a row.

    Args:
        figure: such as "val_loss".
        patience: how many evaluations (after each epoch, and every `every_rounds` rounds) may be no better.
        mode: whether smaller or larger is better; "" for what the figure's name says.
        min_delta: by how much a figure must be better.
    """

    figure: str
    patience: Positive = 3
    mode: Literal["min", "max", ""] = ""
    min_delta: Annotated[float, Meta(ge=0)] = 0.0


class EvaluationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is measured after each epoch: on the test part, and (figures named "val_...") on the validation part.

    Args:
        metrics: in addition to the loss: names of `podlt.manager.metrics.named`, or `module:callable` taking (outputs,
            targets) and giving a number. Unless given, what the loss's kind has: accuracy, and auc for two classes.
        every_rounds: measures every so many rounds besides; 0 for after epochs only. The log holds the figures of
            epochs of runs with a test part; all others are in rounds.jsonl and in events, which no entry binds.
        early_stopping: ends the run early.
        keep_best: the figure by which the best parameters so far are kept, in best.safetensors.
        best_mode: as the mode of `early_stopping`.
    """

    metrics: tuple[str, ...] | None = None
    every_rounds: Whole = 0
    early_stopping: StoppingSpec | None = None
    keep_best: str = ""
    best_mode: Literal["min", "max", ""] = ""


class WitnessSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A witness that is asked to cosign the run's tree heads (`podlt witness`); it changes no bit of the model.

    Args:
        key: who it is, as `podlt witness serve` prints it: NAME+ID+KEY.
        url: where it listens.
    """

    key: Annotated[str, Meta(min_length=1, max_length=400)]
    url: Annotated[str, Meta(min_length=1, max_length=2000)]


MOST_WITNESSES = 16


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that fixes a run's bits and rules.

    Args:
        optimizer: `{"name": "sgd" | "adamw", "lr": ..., ...}`, as `podlt.program.optimizer` reads it.
        arithmetic: "exact" gives the same bits on any machine (`podlt.exact`). "stock" is PyTorch's own, one thread:
            equal between workers on one machine only.
        digits: how precise exact products are. "auto": two digits, and four for each row of which two would lose more
            than bfloat16 may. 1 (fastest), 2 and 3 (about 1e-6 of a row's largest value) are the same for all rows.
        torch: the version of PyTorch by which the program was captured: written down when a run begins. A recipe that
            names one already begins with no other.
        witnesses: who cosigns the log as it grows, each a table `[[witnesses]]`.
    """

    data: DataSpec
    model: ModelSpec
    loss: LossSpec = LossSpec()
    optimizer: dict[str, Any] = msgspec.field(default_factory=lambda: {"name": "adamw", "lr": 1e-3})
    training: TrainingSpec = TrainingSpec()
    protocol: ProtocolSpec = ProtocolSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    arithmetic: Literal["stock", "exact"] = "exact"
    digits: Literal["auto", 1, 2, 3] = "auto"
    torch: Annotated[str, Meta(max_length=100)] = ""
    witnesses: Annotated[tuple[WitnessSpec, ...], Meta(max_length=MOST_WITNESSES)] = ()

    @property
    def program_arithmetic(self) -> str:
        """The name that a program gives its arithmetic."""
        return "stock" if self.arithmetic == "stock" else f"exact/{self.digits}"

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        document = {**msgspec.to_builtins(self), "data": self.data.to_document()}
        if self.evaluation == EvaluationSpec():  # younger than the document's form
            del document["evaluation"]
        if self.protocol.shares == "measured":
            del document["protocol"]["shares"]
        if not self.torch:
            del document["torch"]
        if not self.witnesses:
            del document["witnesses"]
        if not self.training.local_optimizer:
            del document["training"]["local_optimizer"]
        if not self.training.micro_batch_size:
            del document["training"]["micro_batch_size"]
        return canonical.to_json(document)

    def digest(self) -> bytes:
        """What the first entry of a run names."""
        return recipe_digest(self.to_bytes())

    @classmethod
    def from_bytes(cls, raw: bytes) -> Recipe:
        """The recipe of a run's directory.

        Raises:
            InvalidProofError: not canonical.
            UsageError: not a recipe.
        """
        return cls.of_document(canonical.from_json(raw), "recipe.json")

    @classmethod
    def of_document(cls, document: Any, where: str) -> Recipe:
        """The recipe that a document, as `to_bytes` makes it, holds.

        Args:
            document: decoded.
            where: what errors begin with.

        Raises:
            UsageError: not a recipe.
        """
        if isinstance(document, dict) and "data" in document:
            document = {**document, "data": from_document(document["data"])}
        return _convert(document, where)


class Terms(msgspec.Struct, frozen=True):
    """What a run's first entry says because its recipe says so (docs/SPEC.md, 3.1); names are those of `Begin`."""

    preset: Preset
    seed: bytes
    epochs: int
    batch_size: int
    shard_size: int
    local_steps: int
    local_lr: float | None
    spares: int
    checked: int
    own: int
    own_most: int
    clip: int
    escrow: int
    first_fault: FirstFault
    reward: int
    chain_length: int


def terms_of(recipe: Recipe, examples: int) -> Terms:
    """The terms of a run: a pure function, worked out by the manager that begins it and by whoever verifies it.

    Args:
        examples: how many the training set has.
    """
    training, protocol = recipe.training, recipe.protocol
    options = protocol.options
    return Terms(
        seed=run_seed(recipe),
        epochs=training.epochs,
        batch_size=training.batch_size,
        shard_size=training.shard_size,
        local_steps=training.local_steps,
        local_lr=training.local_lr if training.local_steps > 1 else None,
        reward=protocol.reward,
        chain_length=cut_of(recipe, examples).most_rounds(training.epochs),
        **msgspec.structs.asdict(options),
    )


def run_seed(recipe: Recipe) -> bytes:
    """What fixes a run's data order, its tasks' randomness, and how many spares each round has."""
    return crypto.digest("seed/1", recipe.training.seed.to_bytes(8, "big"))


def cut_of(recipe: Recipe, examples: int) -> RoundCut:
    """How a run cuts its examples into rounds."""
    return RoundCut(examples, recipe.training.batch_size, recipe.training.shard_size)


def recipe_digest(raw: bytes) -> bytes:
    """The digest of a recipe's canonical bytes."""
    return crypto.digest("recipe/1", raw)


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe from a TOML file.

    Raises:
        UsageError: missing, malformed, or with a field that no recipe has; says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    return _convert(document, str(path))


def with_workers(recipe: Recipe, workers: int) -> Recipe:
    """The recipe for another number of workers.

    Raises:
        UsageError: too few.
    """
    changed = msgspec.structs.replace(recipe, training=msgspec.structs.replace(recipe.training, workers=workers))
    check(changed)
    return changed


def _convert(document: Any, where: str) -> Recipe:
    try:
        recipe = msgspec.convert(document, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {in_words(str(error), Recipe)}") from None
    check(recipe, where)
    return recipe


def check(recipe: Recipe, where: str = "recipe") -> None:
    """Refuses what no run could do.

    Raises:
        UsageError: says which field, and what it may be.
    """
    training = recipe.training
    for number, witness in enumerate(recipe.witnesses):
        try:
            WitnessKey.of_text(witness.key)
        except InvalidProofError as error:
            raise UsageError(f"{where}: witnesses[{number}].key: {error}") from None
    if ":" not in recipe.model.name:
        raise UsageError(f"{where}: model.name: expected module:callable, got {recipe.model.name!r}")
    options = recipe.protocol.options
    if fault := options.fault():
        raise UsageError(f"{where}: protocol: {fault}; leave the others out")
    if training.workers < options.min_workers:
        raise UsageError(
            f"{where}: training.workers: expected at least {options.min_workers} (one and two spares), "
            f'got {training.workers}; protocol.preset = "guarded" takes any number'
        )
    if training.shard_size > training.batch_size:
        raise UsageError(
            f"{where}: training.shard_size: expected at most training.batch_size ({training.batch_size}), "
            f"got {training.shard_size}"
        )
    if training.local_steps > 1 and training.local_lr is None:
        raise UsageError(f"{where}: training.local_steps = {training.local_steps} needs training.local_lr")
    if training.local_optimizer and training.local_steps == 1:
        raise UsageError(f"{where}: training.local_optimizer: is for training.local_steps above 1")
