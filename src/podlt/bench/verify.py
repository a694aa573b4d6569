"""How long a log takes to verify: `python -m podlt.bench.verify --rounds 1000 --workers 50`.

The log is a simulated run's: the entries, signatures and heads are real, the updates are digests. Nothing of PyTorch
is loaded, in this process or in those that check signatures.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from podlt.sim import simulate
from podlt.verify import verify


def main() -> None:
    """Builds a log, verifies it several times, and prints the median."""
    parser = argparse.ArgumentParser(description="time the verification of a simulated log")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=None, help="processes that check signatures (default: all cores)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=None, help="where the log is kept, and reused if it is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.directory or Path(scratch)
        if not (directory / "log.db").exists():
            started = time.perf_counter()
            simulate(options.workers, {"always": 3}, options.rounds, whole=True, directory=directory)
            print(f"log built in {time.perf_counter() - started:.1f} s")
        seconds = []
        for _ in range(options.repeats):
            started = time.perf_counter()
            result = verify(directory, jobs=options.jobs)
            seconds.append(time.perf_counter() - started)
        figures = ", ".join(report.figure for report in result.steps if report.step.name in ("FORM", "SIGNATURES"))
    print(f"sound: {result.ok}; {figures}")
    print(f"median {statistics.median(seconds):.2f} s of {len(seconds)} (best {min(seconds):.2f} s)")
    print(f"torch loaded: {'torch' in sys.modules}")


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
