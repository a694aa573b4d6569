"""`python -m tests.corpus.functions [WORD ...]`: tries the probes whose names have one of the words, a line each."""

from __future__ import annotations

import sys

from . import PROBES
from .probe import CLOSE, try_probe


def main(words: list[str]) -> None:
    """Print what becomes of each."""
    for probe in PROBES:
        if words and not any(word.lower() in f"{probe.group} {probe.name}".lower() for word in words):
            continue
        try:
            found = try_probe(probe)
            said = f"refused {found.refused}" if found.refused else f"works   {found.nodes} nodes, {found.error:.1e}"
            if not found.refused and not found.error < CLOSE:
                said = "WRONG  " + said
        except Exception as error:
            said = f"CRASH   {type(error).__name__}: {str(error)[:200]}"
        print(f"{probe.group[:12]:12} | {probe.name:40} | {said}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
