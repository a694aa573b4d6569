"""Packages that not every installation has: what each is called, and which `pip install` brings it.

`pip install .` brings what reading and verifying a log needs; everything else comes with one of the extras of
pyproject.toml. This table is the only place that says which.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import TracebackType
from typing import NamedTuple

from podlt.errors import UsageError


class Package(NamedTuple):
    """What a module that is imported belongs to.

    Attributes:
        name: as a person would say it.
        extra: the extra of pyproject.toml that brings it.
    """

    name: str
    extra: str


PACKAGES = {
    "matplotlib": Package("Matplotlib (matplotlib)", "train"),
    "numba": Package("Numba (numba)", "train"),
    "numpy": Package("NumPy (numpy)", "train"),
    "pandas": Package("pandas", "train"),
    "pyarrow": Package("PyArrow (pyarrow)", "train"),
    "rdata": Package("rdata", "train"),
    "safetensors": Package("Safetensors (safetensors)", "train"),
    "sklearn": Package("scikit-learn", "train"),
    "torch": Package("PyTorch (torch)", "train"),
    "cryptography": Package("cryptography", "attest"),
    "obstore": Package("obstore", "network"),
    "prometheus_client": Package("the client of Prometheus (prometheus_client)", "operations"),
    "structlog": Package("structlog", "operations"),
    "alembic": Package("Alembic (alembic)", "postgres"),
    "psycopg": Package("the driver of PostgreSQL (psycopg)", "postgres"),
    "onnx": Package("ONNX (onnx)", "onnx"),
    "onnxscript": Package("ONNX Script (onnxscript)", "onnx"),
    "ray": Package("Ray (ray)", "ray"),
    "triton": Package("Triton (triton)", "gpu"),
    "PIL": Package("Pillow (pillow)", "images"),
    "tokenizers": Package("Tokenizers (tokenizers)", "text"),
    "mlflow": Package("MLflow (mlflow-skinny)", "tracking"),
    "tensorboard": Package("TensorBoard (tensorboard)", "tracking"),
    "sigstore": Package("sigstore", "keyless"),
    "wandb": Package("Weights & Biases (wandb)", "tracking"),
}
"""Module, as it is imported -> its package."""

NEEDS_MORE = {
    f"podlt {command}": "network"
    for command in ("manager", "worker", "workers", "bench blobs", "bench engines", "bench fleet", "bench joining")
}
"""Commands for which '.[train]' or '.[attest]' would not be enough: '.[network]' brings both as well."""


class MissingPackageError(UsageError, ImportError):
    """A package that something needs is not installed, or cannot be imported. Also an ImportError.

    Args:
        what: needs it: a command or a part of podlt, such as "podlt train".
        module: as it is imported; one of `PACKAGES`.
        broken: why it cannot be imported although it is installed; "" if it is not installed.

    Attributes:
        need: the sentence of what is needed.
        hint: the one of what to do.
    """

    def __init__(self, what: str, module: str, broken: str = "") -> None:
        package = PACKAGES[module]
        extra = package.extra
        if extra in ("train", "attest"):
            extra = next((more for start, more in NEEDS_MORE.items() if f"{what} ".startswith(f"{start} ")), extra)
        why = f"cannot be imported here: {broken}" if broken else "is not installed"
        self.need = f"{what} needs {package.name}, which {why}"
        self.hint = f"in podlt's folder: pip install '.[{extra}]'"
        super().__init__(f"{self.need}; {self.hint}")
        self.name = module


def missing_package(error: ImportError, what: str) -> MissingPackageError | None:
    """What an import that failed means, if it was podlt that imported a package of the table.

    Args:
        error: what was raised.
        what: needs the package, if the error does not say it already.

    Returns:
        None for every other module: a user's own code may import whatever it likes, and podlt knows nothing of it.
    """
    if isinstance(error, MissingPackageError):
        return error
    module = (error.name or "").partition(".")[0]
    if module not in PACKAGES or not _ours(error.__traceback__):
        return None
    return MissingPackageError(what, module, str(error) if _is_there(module) else "")


def needed_by(what: str, error: ImportError) -> ImportError:
    """What to raise where an import failed: the missing package by its name, or the error itself.

    Args:
        what: needs the package, such as "the network engine".
        error: what was raised.
    """
    module = (error.name or "").partition(".")[0]
    if isinstance(error, MissingPackageError) or module not in PACKAGES:
        return error
    return MissingPackageError(what, module, str(error) if _is_there(module) else "")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _ours(trace: TracebackType | None) -> bool:
    """Whether the last file that is neither Python's own nor the package's is one of podlt's."""
    last = ""
    while trace is not None:
        known = trace.tb_frame.f_globals
        root = str(known.get("__package__") or known.get("__name__")).partition(".")[0]
        if root not in sys.stdlib_module_names and root != "_frozen_importlib":
            last = root
        trace = trace.tb_next
    return last == "podlt" or last in PACKAGES
