"""Which lines of a user's code the nodes of a traced graph come from."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import fx

_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def is_users(filename: str) -> bool:
    """Whether a file is the user's own: no part of PyTorch or of capture."""
    return not filename.startswith(("<", *_NOT_THE_USERS))


def line_of(node: fx.Node) -> str:
    """ " at FILE:LINE": where in the user's code a node comes from, or nothing where the trace does not know."""
    found = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [f" at {name}:{number}" for name, number in found if is_users(name)]
    return own[-1] if own else ""


def operation_name(target: object) -> str:
    """ "mm.default" for an ATen overload, "attention" for one of our own, and the printed name of anything else."""
    schema, namespace = getattr(target, "_schema", None), getattr(target, "namespace", "")
    if schema is not None and namespace == "podlt":
        return str(schema.name.removeprefix("podlt::"))
    if schema is None or namespace != "aten":
        return str(target)
    return f"{schema.name.removeprefix('aten::')}.{getattr(target, '_overloadname', '')}"
