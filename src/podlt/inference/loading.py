"""A trained model's file into the module that it is of, strictly."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from podlt.errors import UsageError
from podlt.program.preparation import unwrapped
from podlt.store.run_names import BUFFERS, MODEL


def load_trained(folder: Path, module: nn.Module) -> nn.Module:
    """Gives a module the parameters and buffers in a folder; returns it, without a wrapper around it.

    Args:
        folder: a run's, or an exported one.
        module: of the class that was trained.

    Raises:
        UsageError: there is no model, or it is of another module.
    """
    module, path = unwrapped(module), folder / MODEL
    if not path.is_file():
        raise UsageError(f"{folder}: no {MODEL} here: the run is not finished")
    try:
        module.load_state_dict(load_file(path), strict=True)
        if (folder / BUFFERS).is_file():
            named = dict(module.named_buffers())
            for name, value in load_file(folder / BUFFERS).items():
                named[name].copy_(value)
    except (RuntimeError, KeyError) as error:
        raise UsageError(f"{path}: is of another module than this {type(module).__name__}: {error}") from None
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    return module
