"""A row of the corpus: a module as its users write it, a loss, and examples of data that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from podlt.program.ir import FieldSpec
from podlt.program.step import Loss

Examples = Mapping[str, torch.Tensor]

EXAMPLES = 8
"""How many examples a row has; they differ in length and in labels, as examples of real data do."""


@dataclass(frozen=True)
class Row:
    """A module of the corpus.

    Attributes:
        family: where it comes from: a heading of the table.
        name: its own, unique.
        make: builds the module, freshly initialised.
        examples: `EXAMPLES` examples, by field; a field whose name begins with "label" or is "y" is a label.
        loss: as its users give it.
        precise: whether 20 steps in `exact/2` stay beside eager; else those in PyTorch's arithmetic are held to it.
        refused: words of the refusal that is right for it; "" if it trains.
        needs: what must be installed: names of packages.
        lr: of the 20 steps of SGD beside eager.
    """

    family: str
    name: str
    make: Callable[[], nn.Module]
    examples: Callable[[], dict[str, torch.Tensor]]
    loss: Loss
    refused: str = ""
    precise: bool = True
    needs: tuple[str, ...] = ()
    lr: float = 0.01

    def fields(self) -> list[FieldSpec]:
        """The fields of its examples."""
        kinds = {torch.float32: "f32", torch.int64: "i64"}
        return [
            FieldSpec(name, kinds[v.dtype], tuple(v.shape[1:]), None, "label" if _is_label(name) else "input")
            for name, v in self.examples().items()
        ]


def _is_label(name: str) -> bool:
    return name == "y" or name.startswith("label")


def generator(seed: int = 0) -> torch.Generator:
    """Where a row's data come from: the same in every run."""
    return torch.Generator().manual_seed(seed)


def images(channels: int, size: int, classes: int) -> Callable[[], dict[str, torch.Tensor]]:
    """Square images with a class each."""
    return lambda: {
        "x": torch.rand((EXAMPLES, channels, size, size), generator=generator()),
        "y": torch.randint(0, classes, (EXAMPLES,), generator=generator(1)),
    }


def numbers(count: int, classes: int = 0) -> Callable[[], dict[str, torch.Tensor]]:
    """Numbers with a class each, or with a number each."""
    label = torch.randint(0, classes, (EXAMPLES,), generator=generator(1)) if classes else None
    return lambda: {
        "x": torch.randn((EXAMPLES, count), generator=generator()),
        "y": torch.randn(EXAMPLES, generator=generator(1)) if label is None else label,
    }


def words(length: int, vocabulary: int, classes: int = 2) -> Callable[[], dict[str, torch.Tensor]]:
    """Words with a class each."""
    return lambda: {
        "x": torch.randint(1, vocabulary, (EXAMPLES, length), generator=generator()),
        "y": torch.randint(0, classes, (EXAMPLES,), generator=generator(1)),
    }


def next_words(length: int, vocabulary: int) -> Callable[[], dict[str, torch.Tensor]]:
    """Windows of a text, and the same moved on by one."""

    def make() -> dict[str, torch.Tensor]:
        text = torch.randint(1, vocabulary, (EXAMPLES, length + 1), generator=generator())
        return {"x": text[:, :-1].contiguous(), "y": text[:, 1:].contiguous()}

    return make


def padded(length: int, vocabulary: int, classes: int = 2) -> Callable[[], dict[str, torch.Tensor]]:
    """Sentences of unlike length as a tokenizer gives them: padding is 0, and has no attention."""

    def make() -> dict[str, torch.Tensor]:
        mask = _mask(length)
        ids = torch.randint(3, vocabulary, (EXAMPLES, length), generator=generator()) * mask
        labels = torch.randint(0, classes, (EXAMPLES,), generator=generator(1))
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    return make


def masked_words(length: int, vocabulary: int) -> Callable[[], dict[str, torch.Tensor]]:
    """Padded sentences with a label for some words, -100 for the others: as masked language models are trained."""

    def make() -> dict[str, torch.Tensor]:
        found = padded(length, vocabulary)()
        ids, mask = found["input_ids"], found["attention_mask"]
        asked = (torch.rand(ids.shape, generator=generator(2)) < 0.3) & mask.bool()
        asked[:, 1] = True
        return {**found, "input_ids": ids.masked_fill(asked, 1), "labels": ids.masked_fill(~asked, -100)}

    return make


def causal_words(length: int, vocabulary: int) -> Callable[[], dict[str, torch.Tensor]]:
    """Padded sentences whose own words are the labels, -100 for padding: as causal language models are tuned."""

    def make() -> dict[str, torch.Tensor]:
        found = padded(length, vocabulary)()
        return {**found, "labels": found["input_ids"].masked_fill(found["attention_mask"] == 0, -100)}

    return make


def translations(length: int, vocabulary: int) -> Callable[[], dict[str, torch.Tensor]]:
    """Padded sentences, and others of unlike length as labels."""

    def make() -> dict[str, torch.Tensor]:
        found = padded(length, vocabulary)()
        labels = torch.randint(3, vocabulary, (EXAMPLES, length - 2), generator=generator(3))
        return {**found, "labels": labels.masked_fill(_mask(length)[:, 2:] == 0, -100)}

    return make


def _mask(length: int) -> torch.Tensor:
    lengths = torch.randint(length // 2, length + 1, (EXAMPLES,), generator=generator(4))
    lengths[0] = length
    return (torch.arange(length) < lengths[:, None]).long()


def mean_loss(of: Callable[..., torch.Tensor]) -> Loss:
    """The loss of a tutorial: of output and label, with PyTorch's default reduction."""
    return lambda model, *batch: of(model(*batch[:-1]), batch[-1])


cross_entropy = mean_loss(functional.cross_entropy)


def own_loss(*names: str) -> Loss:
    """`outputs.loss` of a model of Hugging Face's, given the fields by these names."""

    def loss(model: nn.Module, *batch: torch.Tensor) -> Any:
        return model(**dict(zip(names, batch, strict=True)))

    return loss


def by_name(rows: Sequence[Row]) -> dict[str, Row]:
    """The rows by their names.

    Raises:
        ValueError: two have one name.
    """
    found = {f"{row.family}: {row.name}": row for row in rows}
    if len(found) != len(rows):
        raise ValueError("two rows of the corpus have one name")
    return found
