"""A trained model as a folder for others: the model, what inference needs, and other libraries' own forms of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
from torch import nn

from podlt.errors import StorageError, UsageError
from podlt.inference.description import Description
from podlt.inference.onnx import NAME as ONNX
from podlt.inference.onnx import write_onnx
from podlt.inference.pretrained import save_pretrained
from podlt.store.run_names import BUFFERS, INFERENCE, MODEL


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
    """Writes the folder, whole or not at all.

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
    if onnx and module is None:
        raise UsageError("ONNX needs the module: give --model MODULE:CALLABLE, or model= in Python")
    partial = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _fill(partial, source, description, module, onnx)
        partial.replace(target)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    alone = "the module is not here: only its parameters and what inference needs were written"
    files = sorted(path.name for path in target.iterdir())
    return ExportReport(target, files, [alone] if module is None else [])


def _fill(folder: Path, source: Path, description: Description, module: nn.Module | None, onnx: bool) -> None:
    save_pretrained(folder, module)
    if not (folder / MODEL).exists():
        for name in (MODEL, BUFFERS):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    description.write(folder / INFERENCE)
    if onnx and module is not None:
        write_onnx(folder / ONNX, description, module)
