"""Everything about exact arithmetic on a GPU in one call: `python -m podlt.bench.device`.

Nothing has to be built. Prints what the device is; recomputes the golden vectors on it, by each way of products; runs
the tests of the portable table, of which those for CUDA run only where there is a GPU; trains the golden models to
their digests; and times exact arithmetic, TF32 and compiled bfloat16 against stock float32. `--write docs/NUMERICS.md`
puts all of it between that document's marks. Ends with 0 if all of it holds, 1 if something differs. Without a GPU it
counts launches and bytes instead (`bench.launches`), and ends with 3. `--device portable` does the same on the CPU, by
what a GPU without Triton would run (and takes no times unless asked with --times: they would say nothing of a GPU).
"""

from __future__ import annotations

import argparse
import copy
import datetime
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn

from podlt.bench import launches
from podlt.bench.arithmetic import JOBS, RATE, Contender, StepJob, random_batch, ratios
from podlt.bench.models import MODELS, NO_DATA, train
from podlt.bench.table import write_between
from podlt.errors import UsageError
from podlt.exact.conformance import check
from podlt.exact.device_table import by_triton, device_table
from podlt.exact.portable import products
from podlt.exact.portable.devices import torch_device
from podlt.program.capture import capture
from podlt.program.execute import Executor

PASSED, DIFFERS, NO_DEVICE = 0, 1, 3
ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests" / "exact"
GOLDEN = ROOT / "tests" / "vectors" / "exact_models.json"
SIZES = (1024, 4096)
MARK = "device"
ONCE: tuple[str, ...] = ("TF32", "bf16 compiled")
"""What is timed beside stock float32 and the exact arithmetics."""


def describe(device: torch.device) -> str:
    """The device, torch's version, and what could change the bits of others."""
    if device.type != "cuda":
        return f"the CPU by the portable table, torch {torch.__version__}, {torch.get_num_threads()} threads"
    found = torch.cuda.get_device_properties(device)
    return (
        f"{found.name}, compute capability {found.major}.{found.minor}, {found.total_memory / 2**30:.0f} GiB, "
        f"driver {driver()}, torch {torch.__version__}, CUDA {torch.version.cuda}, TF32 for products "
        f"{'on' if torch.backends.cuda.matmul.allow_tf32 else 'off'}, {datetime.date.today()}"
    )


def driver() -> str:
    """The version of the GPU's driver, as its own tool says it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown"
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return found[0] if found else "unknown"


def ways(device: str) -> dict[str, Callable[[], AbstractContextManager[None]]]:
    """The ways of products on a device: a name, and what makes products take it."""
    if not by_triton(device):
        return {way: partial(products.using, way) for way in ("int8", "float64")}
    from podlt.exact.triton import products as kernels

    return {f"{way} by Triton": partial(kernels.using, way) for way in ("int8", "half", "float64")}


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 products may be rounded to TF32 inside the block."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def with_tf32(run: Contender, allowed: bool) -> Contender:
    """The same call, in such a block."""

    def both() -> None:
        with tf32(allowed):
            run()

    return both


class Lines:
    """What is printed and may be written into a document."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        """Prints a line."""
        self.said.append(line)
        print(line, flush=True)


def check_vectors(device: str, lines: Lines) -> bool:
    """Whether the golden vectors come out, by each way of products; says the digests."""
    good = True
    for way, using in ways(device).items():
        with using():
            report = check(device)
        good = good and report.differing is None
        verdict = "PASS" if report.differing is None else f"FAIL: {report.differing}"
        lines.say(f"- conformance, products by {way}: {report.digest} {verdict}")
    return good


def check_tests(lines: Lines) -> bool:
    """Whether the tests of the portable table pass; says pytest's last line, which counts what was skipped."""
    if not TESTS.exists() or importlib.util.find_spec("pytest") is None:
        lines.say("- tests: not run, for want of the source tree or of pytest")
        return True
    command = [sys.executable, "-m", "pytest", "-q", "-rf", *map(str, sorted(TESTS.glob("test_portable*.py")))]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    for line in child.stdout.splitlines()[-(1 if child.returncode == 0 else 40) :]:
        lines.say(f"- tests: {line}")
    return child.returncode == 0


def check_training(device: str, names: Sequence[str], lines: Lines) -> bool:
    """Whether models train to the checked-in digests; says each."""
    if not GOLDEN.exists():
        lines.say(f"- training: FAIL: expected golden digests in {GOLDEN}, which only the source tree has")
        return False
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    good = True
    for name in names:
        start = time.perf_counter()
        digest = train(name, device=device)
        same = digest == golden[name]
        good = good and same
        seconds = time.perf_counter() - start
        lines.say(f"- training {name}: {digest} {'PASS' if same else 'FAIL'} ({seconds:.1f} s)")
    return good


def product_contenders(size: int, digits: Sequence[int], device: str) -> dict[str, Contender]:
    """The product of square matrices, stock and exact."""
    at = torch_device(device)
    a, b = torch.randn(size, size, device=at), torch.randn(size, size, device=at)
    short = a.bfloat16(), b.bfloat16()
    found: dict[str, Contender] = {
        "stock": with_tf32(lambda: a @ b, False),
        "TF32": with_tf32(lambda: a @ b, True),
        "bf16 compiled": lambda: short[0] @ short[1],
    }
    for count in digits:
        found[f"exact {count}"] = partial(device_table(count, device)["mm.default"], a, b)
    return found


def step_contenders(job: StepJob, digits: Sequence[int], device: str) -> dict[str, Contender]:
    """A step of a job by stock PyTorch and by exact programs, everything on the device; no updates in between."""
    torch.manual_seed(3)
    original = job.model().train()
    at = torch_device(device)
    batch = {name: value.to(at) for name, value in random_batch(job).items()}
    model = copy.deepcopy(original).to(at)
    parameters = list(model.parameters())

    def stock(forward: Callable[[torch.Tensor], torch.Tensor] = model) -> None:
        logits = forward(batch["x"])
        loss = nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch["y"].reshape(-1))
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.data.sub_(g, alpha=RATE)

    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(model)

    def bf16() -> None:
        with torch.autocast(at.type, torch.bfloat16):
            stock(compiled)

    def programmed(arithmetic: str) -> Contender:
        captured = capture(original, job.loss, job.fields, arithmetic=arithmetic)
        executor = Executor(captured.program, device=device)
        state = {name: value.detach().to(at, copy=True) for name, value in captured.state.items()}
        out = {
            name: torch.empty(()) if name == "loss" else torch.empty_like(state[name.replace("grad:", "param:")])
            for name, _ in captured.program.outputs
        }

        def run() -> None:
            executor.run(state, batch, 7, out)
            for name, gradient in out.items():
                if name.startswith("grad:"):
                    state["param:" + name[5:]].sub_(gradient * RATE)

        return run

    exact = {f"exact {count}": programmed(f"exact/{count}") for count in digits}
    return {"stock": with_tf32(stock, False), "TF32": with_tf32(stock, True), "bf16 compiled": bf16, **exact}


def waited(runs: dict[str, Contender], device: torch.device) -> dict[str, Contender]:
    """The same contenders, each done when the device is."""

    def wait(run: Contender) -> Contender:
        def both() -> None:
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return both

    return {name: wait(run) for name, run in runs.items()}


def take_times(device: str, repeats: int, only: str, digits: Sequence[int], lines: Lines) -> None:
    """Say stock's milliseconds and the others as multiples of it, as `bench.arithmetic` does for the CPU."""
    at = torch_device(device)
    jobs: dict[str, Callable[[], dict[str, Contender]]] = {
        f"product {n} x {n} x {n}": lambda n=n: product_contenders(n, digits, device)  # type: ignore[misc]
        for n in SIZES
    }
    for name, job in JOBS.items():
        jobs[name.removesuffix(", weights kept")] = lambda job=job: step_contenders(job, digits, device)  # type: ignore[misc]
    heads = [*ONCE, *(f"exact {count}" for count in digits)]
    lines.say("")
    lines.say("| step | stock | " + " | ".join(heads) + " |")
    lines.say("|" + "---|" * (2 + len(heads)))
    for name, make in jobs.items():
        if only in name:
            found = ratios(waited(make(), at), repeats)
            cells = " | ".join(f"{found[head]:.2f}" for head in heads)
            lines.say(f"| {name} | {found['stock'] * 1e3:.2f} ms | {cells} |")


def main() -> None:
    """Do all of it; the exit status is in the first lines of this file."""
    parser = argparse.ArgumentParser(description="exact arithmetic on a GPU: build, check and time, in one call")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or portable")
    parser.add_argument("--times", action=argparse.BooleanOptionalAction, help="take times (default: on a GPU)")
    parser.add_argument("--tests", action=argparse.BooleanOptionalAction, default=True, help="run the tests")
    fetched = "which to train (default: those that need no data from elsewhere)"
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=NO_DATA, help=fetched)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", default="", help="time only jobs whose name contains this")
    parser.add_argument("--digits", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--json", action="store_true", help="without a GPU: one object an operation")
    parser.add_argument("--write", type=Path, metavar="FILE", help=f"put it between FILE's {MARK!r} marks")
    arguments = parser.parse_args()
    try:
        device = torch_device(arguments.device)
    except UsageError as error:
        print(
            f"{error}; nothing was checked (--device portable checks on the CPU what a GPU would run); counts instead:",
            file=sys.stderr if arguments.json else sys.stdout,
        )
        launches.main(["--only", arguments.only, *(["--json"] if arguments.json else [])])
        sys.exit(NO_DEVICE)
    lines = Lines()
    lines.say(f"Device: {describe(device)}")
    lines.say("")
    good = [
        check_vectors(arguments.device, lines),
        check_tests(lines) if arguments.tests else True,
        check_training(arguments.device, arguments.models, lines),
    ]
    if arguments.times if arguments.times is not None else device.type == "cuda":
        take_times(arguments.device, arguments.repeats, arguments.only, arguments.digits, lines)
    lines.say("")
    lines.say("PASS: the same bits as everywhere" if all(good) else "FAIL: this device may not take part")
    if arguments.write:
        write_between(arguments.write, MARK, lines.said)
    sys.exit(PASSED if all(good) else DIFFERS)


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
