"""What a recipe says about its data: the `[data]` table."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Column = str | Annotated[int, Meta(ge=0)]
"""A column of a table: its name, or its number from 0 where a file has no header."""

MAX_CLASSES = 2**18
"""The most classes, and the most different values of one categorical column."""

_YOUNGER = (
    "validation_fraction",
    "split",
    "seed",
    "dates",
    "missing",
    "size",
    "channels",
    "tokenizer",
    "text",
    "window",
    "max_length",
    "separator",
    "shift",
)

Positive = Annotated[int, Meta(ge=1)]
Extent = Annotated[int, Meta(ge=1, le=2**14)]


class DataSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the examples come from and what is in them. Fields that a kind of source has no use for are refused.

    Attributes:
        source: a named set (digits, mnist, fashion, census, austen), or a path to a .csv, .parquet, .jsonl, .txt or
            .npz file, or to a folder of images with one sub-folder a class. A relative path is resolved by `prepare`.
        test: a file of the same form to test on. Named sets bring their own.
        test_fraction: without a test file, the part of the source that is held out, in [0, 1).
        validation_fraction: a second part that is held out, in [0, 1), to choose a model by.
        split: which examples are held out: "random" draws them by `seed`, each class in its proportion; "last" takes
            those at the end, as for a series in time. Texts are always cut at the end.
        seed: draws the examples that are held out, and the order in which those to train on are stored.
        limit: use only the first so many examples of the source (before anything is held out).
        test_limit: use only the first so many examples of the test part.
        label: the column, or the array of an npz, that is to be predicted.
        target: whether the label is one of a set of classes, or a number.
        classes: the classes: how many (labels are 0..n-1) or their names in order; found in the data unless given.
        positive: for two classes: the label value that is class 1, every other value being class 0.
        numeric: tables: the columns of numbers. Not given: every column that is named nowhere else.
        categorical: tables: the columns of texts with a code each.
        dates: tables: columns of ISO 8601 dates or times, taken as numbers of days since 1970.
        drop: tables: columns to leave out.
        missing: tables: what becomes of a missing value (an empty text, null, or what pandas reads as NaN). "error"
            refuses it; "drop" leaves its example out; "mean" takes the mean of the training examples for a number, and
            a category of its own for a text; "category" does so for a text, and refuses a number. A missing label is
            refused, unless its example is dropped.
        standardise: shift and scale each number to mean 0 and deviation 1 (of the training examples). Tables: each
            numeric column, unless it is false. npz: each place of every array of floats, if it is true.
        delimiter: csv: the separator of columns, one character.
        header: csv: whether the first example names the columns.
        inputs: npz: the arrays that the model is given, [examples, ...] each.
        scale: npz: what the inputs are to be multiplied by, such as 1/255 for bytes.
        size: folder of images: the height and width to which each is resized; not given: all must have the same.
        channels: folder of images: 1 for grey, 3 for colours, 4 with transparency; not given: 3.
        context: txt: characters that the model sees; an example is a window of context + 1 characters.
        tokenizer: txt and tables: a tokenizer.json of the package `tokenizers`, or a folder with one. Texts become
            windows of tokens; with `max_length`, a text with its label is one line.
        text: tables: the column of texts that are tokenized.
        window: tokens that the model sees, 128 unless given; documents are packed one after another.
        max_length: of a text that is classified, in tokens: longer ones are cut, shorter ones padded.
        separator: the token after each document; "" for none; unless given, the tokenizer's end of text.
        shift: whether the labels of a window are the next tokens, as a loss on logits needs them; if false they are
            the tokens themselves, as Hugging Face's models want them, which shift them.
    """

    source: Annotated[str, Meta(min_length=1)]
    test: str | None = None
    test_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    validation_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    split: Literal["random", "last"] = "random"
    seed: Annotated[int, Meta(ge=0, lt=2**62)] = 0
    limit: Positive | None = None
    test_limit: Positive | None = None
    label: Column | None = None
    target: Literal["class", "number"] = "class"
    classes: Annotated[int, Meta(ge=1, le=MAX_CLASSES)] | tuple[str, ...] | None = None
    positive: str | None = None
    numeric: tuple[Column, ...] | None = None
    categorical: tuple[Column, ...] = ()
    dates: tuple[Column, ...] = ()
    drop: tuple[Column, ...] = ()
    missing: Literal["error", "drop", "mean", "category"] = "error"
    standardise: bool | None = None
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    header: bool = True
    inputs: tuple[str, ...] = ()
    scale: Annotated[float, Meta(gt=0, le=1e30)] | None = None
    context: Annotated[int, Meta(ge=1, le=2**16)] | None = None
    size: tuple[Extent, Extent] | None = None
    channels: Literal[1, 3, 4] | None = None
    tokenizer: Annotated[str, Meta(min_length=1)] | None = None
    text: Column | None = None
    window: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    max_length: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    separator: str | None = None
    shift: bool | None = None

    def to_document(self) -> dict[str, Any]:
        """As a recipe's canonical document holds it, so that the digest of a recipe never changes.

        A field that is younger than the document's form is there only where it is set. `standardise` is true where it
        is not given, as it was before arrays could be standardised, and "arrays" where that is asked for.
        """
        document: dict[str, Any] = msgspec.to_builtins(self)
        plain = DataSpec(self.source)
        for name in _YOUNGER:
            if getattr(self, name) == getattr(plain, name):
                del document[name]
        arrays = self.standardise and self.source.lower().endswith(".npz")
        document["standardise"] = "arrays" if arrays else self.standardise is not False
        return document

    def changed(self) -> set[str]:
        """The names of the fields that differ from their defaults, `source` left out."""
        plain = DataSpec(self.source)
        return {name for name in self.__struct_fields__ if getattr(self, name) != getattr(plain, name)}


def from_document(document: Any) -> Any:
    """What `DataSpec.to_document` made, as builtins to be converted to a `DataSpec`; anything else as it is."""
    if not isinstance(document, dict):
        return document
    found = document.get("standardise")
    given = None if found is True else True if found == "arrays" else found
    return {**document, "standardise": given}
