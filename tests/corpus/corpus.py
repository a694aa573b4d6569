"""The corpus: modules as their users write them, and what becomes of each."""

from __future__ import annotations

import torch

from . import hub, ordinary, tutorials, vision
from .rows import by_name

ROWS = tuple(by_name([*tutorials.ROWS, *ordinary.ROWS, *vision.ROWS, *hub.ROWS]).values())


_CAPTURED = frozenset(
    ("AlexNet", "VGG", "VGG with BatchNorm", "ResNet-18", "ResNet, bottlenecks", "Wide ResNet", "ResNeXt")
)
_UNTRIED_HUB = ("Mixtral (experts)", "Phi", "LLaMA with LoRA", "BART", "Whisper", "ViT")
_UNTRIED_MORE = ("DeiT", "BEiT", "Swin", "ResNet", "ConvNeXt", "CLIP, pairs", "CLIP, its contrastive loss")
UNTRIED = frozenset((*_UNTRIED_HUB, *_UNTRIED_MORE, *(r.name for r in vision.ROWS if r.name not in _CAPTURED)))
"""Rows that nobody has seen captured: a row leaves this set when its test has passed."""


def declare_torchvision() -> torch.library.Library:
    """Operations of torchvision's C library, by name only: its models are plain Python, and so are importable beside a
    torch for which that library was not built."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
