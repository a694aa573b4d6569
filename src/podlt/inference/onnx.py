"""The forward pass as ONNX, for any number of examples."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from podlt.data.dataset import DTYPES
from podlt.errors import UnsupportedError
from podlt.extras import needed_by
from podlt.inference.description import Description
from podlt.program.losses import scores
from podlt.store.files import make_whole

NAME = "model.onnx"

_EXAMPLES = 3


class ForwardPass(nn.Module):
    """From the fields of prepared examples to the one tensor that a named loss is of: scaling is a part of it.

    Args:
        module: trained, in eval mode.
        scales: of each input, None for none.
    """

    def __init__(self, module: nn.Module, scales: list[float | None]) -> None:
        super().__init__()
        self.module = module
        self._scales = scales

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Scores, logits or numbers, as the module gives them."""
        pairs = zip(inputs, self._scales, strict=True)
        return scores(self.module(*(value if s is None else value.to(torch.float32) * s for value, s in pairs)))


def write_onnx(path: Path, description: Description, module: nn.Module) -> None:
    """Writes the forward pass; its inputs are named as the fields, its output `output`, the examples `examples`.

    Args:
        path: the file.
        description: names the inputs.
        module: trained.

    Raises:
        UnsupportedError: PyTorch cannot export it; says why.
        MissingPackageError: onnx or onnxscript is not installed.
        StorageError: it cannot be written.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise needed_by("podlt export --onnx", error) from None
    inputs = description.inputs
    example = tuple(_example(field.dtype, field.shape) for field in inputs)
    forward = ForwardPass(copy.deepcopy(module).eval(), [field.scale for field in inputs])
    shapes: Any = (tuple({0: torch.export.Dim("examples")} for _ in inputs),)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                forward,
                example,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=[field.name for field in inputs],
                output_names=["output"],
                verbose=False,
            )
    except Exception as error:
        cause = error.__cause__ or error
        first = str(cause).strip().partition("\n")[0][:400]
        raise UnsupportedError(
            f"{type(module).__name__}: PyTorch {torch.__version__} cannot export its forward pass to ONNX: "
            f"{type(cause).__name__}: {first}; without --onnx the rest is exported"
        ) from error
    assert program is not None
    make_whole(path, lambda part: program.save(part, external_data=False))


def _example(dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A few examples of zeros: 0 is a code of every vocabulary."""
    return torch.from_numpy(np.zeros((_EXAMPLES, *shape), DTYPES[dtype]))


@contextlib.contextmanager
def _quiet() -> Any:
    """Keeps what the exporter says about each step from the terminal."""
    before, aside = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(aside), contextlib.redirect_stderr(aside):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
