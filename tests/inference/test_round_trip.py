"""Out again, as a user would: plain PyTorch loads what was trained, strictly, and nothing of it is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nets import Tied, tied
from safetensors.torch import load_file
from torch import nn

import podlt
from podlt.inference.loading import load_trained
from podlt.manager.result import Result
from podlt.protocol.claims import Claim, Outcome
from podlt.store.bundle import write_bundle

PLAIN = """
import sys, torch
from safetensors.torch import load_file
from nets import Tied
module = Tied()
module.load_state_dict(load_file(sys.argv[1]), strict=True)
torch.manual_seed(5)
torch.save(module.eval()(torch.randn(7, 6)), sys.argv[2])
assert "podlt" not in sys.modules
"""


def model_claim(run: Path) -> Outcome:
    """What verifying the model comes to."""
    return next(finding.outcome for finding in podlt.verify(run).findings if finding.claim is Claim.MODEL)


def test_the_file_has_the_names_and_types_of_the_state_dict(of_arrays: Result) -> None:
    saved, state = load_file(of_arrays.run / "model.safetensors"), tied().state_dict()
    assert saved.keys() == state.keys()
    assert {name: value.dtype for name, value in saved.items()} == {name: v.dtype for name, v in state.items()}
    assert torch.equal(saved["encode.weight"], saved["decode.weight"])
    assert saved["norm.num_batches_tracked"] > 0 and saved["steps"] == 3
    assert load_file(of_arrays.run / "buffers.safetensors").keys() == {"places"}


def test_plain_pytorch_loads_it_strictly_to_the_same_outputs(of_arrays: Result) -> None:
    module = Tied()
    module.load_state_dict(load_file(of_arrays.run / "model.safetensors"), strict=True)
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert torch.equal(module.eval()(x), of_arrays.model.eval()(x))


@pytest.mark.slow  # a process that imports PyTorch
def test_a_process_without_podlt_loads_it_to_the_same_outputs(of_arrays: Result, tmp_path: Path) -> None:
    paths = [of_arrays.run / "model.safetensors", tmp_path / "out.pt"]
    command = [sys.executable, "-c", PLAIN, *map(str, paths)]
    subprocess.run(command, cwd=Path(__file__).parent, check=True)
    torch.manual_seed(5)
    x = torch.randn(7, 6)
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "out.pt"), of_arrays.model.eval()(x))


def test_a_wrapped_module_takes_it(of_arrays: Result) -> None:
    found = load_trained(of_arrays.run, nn.DataParallel(tied(7)))
    assert isinstance(found, Tied)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), of_arrays.model.parameters(), strict=True))


def test_another_module_is_refused_by_name(of_arrays: Result) -> None:
    with pytest.raises(podlt.UsageError, match="is of another module than this Linear"):
        load_trained(of_arrays.run, nn.Linear(2, 2))


def test_the_model_verifies_in_the_run_and_in_a_bundle(of_arrays: Result, tmp_path: Path) -> None:
    assert model_claim(of_arrays.run) is Outcome.HOLDS
    done = write_bundle(of_arrays.run, tmp_path / "run.podlt")
    assert "buffers.safetensors" in [member.name for member in done.members]
    assert model_claim(tmp_path / "run.podlt") is Outcome.HOLDS


def test_a_changed_or_lost_buffer_that_is_not_persistent_fails(of_arrays: Result) -> None:
    path = of_arrays.run / "buffers.safetensors"
    raw = path.read_bytes()
    try:
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        assert model_claim(of_arrays.run) is Outcome.FAILS
        path.unlink()
        assert model_claim(of_arrays.run) is Outcome.FAILS
    finally:
        path.write_bytes(raw)
    assert model_claim(of_arrays.run) is Outcome.HOLDS
