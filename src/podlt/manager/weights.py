"""The manager's parameters and optimiser: average, apply, save, and come back to the same bits after a crash.

The averaged update of every round is saved as a file, and parameters with the optimiser's state every so many rounds:
any round's parameters are the last checkpoint before it and the updates since, applied again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from msgspec import Meta
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file

from podlt import crypto
from podlt.errors import InvalidProofError, StorageError
from podlt.program.clip import Scale, part_squares, parts_of, scaled, scales_of
from podlt.program.ir import Program
from podlt.program.layout import state_layout, update_layout
from podlt.program.optimizer import Optimizer, Parameter, optimizer_from
from podlt.program.places import ALIGNMENT
from podlt.program.schedule import Horizon
from podlt.program.update import DIVISOR, average, is_finite
from podlt.recipe import Recipe, cut_of
from podlt.store.files import make_whole, read_whole, write_whole

OPTIMIZER = "optimizer:"
SEAL = "podlt"

STEP = 2**22
"""Of how many parameters the optimiser takes a step at once."""


class _Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint's file says apart from its tensors, in one field: safetensors writes several in any order."""

    signature: str
    steps: Annotated[int, Meta(ge=0, lt=2**40)]


class Average(msgspec.Struct, frozen=True):
    """The average of a round's updates.

    Attributes:
        data: uint8 bytes in the update's layout.
        loss: the mean over the round's examples, or over what the loss is a mean over.
        finite: whether all is.
        scales: what was clipped.
        squares: of each shard, how large its gradients are, where anything may be clipped: `clip.mean_square`.
    """

    data: np.ndarray
    loss: float
    finite: bool
    scales: list[Scale] = []
    squares: list[float] = []

    def digest(self) -> bytes:
        """What the round's `apply` entry names."""
        return crypto.blob_digest(self.data.data)


class Weights:
    """Parameters, buffers and optimiser state.

    Args:
        program: whose layouts they follow.
        optimizer: how an average is applied.
        state: uint8 bytes of the state's layout, shared with the workers, changed in place.
    """

    def __init__(self, program: Program, optimizer: Optimizer, state: np.ndarray) -> None:
        self.layout, self.update_layout = state_layout(program), update_layout(program)
        self.state = state[: self.layout.nbytes]
        self.views = self.layout.views(self.state)
        self._optimizer, self._arithmetic = optimizer, program.arithmetic
        self._segments = optimizer.segments(self._parameters())
        self._flat = _floats(self.state, self.layout.section("param:"))
        self._gradient = self.update_layout.section("grad:")
        self._floats = self.update_layout.float_bytes // 4
        place = dict(self.update_layout.items()).get(DIVISOR)
        self._divisor = None if place is None else place.offset // 4
        self.optimizer_state: dict[str, torch.Tensor] = optimizer.init(self._flat.numel())
        self.steps = 0

    def use(self, optimizer: Optimizer) -> None:
        """Takes steps by another optimiser from now on; of its state, what has a name that was there stays."""
        if optimizer is self._optimizer:
            return
        fresh, before = optimizer.init(self._flat.numel()), self.optimizer_state
        self._optimizer, self._segments = optimizer, optimizer.segments(self._parameters())
        self.optimizer_state = {name: before.get(name, value) for name, value in fresh.items()}

    def _parameters(self) -> list[Parameter]:
        """The trained parameters, in the order of the flat vector."""
        base, end = self.layout.section("param:")
        places = [(n.partition(":")[2], place) for n, place in self.layout.items() if n.startswith("param:")]
        stops = [*(place.offset for _, place in places[1:]), end]
        return [
            Parameter(name, len(place.shape), (place.offset - base) // 4, (stop - base) // 4)
            for (name, place), stop in zip(places, stops, strict=True)
        ]

    def set(self, values: Mapping[str, torch.Tensor]) -> None:
        """Takes initial values by name."""
        for name, view in self.views.items():
            view.copy_(values[name])

    @property
    def checkpoint_bytes(self) -> int:
        """How many bytes the tensors of a checkpoint take at most."""
        return self.layout.nbytes + sum(value.nbytes for value in self.optimizer_state.values())

    def digest(self) -> bytes:
        """The digest of the parameters and buffers: what tasks and entries name."""
        return crypto.blob_digest(self.state.data)

    def squares(self, updates: Sequence[np.ndarray], examples: Sequence[int]) -> list[list[float]]:
        """How large the parts of some updates are, for clipping; nothing for a part that has no values.

        Args:
            updates: uint8 bytes in the update's layout.
            examples: of the shard of each.
        """
        values = [update[: 4 * self._floats].view(np.float32) for update in updates]
        parts = [part for part in part_squares(values, examples, self.update_layout) if part]
        return [list(each) for each in zip(*parts, strict=True)]

    def average(
        self,
        updates: Sequence[np.ndarray],
        examples: Sequence[int],
        clip: int,
        squares: Sequence[Sequence[float]] | None = None,
    ) -> Average:
        """The sum of the shards' updates, clipped, over the number of examples, or over their divisors.

        Args:
            updates: uint8 bytes in the update's layout, one a shard, in the shards' order.
            examples: of each shard.
            clip: as in `clip.scales`.
            squares: `squares` of all updates, if they are known.
        """
        data = np.zeros(self.update_layout.nbytes, np.uint8)
        data[4 * self._floats :] = updates[0][4 * self._floats :]  # whole numbers: the first shard's
        out = torch.from_numpy(data[: 4 * self._floats].view(np.float32))
        values = [u[: 4 * self._floats].view(np.float32) for u in updates]
        sizes = self._sizes(values, examples, squares) if clip else [[]]
        found = scales_of(sizes, clip)
        for shard in {scale.shard for scale in found}:
            own = [scale for scale in found if scale.shard == shard]
            values[shard] = scaled(values[shard], self.update_layout, own)
        vectors = [torch.from_numpy(each) for each in values]
        finite = average(vectors, sum(examples), self.update_layout, self._arithmetic, out)
        self.update_layout.clear_gaps(data)  # a cheater may write there, and parameters are stored without gaps
        return Average(data, float(out[0]), finite, found, sizes[0])

    def _sizes(
        self, values: Sequence[np.ndarray], examples: Sequence[int], known: Sequence[Sequence[float]] | None
    ) -> list[list[float]]:
        """`part_squares`, from what is known of each update if it is."""
        if known is None:
            return part_squares(values, examples, self.update_layout)
        each = iter(zip(*known, strict=True))
        return [list(next(each)) if place.start < place.stop else [] for place in parts_of(self.update_layout)]

    def is_finite(self, update: np.ndarray) -> bool:
        """Whether all float values of an update are finite."""
        return is_finite(torch.from_numpy(update[: self.update_layout.float_bytes].view(np.float32)))

    def odd_divisors(self, updates: Sequence[np.ndarray], examples: Sequence[int], clip: int) -> list[int]:
        """Shards whose divisor is negative or, an example, far above the others': one such could undo a whole round.

        Args:
            updates: uint8 bytes in the update's layout, one a shard.
            examples: of each shard.
            clip: how many times the median a divisor may be; 0: any.
        """
        if self._divisor is None:
            return []
        place = slice(4 * self._divisor, 4 * self._divisor + 4)
        each = [float(u[place].view(np.float32)[0]) / count for u, count in zip(updates, examples, strict=True)]
        positive = sorted(value for value in each if value > 0)
        limit = clip * positive[(len(positive) - 1) // 2] if clip and positive else math.inf
        return [shard for shard, value in enumerate(each) if not 0 <= value <= limit]

    def apply(self, data: np.ndarray, seen: int) -> None:
        """Applies an average: one step of the optimiser, and the buffers' new values.

        Part by part, as what the optimiser needs in addition is as long as what it is given; each element is its own.

        Args:
            data: uint8 bytes in the update's layout, finite.
            seen: examples that were seen before the round, in all epochs.
        """
        gradient = _floats(data, self._gradient)
        factor, scale = self._optimizer.factor(seen), self._optimizer.scale(gradient)
        for segment in self._segments:
            for start in range(segment.start, segment.stop, STEP):
                part = slice(start, min(start + STEP, segment.stop))
                state = {name: value[part] for name, value in self.optimizer_state.items()}
                change = gradient[part] if scale == 1.0 else gradient[part] * scale
                segment.rule.step(self._flat[part], change, state, self.steps, factor)
        for name, view in self.update_layout.views(data).items():
            if name.startswith("buffer:"):
                self.views[name].copy_(view)
        self.steps += 1

    def infinite(self) -> str:
        """What has a value that is infinite or not a number: the parameters, or the optimiser's state; "" if nothing.

        A second moment that overflows makes every further step of its parameter zero, without a word.
        """
        if not is_finite(self._flat):
            return "the parameters are"
        found = next((name for name, value in self.optimizer_state.items() if not is_finite(value)), "")
        return f"the optimiser's state ({found}) is" if found else ""

    def save(self, path: Path, run: bytes, key: crypto.SigningKey) -> None:
        """Writes a checkpoint of a run, signed by its manager.

        The log names the parameters after every round, but not the optimiser's state: the signature covers both.

        Raises:
            StorageError: it could not be written.
        """
        tensors = self.views | {OPTIMIZER + name: value for name, value in self.optimizer_state.items()}
        seal = {"signature": key.sign("checkpoint/1", self._whole(run)).hex(), "steps": self.steps}
        write_tensors(path, tensors, {SEAL: json.dumps(seal)})

    def load(self, path: Path, run: bytes, manager: bytes) -> None:
        """Takes a checkpoint.

        Args:
            path: of the checkpoint.
            run: whose it must be.
            manager: the public key that must have signed it.

        Raises:
            StorageError: it cannot be read.
            InvalidProofError: it is none of this run, or was changed.
        """
        try:
            with safe_open(path, framework="pt") as file:
                self._take(file.get_tensor, set(file.keys()), file.metadata() or {}, str(path), run, manager)
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None
        except SafetensorError as error:
            raise InvalidProofError(f"{path}: is no checkpoint: {error}; the run's directory was changed") from None

    def load_bytes(self, raw: bytes, where: str, run: bytes, manager: bytes) -> None:
        """Takes a checkpoint's bytes, in their one encoding. Arguments and errors as `load`.

        Args:
            raw: the file's bytes.
            where: what to call it in messages.
            run: whose it must be.
            manager: the public key that must have signed it.
        """
        try:
            tensors = load(raw)
            header = msgspec.json.decode(raw[8 : 8 + int.from_bytes(raw[:8], "little")], type=dict[str, Any])
            metadata = msgspec.convert(header.get("__metadata__", {}), dict[str, str])
            canonical = save(tensors, metadata) == raw
        except (SafetensorError, KeyError, ValueError, TypeError, msgspec.DecodeError) as error:
            raise InvalidProofError(f"{where}: is no checkpoint: {error}") from None
        self._take(tensors.__getitem__, set(tensors), metadata, where, run, manager)
        if not canonical or set(metadata) != {SEAL}:
            raise InvalidProofError(f"{where}: is not in its one encoding")

    def _take(
        self,
        get: Callable[[str], torch.Tensor],
        names: Set[str],
        metadata: Mapping[str, str],
        where: str,
        run: bytes,
        manager: bytes,
    ) -> None:
        expected = {*self.views, *(OPTIMIZER + name for name in self.optimizer_state)}
        if names != expected:
            raise InvalidProofError(f"{where}: not a checkpoint of this run", expected=expected, actual=names)
        for name, view in self.views.items():
            _take(view, get(name), f"{where}: {name}")
        for name, value in self.optimizer_state.items():
            _take(value, get(OPTIMIZER + name), f"{where}: {name}")
        try:
            seal = msgspec.json.decode(metadata[SEAL], type=_Seal)
            self.steps, signature = seal.steps, bytes.fromhex(seal.signature)
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            raise InvalidProofError(f"{where}: is no checkpoint: {error}; the run's directory was changed") from None
        if not crypto.is_signed(manager, "checkpoint/1", self._whole(run), signature):
            raise InvalidProofError(f"{where}: is not what the manager signed; the run's directory was changed")

    def _whole(self, run: bytes) -> bytes:
        """The digest of everything that a checkpoint holds."""
        optimizer = [value.numpy().view(np.uint8).data for _, value in sorted(self.optimizer_state.items())]
        steps = self.steps.to_bytes(8, "big")
        return crypto.digest("checkpoint/1", run, steps, self.digest(), *map(crypto.blob_digest, optimizer))

    def is_fresh(self) -> bool:
        """Whether the optimiser is as before the first step: a checkpoint of the start that says more is a lie."""
        first = self._optimizer.init(self._flat.numel())
        same = all(torch.equal(value, first[name]) for name, value in self.optimizer_state.items())
        return same and self.steps == 0

    def refresh(self) -> None:
        """Puts the optimiser back to before the first step."""
        self.optimizer_state = self._optimizer.init(self._flat.numel())
        self.steps = 0

    def replay(self, path: Path, update: bytes, parameters: bytes, seen: int) -> np.ndarray:
        """Applies the update of a past round again, and checks it against the log.

        Args:
            path: the file of the averaged update.
            update: the digest that the log has of it.
            parameters: the digest that the log has of the parameters after it.
            seen: as in `apply`.

        Returns:
            The averaged update.

        Raises:
            StorageError: the file is missing.
            InvalidProofError: the file or the result is not what the log says.
        """
        data = np.frombuffer(bytearray(read_whole(path, self.update_layout.nbytes)), np.uint8)
        if len(data) != self.update_layout.nbytes or crypto.blob_digest(data.data) != update:
            raise InvalidProofError(f"{path}: is not the update that the log names; the run's directory was changed")
        self.apply(data, seen)
        if self.digest() != parameters:
            raise InvalidProofError(f"{path}: applied again gives other parameters than the log names")
        return data


def first_digest(program: Program, state: Mapping[str, torch.Tensor]) -> bytes:
    """The digest of parameters and buffers, by name, as `begin.parameters` has it; without a copy of them all."""
    hasher = crypto.BlobHasher()
    for name, place in state_layout(program).items():
        values = state[name].detach().contiguous().reshape(-1).view(torch.uint8)
        hasher.update(values.numpy().data)
        hasher.update(bytes(-place.nbytes % ALIGNMENT))
    return hasher.digest()


def recipe_optimizer(recipe: Recipe, examples: int) -> Optimizer:
    """The optimiser that a recipe names; a schedule without `steps` ends with the run's last epoch.

    Args:
        examples: of the training set.

    Raises:
        UsageError: an unknown optimiser, or a value out of its range.
    """
    training = recipe.training
    options = recipe.protocol.options
    per_round = cut_of(recipe, examples).next_examples(0, training.workers - options.least_spares(training.workers))
    return optimizer_from(recipe.optimizer, Horizon(examples, training.epochs, per_round))


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a file of tensors from where they are, without a copy of them.

    Raises:
        StorageError: it could not be written.
    """

    def make(path: Path) -> None:
        try:
            save_file(dict(tensors), path, dict(metadata) if metadata is not None else None)
        except SafetensorError as error:
            raise StorageError(f"{path}: cannot be written: {error}") from None

    make_whole(path, make)


def write_update(path: Path, data: np.ndarray) -> None:
    """Keeps the averaged update of a round."""
    write_whole(path, data.data)


def _floats(data: np.ndarray, section: tuple[int, int]) -> torch.Tensor:
    """The float32 values between two byte offsets, without a copy."""
    start, stop = section
    return torch.from_numpy(data[start:stop].view(np.float32))


def _take(view: torch.Tensor, value: torch.Tensor, where: str) -> None:
    if view.shape != value.shape or view.dtype != value.dtype:
        found: Any = (value.dtype, tuple(value.shape))
        raise InvalidProofError(f"{where}: another shape", expected=(view.dtype, tuple(view.shape)), actual=found)
    view.copy_(value)
