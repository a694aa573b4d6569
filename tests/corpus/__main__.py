"""`python -m tests.corpus [--write] [WORD ...]`: tries the rows whose names have one of the words (all of them), a
line each; `--write` writes docs/MODELS.md from what came."""

from __future__ import annotations

import sys
import time

from .corpus import ROWS, declare_torchvision
from .harness import try_row


def main(arguments: list[str]) -> None:
    library = declare_torchvision()  # noqa: F841 (kept as long as the models are used)
    train = "--capture" not in arguments
    words = [word.lower() for word in arguments if not word.startswith("--")]
    for row in ROWS:
        if words and not any(word in f"{row.family} {row.name}".lower() for word in words):
            continue
        started = time.time()
        try:
            found = try_row(row, train=train)
            said = (
                f"refused: {found.refused}"
                if found.refused
                else (
                    f"trains: {found.nodes} nodes, gradients {found.gradients:.1e}, losses {found.losses:.1e}, "
                    f"fell {found.fell:.1%}"
                )
            )
        except Exception as error:
            said = f"CRASH {type(error).__name__}: {error}"
        ok = "ok " if bool(row.refused) == said.startswith("refused") and row.refused in said else "BAD"
        print(f"{ok} {time.time() - started:5.1f}s {row.name:32} {said}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
