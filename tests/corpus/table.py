"""`python -m tests.corpus.table`: writes docs/MODELS.md, what becomes of each module of the corpus."""

from __future__ import annotations

from pathlib import Path

from .corpus import ROWS
from .rows import Row

PAGE = Path(__file__).parents[2] / "docs" / "MODELS.md"

INTRODUCTION = """# Bring your model

Written by `python -m tests.corpus.table` from the modules of `tests/corpus`. A slow test captures each of them on
examples like those of its data, holds its gradients against eager PyTorch, and trains 20 steps beside it in `exact/2`;
or it sees it refused with the words below.

A module is taken as its user wrote it: `nn.Module`, wrapped by `torch.compile` or `DataParallel` or not, with frozen
parts, tied weights, LoRA by `peft`. The loss is a name, a module of PyTorch's, or a callable taking
(model, *inputs, *labels). It gives one value an example, their sum, their mean, or a mean over tokens, labels or
weights (`outputs.loss`, labels of -100, `ignore_index`, `weight`, `(loss * mask).sum() / mask.sum()`): such a mean is
divided by what all examples of a round have of them, however the examples are dealt to workers.

What depends on values of the data in Python (`.item()`, an `if` on a tensor, packed sequences), and losses in which the
examples of a batch see each other (contrastive losses), are refused with the line of code.

A deep network whose BatchNorm sees only eight examples of one pixel each makes much of the last bits: in eight of
torchvision's below, two digits of exact products drift from eager within 20 steps, where PyTorch's arithmetic in the
same program gives eager's numbers.
"""


def page() -> str:
    """The page's text."""
    trains = sum(not row.refused for row in ROWS)
    parts = [INTRODUCTION, f"Of {len(ROWS)} modules {trains} train ({trains / len(ROWS):.0%}).\n"]
    for family in dict.fromkeys(row.family for row in ROWS):
        parts.append(f"## {family}\n\n| module | |\n| --- | --- |")
        parts[-1] += "".join(f"\n| {row.name} | {_said(row)} |" for row in ROWS if row.family == family)
        parts[-1] += "\n"
    return "\n".join(parts)


def _said(row: Row) -> str:
    if row.refused:
        return f"refused: {row.refused}"
    return "trains" if row.precise else "trains; in `exact/2` it drifts from eager (BatchNorm over eight examples)"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
