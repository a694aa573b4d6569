"""Programs on the portable table: updates, trained models and the commands that check a device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from podlt.bench import device as device_bench
from podlt.bench.models import NO_DATA, PIXELS, train
from podlt.cli.app import run
from podlt.errors import UnsupportedError, UsageError
from podlt.exact import conformance
from podlt.exact.conformance import values
from podlt.exact.portable.devices import torch_device
from podlt.program.capture import capture
from podlt.program.descent import SGD
from podlt.program.execute import Executor
from podlt.program.operations import table

GOLDEN = Path(__file__).parents[1] / "vectors" / "exact_models.json"
VECTORS = Path(conformance.__file__).with_name(conformance.VECTORS)
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA: no GPU on this machine, so nothing ran on one")
on_each_device = pytest.mark.parametrize("device", ["portable", pytest.param("cuda", marks=NO_GPU)])


def small_model():
    """Every kind of input: parameters, buffers, constants, draws."""
    return nn.Sequential(nn.Linear(256, 12), nn.BatchNorm1d(12), nn.GELU(), nn.Dropout(0.3), nn.Linear(12, 10))


@pytest.fixture(scope="module")
def captured():
    return capture(small_model(), "cross_entropy", PIXELS, arithmetic="exact/2")


def update(captured, device, steps):
    state = {
        key: values(number, *tensor.shape) if tensor.is_floating_point() else torch.zeros_like(tensor)
        for number, (key, tensor) in enumerate(sorted(captured.state.items()))
    }
    state = {key: tensor.abs() if key.startswith("buffer") else tensor for key, tensor in state.items()}
    out = {
        key: torch.empty(()) if key == "loss" else torch.empty_like(state[key.replace("grad:", "param:")])
        for key, _ in captured.program.outputs
    }
    batch = {"x": values(50, 6, 256), "y": torch.tensor([0, 3, 9, 1, 1, 4])}
    executor = Executor(captured.program, device=device)
    if steps == 1:
        executor.run(state, batch, 77, out)
    else:
        executor.run_local_steps(state, batch, 77, out, steps, SGD(lr=2.0**-7))
    return out


@on_each_device
@pytest.mark.parametrize("steps", [1, 3])
def test_an_update_is_the_cpu_s_bit_for_bit(captured, device, steps):
    want, got = update(captured, "cpu", steps), update(captured, device, steps)
    assert set(want) == set(got) and any(key.startswith("buffer:") for key in want)
    for key, value in want.items():
        assert got[key].device.type == "cpu" and torch.equal(value, got[key]), key


@on_each_device
def test_a_device_gives_the_digest_of_the_golden_vectors_and_the_command_says_so(device, capsys):
    assert run(["conformance", "--device", device]) == 0
    assert capsys.readouterr().out.split() == [conformance.total(json.loads(VECTORS.read_text())), "PASS"]


def test_what_a_device_computes_is_what_the_check_sees(monkeypatch):
    """A table that is wrong in one place is found, and named."""
    honest = conformance.device_table

    def wrong(digits, device):
        run = dict(honest(digits, device))
        exact = run["cumsum.default"]
        run["cumsum.default"] = lambda x, dim: exact(x, dim) * (1.0 + 2.0**-23)
        return run

    monkeypatch.setattr(conformance, "device_table", wrong)
    monkeypatch.setattr(conformance, "_products", lambda table: iter(()))
    monkeypatch.setattr(conformance, "_samples", lambda table, *_: {})
    golden = json.loads(VECTORS.read_text())
    found = conformance.compute("portable")
    assert [name for name in found if found[name] != golden[name]] == ["cumsum"]


def test_stock_arithmetic_has_no_other_device_and_absent_devices_are_named():
    with pytest.raises(UnsupportedError, match="expected an exact arithmetic"):
        table("stock", "portable")
    for name in ("meta", "no such"):
        with pytest.raises(UsageError, match="expected cpu, cuda"):
            torch_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA: there is a GPU on this machine")
def test_the_bench_says_that_there_is_no_gpu_and_ends_with_three(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["podlt bench device", "--only", "gelu.default"])
    with pytest.raises(SystemExit) as ended:
        device_bench.main()
    said = capsys.readouterr().out
    assert ended.value.code == 3 and "finds none on this machine" in said
    assert "| gelu.default | 1 | 262 | 83 |" in said  # launches: PyTorch's, its kB, the portable table's


@pytest.mark.slow
@on_each_device
@pytest.mark.parametrize("name", NO_DATA)
def test_every_model_trains_to_its_golden_digest(device, name):
    assert train(name, device=device) == json.loads(GOLDEN.read_text())[name]


@pytest.mark.slow
def test_the_bench_checks_and_times_on_the_cpu_what_a_gpu_would_run():
    options = ["--device", "portable", "--no-tests", "--models", "mlp", "--times", "--repeats", "1"]
    command = [sys.executable, "-m", "podlt.bench.device", *options, "--only", "20 lines"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout + child.stderr
    assert child.stdout.count("PASS") == 4 and "| MLP 784-128-10, 20 lines |" in child.stdout
