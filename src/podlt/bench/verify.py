"""How long a log takes to verify: `python -m podlt.bench.verify --rounds 1000 --workers 50`.

The log is a simulated run's: the entries, signatures and heads are real, the updates are digests. Nothing of PyTorch
is loaded, in this process or in those that check signatures.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from podlt.protocol.claims import Claim
from podlt.sim import simulate
from podlt.verify import verify


def mebibytes(who: int) -> int:
    """The most memory that this process, or the largest of its children, ever held."""
    return resource.getrusage(who).ru_maxrss // 1024


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
        figures = ", ".join(result.finding(claim).figure for claim in (Claim.FORM, Claim.SIGNATURES))
    print(f"exit code {result.exit_code}; {figures}")
    print(f"median {statistics.median(seconds):.2f} s of {len(seconds)} (best {min(seconds):.2f} s)")
    print(f"torch loaded: {'torch' in sys.modules}; load {os.getloadavg()[0]:.1f}")
    print(
        f"memory: {mebibytes(resource.RUSAGE_SELF)} MiB, with the processes for signatures at most "
        f"{mebibytes(resource.RUSAGE_CHILDREN)} MiB each"
    )


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
