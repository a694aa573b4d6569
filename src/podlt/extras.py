"""What podlt can do without, and which extra of its installation brings it: one place for every hint."""

from __future__ import annotations

from podlt.errors import UsageError

_EXTRAS = {
    "train": (
        "PyTorch and the packages for training",
        "torch numpy numba pyarrow rdata safetensors sklearn matplotlib",
    ),
    "network": ("the packages for workers on other machines", "aiohttp cryptography nats nkeys obstore zstandard"),
    "operations": ("the packages for metrics and structured logs", "prometheus_client structlog"),
    "postgres": ("the packages for PostgreSQL and for changing tables", "alembic psycopg"),
    "ray": ("Ray", "ray"),
}
"""Extra -> what it brings, in words; the packages that are imported."""


class MissingExtraError(UsageError, ImportError):
    """A package is not installed that this needs."""


def install(extra: str) -> str:
    """The command that installs an extra, from podlt's folder: podlt is on no public index."""
    return f"pip install '.[{extra}]', in podlt's folder"


def needs(extra: str) -> MissingExtraError:
    """The error where what an extra brings is not installed."""
    return MissingExtraError(f"needs {_EXTRAS[extra][0]}: {install(extra)}")


def missing(module: str | None) -> MissingExtraError | None:
    """The error for a module that could not be imported; None if it is none of podlt's own needs."""
    top = (module or "").partition(".")[0]
    for extra, (what, packages) in _EXTRAS.items():
        if top in packages.split():
            return MissingExtraError(f"needs {what}: {top} is not installed; {install(extra)}")
    return None
