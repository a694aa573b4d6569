"""A tokenizer of the package `tokenizers`: a tokenizer.json, or the folder of a Hugging Face model that holds one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from podlt.data.fetch import file_sha256
from podlt.data.spec import DataSpec
from podlt.errors import DataError, UsageError
from podlt.extras import needed_by

FILE_NAME = "tokenizer.json"
_SEPARATORS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
"""What ends a document, by the usual names, where a model's folder does not say."""

_PADDINGS = ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<|endoftext|>", "</s>")


@dataclass(frozen=True)
class Encoded:
    """Some texts of one length.

    Attributes:
        ids: int64[n, length], padded.
        mask: int64[n, length], 1 for a token and 0 for padding.
        cut: how many were longer.
    """

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.int64]
    cut: int


class TextEncoder:
    """Turns texts into the numbers of tokens.

    Args:
        name: the file or folder, as the user gave it.
        path: where the tokenizer.json is.

    Raises:
        DataError: not a readable tokenizer.
        MissingPackageError: the package `tokenizers` is not installed.
    """

    def __init__(self, name: str, path: Path) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise needed_by("a text with a tokenizer", error) from None
        self._name, self._path = name, path
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises no narrower one
            raise DataError(name, None, f"not a readable {FILE_NAME}: {error}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @property
    def size(self) -> int:
        """How many tokens there are: one more than the highest number."""
        return int(max(self._tokenizer.get_vocab(with_added_tokens=True).values())) + 1

    def info(self) -> dict[str, Any]:
        """What to keep of it in `Dataset.info`."""
        found = {"name": f"{self._path.parent.name}/{self._path.name}", "sha256": file_sha256(self._path)}
        return {"tokenizer": found, "vocabulary_size": self.size}

    def separator(self, given: str | None) -> int | None:
        """The number of the token after each document; None for no such token.

        Args:
            given: the token's text; "" for none; None for what the tokenizer's folder says, or a usual name.

        Raises:
            UsageError: the tokenizer has no such token, or none that is known.
        """
        if given == "":
            return None
        wanted = [given] if given is not None else [self._configured("eos_token"), *_SEPARATORS]
        number = self._first_known(wanted)
        if number is None and given is not None:
            raise UsageError(f"data: separator: {self._name} has no token {given!r}")
        if number is None:
            raise UsageError(
                f'data: {self._name}: name the token between documents: separator = "TOKEN", or "" for none'
            )
        return number

    def stream(self, texts: Sequence[str], separator: int | None) -> npt.NDArray[np.uint32]:
        """Texts as tokens in a row, uint32[n], each with the separator after it, and no other special token."""
        tail = [] if separator is None else [separator]
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return np.concatenate([np.array([*entry.ids, *tail], np.uint32) for entry in found])

    def padded(self, texts: Sequence[str], length: int) -> Encoded:
        """Texts with the special tokens of the tokenizer around each, cut or padded to one length.

        Raises:
            UsageError: a text must be padded, but the tokenizer has no token for it.
        """
        self._tokenizer.no_truncation()
        entries = self._tokenizer.encode_batch_fast(list(texts))
        cut = sum(len(entry.ids) > length for entry in entries)
        if cut:  # again: special tokens at the end stay
            self._tokenizer.enable_truncation(length)
            entries = self._tokenizer.encode_batch_fast(list(texts))
        padding = self._padding() if any(len(entry.ids) < length for entry in entries) else 0
        ids = np.full((len(texts), length), padding, np.int64)
        mask = np.zeros((len(texts), length), np.int64)
        for row, entry in enumerate(entries):
            ids[row, : len(entry.ids)] = entry.ids
            mask[row, : len(entry.ids)] = 1
        return Encoded(ids, mask, cut)

    def _padding(self) -> int:
        number = self._first_known([self._configured("pad_token"), *_PADDINGS])
        if number is None:
            raise UsageError(f"data: {self._name}: the tokenizer has no token to pad with")
        return number

    def _first_known(self, tokens: Sequence[str | None]) -> int | None:
        numbers = (self._tokenizer.token_to_id(token) for token in tokens if token)
        return next((number for number in numbers if number is not None), None)

    def _configured(self, key: str) -> str | None:
        """A special token by its role, as the folder's configuration has it."""
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            try:
                token = json.loads((self._path.parent / name).read_text(encoding="utf-8")).get(key)
            except (OSError, ValueError, AttributeError):
                continue
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                return token
        return None


def find_tokenizer(spec: DataSpec, base: Path) -> Path:
    """Where the tokenizer.json of a recipe is: below the folder of relative paths, or around the data.

    Args:
        spec: names it.
        base: the folder that relative paths start from.

    Raises:
        DataError: it is nowhere.
    """
    assert spec.tokenizer is not None
    wanted = Path(spec.tokenizer).expanduser()
    source = (base / Path(spec.source).expanduser()).absolute()
    for folder in (base, *source.parents):
        for place in (folder / wanted, folder / wanted.name):
            found = next((path for path in (place, place / FILE_NAME) if path.is_file()), None)
            if found is not None:
                return found
    raise DataError(spec.tokenizer, None, f"no such file, and no folder with a {FILE_NAME} in it")
