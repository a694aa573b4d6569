"""A trained model as a folder for others: the model, what inference needs, and other libraries' own forms of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from podlt.errors import StorageError, UsageError
from podlt.inference.description import FILE, Description, last_part
from podlt.inference.onnx import NAME as ONNX
from podlt.inference.onnx import write_onnx
from podlt.model_file import BUFFERS, MODEL


class ExportReport(msgspec.Struct, frozen=True):
    """What went into a folder.

    Attributes:
        folder: where it is.
        files: their names, sorted.
        notes: what a person should know, a sentence each.
    """

    folder: Path
    files: list[str]
    notes: list[str]


def write_export(
    source: Path, target: Path, description: Description, module: nn.Module | None, *, onnx: bool = False
) -> ExportReport:
    """Writes the folder.

    Args:
        source: the run's directory, with its model.
        target: a folder that is empty or not there yet.
        description: of the run.
        module: with the trained parameters; None where the recipe's code is not here.
        onnx: whether to add the forward pass as ONNX.

    Raises:
        UsageError: there is something already, or `onnx` without the module.
        UnsupportedError: PyTorch cannot export the forward pass.
        StorageError: a file cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: there is something already: choose another folder")
    notes = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        saves = getattr(module, "save_pretrained", None)
        if callable(saves):
            saves(target)
            _take_places_out(target)
        if not (target / MODEL).exists():
            for name in (MODEL, BUFFERS):
                if (source / name).is_file():
                    shutil.copyfile(source / name, target / name)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror or error}") from None
    description.write(target / FILE)
    if onnx:
        if module is None:
            raise UsageError("ONNX needs the module: give --model MODULE:CALLABLE, or model= in Python")
        write_onnx(target / ONNX, description, module)
    if module is None:
        notes.append("the module is not here: only its parameters and what inference needs were written")
    return ExportReport(target, sorted(path.name for path in target.iterdir()), notes)


def _take_places_out(folder: Path) -> None:
    """Leaves of paths in a library's own JSON only the last part: where a model came from here is nobody's business."""
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        plain = _plain(document)
        if plain != document:
            path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _plain(item: Any) -> Any:
    if isinstance(item, Mapping):
        return {key: _named(value) if key.endswith("name_or_path") else _plain(value) for key, value in item.items()}
    return [_plain(value) for value in item] if isinstance(item, list) else item


def _named(value: Any) -> Any:
    return last_part(value) if isinstance(value, str) else value
