"""What keeping sums costs: `python -m podlt.bench.aggregates --values 1000000 --updates 50`.

Processor time of one thread, the least of several repeats: a worker's fingerprint of its update, the manager's sum of a
round beside the average that it works out anyway, and the check of a third party. Bytes are what a round takes on the
disk and, for each worker, on the wire.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from podlt.canonical import encode
from podlt.crypto import SigningKey, digest
from podlt.exact.cpu.average import average
from podlt.execution.aggregate import average_of, evaluate, exact_sums, fingerprint, packed
from podlt.program.ir import TensorType
from podlt.program.places import Places
from podlt.protocol import fingerprint as fp
from podlt.wire import messages as m


def least(work: Callable[[], object], repeats: int) -> float:
    """Milliseconds of processor time, the least of several."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return 1e3 * min(taken)


def main() -> None:
    """Makes updates as a training round has them, and prints a table."""
    parser = argparse.ArgumentParser(description="time the sums and fingerprints of a round")
    parser.add_argument("--values", type=int, default=1_000_000, help="float32 values of an update")
    parser.add_argument("--updates", type=int, default=50, help="shards of a round")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    layout = Places([("loss", TensorType("f32", ())), ("grad:all", TensorType("f32", (options.values,)))])
    dice, updates = np.random.default_rng(1), []
    for _ in range(options.updates):
        update = np.zeros(layout.nbytes, np.uint8)
        spread = np.float32(2.0) ** dice.integers(-20, 1, layout.nbytes // 4)
        update.view(np.float32)[:] = dice.standard_normal(layout.nbytes // 4, np.float32) * spread
        updates.append(update)
    values = [update.view(np.float32) for update in updates]
    tensors = [torch.from_numpy(each) for each in values]
    sums, key, run = exact_sums(values, layout), SigningKey(bytes(32)), digest("a run")
    terms = fp.SumTerms(0, sums.exponents, sums.digest())
    points = terms.points(run)
    found = fingerprint(updates[0], layout, (0, 0), sums.exponents, points)
    signed = fp.sign(key, run, terms, (0, 0), bytes(32), (0, 0), found)
    place = (key.public, run, terms, signed, bytes(32), (0, 0))
    said = m.record(m.Fingerprints(deal_id=bytes(8), terms=terms, signed=[signed]))
    rows = {
        "worker: its fingerprint": lambda: fingerprint(updates[0], layout, (0, 0), sums.exponents, points),
        "worker: its signature": lambda: fp.sign(key, run, terms, (0, 0), bytes(32), (0, 0), found),
        "manager: the average, as without sums": lambda: average(tensors, divisor=1000.0),
        "manager: the sums": lambda: exact_sums(values, layout),
        "manager: their digest, packed": lambda: (sums.digest(), packed(sums.values)),
        "manager: whether fingerprints add up": lambda: evaluate(sums.values, points),
        "manager: a worker's signature": lambda: fp.holds(*place),
        "anybody: the average of the sums": lambda: average_of(sums, 1000, layout),
        "anybody: their digest and polynomial": lambda: (sums.digest(), evaluate(sums.values, points)),
    }
    print(f"{options.values:,} values, {options.updates} updates; ms of processor time, least of {options.repeats}")
    for name, work in rows.items():
        print(f"{name:42} {least(work, options.repeats):9.3f}")
    width, raw = packed(sums.values)
    print(f"on the disk a round: {len(raw):,} bytes of sums ({width} a value; an update has {layout.nbytes:,}), and")
    print(f"{len(encode(signed)):,} bytes for each worker; on the wire {len(said):,} bytes from each")


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
