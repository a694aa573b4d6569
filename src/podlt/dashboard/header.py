"""What is trained, in the words of the recipe: what a page says above the figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from podlt.canonical import from_json
from podlt.errors import InvalidProofError
from podlt.store.run_files import RunFiles
from podlt.store.run_names import PROGRAM, RECIPE

BYTES = {"f64": 8, "i64": 8, "f32": 4, "i32": 4, "f16": 2, "bf16": 2, "u8": 1, "i8": 1, "b1": 1}
"""Bytes of a number of each type that a program names."""


def what_is_trained(files: RunFiles) -> dict[str, Any]:
    """Model, data, loss, optimiser and size, from the run's recipe and program; signed by nobody but in the log.

    Returns:
        "facts": name -> text, in the order in which they are shown; "parameters", how many numbers are trained;
        "bytes", their size; "cheats", worker -> what it simulates, in a demonstration.

    Raises:
        StorageError: a file cannot be read.
    """
    recipe, program = _document(files, RECIPE), _document(files, PROGRAM)
    parameters, size = _size(program)
    facts = _facts(recipe, parameters, size)
    return {"facts": facts, "parameters": parameters, "bytes": size, "cheats": files.cheats()}


def _document(files: RunFiles, name: str) -> Mapping[str, Any]:
    raw = files.document(name)
    try:
        found = from_json(raw) if raw is not None else {}
    except InvalidProofError:  # `verify` says so; here it is as if it were missing
        return {}
    return found if isinstance(found, dict) else {}


def _size(program: Mapping[str, Any]) -> tuple[int, int]:
    """How many numbers are trained, and their bytes; zeros where the program does not say."""
    try:
        types = [program["types"][place] for place, name in enumerate(program["inputs"]) if name.startswith("param:")]
        counts = [(math.prod(shape), BYTES.get(kind, 4)) for kind, shape in types]
        return sum(count for count, _ in counts), sum(count * each for count, each in counts)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return 0, 0


def _bytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size / 2**10:,.1f} KiB"


def _facts(recipe: Mapping[str, Any], parameters: int, size: int) -> dict[str, str]:
    model, data = _table(recipe, "model"), _table(recipe, "data")
    training = _table(recipe, "training")
    found = {
        "Model": _call(model.get("name"), _table(model, "args")),
        "Size": f"{parameters:,} parameters, {_bytes(size)}" if parameters else "",
        "Data": str(data.get("source") or ""),
        "Loss": _named(_table(recipe, "loss")),
        "Optimiser": _named(_table(recipe, "optimizer")),
        "Arithmetic": str(recipe.get("arithmetic") or ""),
        "Batch": f"{training['batch_size']:,} examples" if isinstance(training.get("batch_size"), int) else "",
        "Local steps": str(training["local_steps"]) if training.get("local_steps", 1) != 1 else "",
        "PyTorch": str(recipe.get("torch") or ""),
    }
    return {name: text for name, text in found.items() if text}


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _call(name: object, arguments: Mapping[str, Any]) -> str:
    inside = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return f"{name}({inside})" if name and inside else str(name or "")


def _named(table: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{key} {value}" for key, value in table.items() if key != "name")
    name = str(table.get("name") or "")
    return f"{name}, {rest}" if rest else name
