"""Workers on other machines against the engine `local`: the same rounds over 50 workers, interleaved, in one run.

Locally the workers are in as many processes as there are cores, with shared memory. Over the network they are in
six processes of `podlt worker`, each with one TLS connection, on this machine's loopback.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from podlt.bench import PODLT
from podlt.bench.jobs import BenchJob, BenchOptions, fitting, proven_rounds, started
from podlt.engine.interface import Job
from podlt.extras import needed_by
from podlt.manager.loop import Trainer

PROCESSES = 6
LOCAL, NETWORK = "local", "network"


class _Crowd:
    """Worker processes that join as soon as there is an invitation."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder, self._workers = folder, workers
        self._processes: list[subprocess.Popen[bytes]] = []
        self.invited = 0.0

    def invite(self, line: str) -> None:
        """Starts them."""
        self.invited = time.perf_counter()
        cores = sorted(os.sched_getaffinity(0))
        for number in range(min(PROCESSES, self._workers)):
            os.sched_setaffinity(0, {cores[number % len(cores)]})  # as it starts, each inherits one, in turn
            share = len(range(number, self._workers, PROCESSES))
            home = self._folder / f"worker-{number}"
            command = [*PODLT, "worker", line, "--quiet"]
            with (self._folder / f"worker-{number}.log").open("wb") as log:
                options = ["--identities", str(share), "--folder", str(home), "--cpus", "1"]
                self._processes.append(subprocess.Popen([*command, *options], stdout=log, stderr=log))
        os.sched_setaffinity(0, cores)

    def close(self) -> None:
        """Ends them."""
        for process in self._processes:
            process.kill()
            process.wait()


@contextmanager
def networked(job: BenchJob, workers: int) -> Iterator[tuple[Trainer, float]]:
    """A run over the network, all its workers joined, and the seconds that this took after the invitation."""
    try:
        from podlt.network.server.open_server import OpenServer
        from podlt.remote.workplace import RemoteMachines
    except ImportError as error:
        raise needed_by("podlt bench engines", error) from None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podlt-bench-")))
        crowd = _Crowd(folder, workers)
        stack.callback(crowd.close)
        server = OpenServer("127.0.0.1", 0, ["127.0.0.1"])

        def connect(described: Job) -> object:
            link = server.connect(described)
            crowd.invite(server.line)
            return link

        place = RemoteMachines(connect)  # type: ignore[arg-type]
        _, trainer = stack.enter_context(started(job.recipe(workers), place))
        yield trainer, time.perf_counter() - crowd.invited


def measure(job: BenchJob, options: BenchOptions) -> dict[str, object]:
    """Interleaves rounds of both engines; returns the ratios of examples a second, and what a round takes more."""
    remote_run = networked(job, options.workers)
    with started(job.recipe(options.workers)) as (_, local), remote_run as (remote, joined):
        rounds = fitting(local, options.rounds, options.repeats)
        proven_rounds(remote, 3)
        contenders = {LOCAL: local, NETWORK: remote}
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for repeat in range(options.repeats):
            for name in list(contenders)[:: 1 if repeat % 2 else -1]:
                seconds[name].append(proven_rounds(contenders[name], rounds))
        processes = remote.engine.processes
    ratios = sorted(here / there for here, there in zip(seconds[LOCAL], seconds[NETWORK], strict=True))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "job": str(job),
        "workers": options.workers,
        "processes": processes,
        "rounds": rounds,
        "repeats": options.repeats,
        "median": statistics.median(ratios),
        "min": ratios[0],
        "max": ratios[-1],
        "examples_per_second": {name: job.batch_size * rounds / value for name, value in medians.items()},
        "milliseconds_a_round_more": (medians[NETWORK] - medians[LOCAL]) / rounds * 1e3,
        "seconds_until_all_joined": joined,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the median ratio with min and max, a job a line."""
    options = BenchOptions.parse("engines", __doc__, "mlp:1000,mlp:5000,cnn:5000", argv)
    for found in (measure(job, options) for job in options.jobs):
        if options.json:
            print(json.dumps(found), flush=True)
            continue
        speeds = found["examples_per_second"]
        assert isinstance(speeds, dict)
        print(
            f"{found['job']!s:>16}  {NETWORK}/{LOCAL}: median {found['median']:.3f} (min {found['min']:.3f}, max "
            f"{found['max']:.3f})   {speeds[NETWORK]:,.0f} against {speeds[LOCAL]:,.0f} examples/s, "
            f"{found['milliseconds_a_round_more']:.0f} ms a round more; {options.workers} workers in "
            f"{found['processes']} processes joined in {found['seconds_until_all_joined']:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    import sys

    from podlt.faults import guarded

    sys.exit(guarded(main))
