"""Models of transformers: their configuration is kept with a run, so that the run needs no other code to be used.

Only classes of transformers itself are built, whatever a configuration says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from podlt.errors import UsageError
from podlt.inference.description import last_part
from podlt.program.preparation import unwrapped
from podlt.store.files import write_whole
from podlt.store.run_names import CONFIGURATION


def write_configuration(folder: Path, module: nn.Module) -> None:
    """Writes the configuration of a model of transformers, without paths of this machine; of any other, nothing.

    Raises:
        StorageError: it cannot be written.
    """
    module = unwrapped(module)
    described = getattr(getattr(module, "config", None), "to_json_string", None)
    if not callable(described) or type(module).__module__.partition(".")[0] != "transformers":
        return
    document = {**json.loads(described()), "architectures": [type(module).__name__]}
    text = json.dumps(without_places(document), indent=2, ensure_ascii=False)
    write_whole(folder / CONFIGURATION, text.encode() + b"\n")


def save_pretrained(folder: Path, module: nn.Module | None) -> None:
    """Has a model that can do so write itself, for its library's `from_pretrained`."""
    save = getattr(module, "save_pretrained", None)
    if not callable(save):
        return
    save(folder)
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        plain = without_places(document)
        if plain != document:
            path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def build_configured(folder: Path) -> nn.Module:
    """The model that the configuration in a folder describes, with parameters of its own.

    Raises:
        UsageError: transformers is not installed, or has no such model.
    """
    found = _class_of(folder)
    document = json.loads((folder / CONFIGURATION).read_text(encoding="utf-8"))
    module: nn.Module = found(found.config_class.from_dict(document))
    return module


def load_pretrained(folder: Path) -> nn.Module:
    """The model that `save_pretrained` wrote into a folder. Errors: as `build_configured`."""
    module: nn.Module = _class_of(folder).from_pretrained(folder, local_files_only=True)
    return module


def without_places(item: Any) -> Any:
    """A JSON document that says of where models came from here only the last part of a path."""
    if isinstance(item, Mapping):
        return {k: _named(value) if k.endswith("name_or_path") else without_places(value) for k, value in item.items()}
    return [without_places(value) for value in item] if isinstance(item, list) else item


def _named(value: Any) -> Any:
    return last_part(value) if isinstance(value, str) else value


def _class_of(folder: Path) -> Any:
    path = folder / CONFIGURATION
    try:
        import transformers
    except ImportError:
        raise UsageError(f"{folder}: its model is one of transformers, which is not installed") from None
    names = json.loads(path.read_text(encoding="utf-8")).get("architectures") or [""]
    found: Any = getattr(transformers, str(names[0]), None)
    is_model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    if not is_model:
        raise UsageError(f"{path}: transformers has no model {names[0]!r}")
    return found
