"""The golden vectors: recomputed here, and under every environment that could change a bit."""

import os
import subprocess
import sys

import pytest
import torch
from conformance_settings import ENVIRONMENTS

from podlt.exact import conformance
from podlt.exact.cpu import products

ALONE = "import sys; from podlt.exact import conformance; sys.exit(conformance.main())"


def test_this_machine_passes_and_its_digest_is_that_of_the_golden_vectors():
    report = conformance.check()
    assert report.differing is None
    assert len(report.digest) == 64


def test_a_differing_bit_is_found_and_named(monkeypatch):
    found = conformance.compute()
    monkeypatch.setattr(conformance, "compute", lambda device, progress: {**found, "softmax 1": "0" * 64})
    report = conformance.check()
    assert report.differing == "softmax 1"
    assert report.digest != conformance.total(found)


def test_each_golden_vector_is_counted_once_it_is_computed():
    said = []
    conformance.check(progress=lambda done, total: said.append((done, total)))
    total = len(conformance.vectors())
    assert said[0] == (1, total) and said[-1] == (total, total) and said == sorted(said)


def test_inputs_are_fixed_words_and_not_a_library_s_mood():
    assert conformance.values(1, 4).view(torch.int32).tolist() == VALUES


VALUES = [-1087972527, -1116953987, 1033108537, 1048836939]


@pytest.mark.slow
@pytest.mark.parametrize("way", products.WAYS[1:])
def test_every_way_of_products_gives_the_golden_vectors(way):
    with products.using(way):
        assert conformance.check().differing is None


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: " ".join(f"{k}={v}" for k, v in e.items()))
def test_threads_and_instruction_sets_do_not_change_the_golden_vectors(environment):
    child = subprocess.run(
        [sys.executable, "-c", ALONE], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stdout + child.stderr
    assert child.stdout.endswith("PASS\n")
