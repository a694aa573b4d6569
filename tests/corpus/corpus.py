"""The corpus: modules as their users write them, and what becomes of each."""

from __future__ import annotations

import torch

from . import hub, ordinary, tutorials, vision
from .rows import by_name

ROWS = tuple(by_name([*tutorials.ROWS, *ordinary.ROWS, *vision.ROWS, *hub.ROWS]).values())


def declare_torchvision() -> torch.library.Library:
    """Operations of torchvision's C library, by name only: its models are plain Python, and so are importable beside a
    torch for which that library was not built."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
