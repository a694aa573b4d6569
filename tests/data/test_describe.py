"""What a description warns of: issue 11, point 5."""

import numpy as np
import pytest

from podlt.data.describe import describe, precision_warnings, warnings_of
from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec

RNG = np.random.default_rng(2)
X = RNG.normal(size=(200, 3))
Y = RNG.integers(0, 3, 200)


@pytest.fixture
def ready(tmp_path):
    """Saves arrays (and test arrays), and prepares them."""

    def run(x=X, y=Y, test=None, **options):
        np.savez(tmp_path / "data.npz", x=x, y=y)
        if test is not None:
            np.savez(tmp_path / "test.npz", x=test[0], y=test[1])
            options["test"] = "test.npz"
        spec = DataSpec("data.npz", **({"inputs": ("x",), "label": "y"} | options))
        return prepare(spec, cache=tmp_path / "cache", base=tmp_path)

    return run


def test_good_data_have_no_warning_and_say_what_a_worker_sees(ready):
    prepared = ready(test_fraction=0.2, validation_fraction=0.1)
    assert warnings_of(prepared) == [] and prepared.notes == ()
    text = describe(prepared)
    assert "140 examples to train on, 40 to test on, 20 to choose a model by" in text
    assert (
        "privacy: a worker sees the whole model, and each example that it is dealt, label included (20 bytes an example"
        in text
    )


def test_a_source_that_is_sorted_by_label_is_told(ready):
    assert "sorted by label" in describe(ready(y=np.sort(Y)))


def test_a_part_of_one_class_and_a_class_without_examples_are_told(ready):
    one_class = ready(y=np.sort(Y), test_fraction=0.2, split="last")
    assert "the test part has only examples of class '2'" in warnings_of(one_class)
    assert warnings_of(ready(y=Y * 2)) == ["no example to train on is of class 1, 3"]


def test_inputs_of_unequal_scales_are_told_with_a_cure_that_works(ready):
    uneven = X * [1, 1e6, 1e-3]
    assert ["unequal scales" in warning for warning in warnings_of(ready(x=uneven))] == [True]
    cured = ready(x=uneven, standardise=True)
    assert warnings_of(cured) == []
    examples = cured.train.read(np.arange(200))["x"]
    assert np.allclose(examples.mean(axis=0), 0, atol=1e-6) and np.allclose(examples.std(axis=0), 1, atol=1e-6)


def test_examples_that_occur_again_are_told(ready):
    twice = warnings_of(ready(x=np.repeat(X[:100], 2, axis=0), y=np.repeat(Y[:100], 2)))
    assert twice == ["100 of 200 examples to train on occur more than once"]
    leaked = warnings_of(ready(test=(X[:10], Y[:10])))
    assert leaked == ["10 of 10 examples of the test part are among those to train on"]


def test_inputs_that_two_digits_cannot_see_are_named_and_cured(ready):
    uneven = X * [30000.0, 0.5, 1.0] + [0, 0, 5]
    (sentence,) = precision_warnings(ready(x=uneven).train, 2)
    assert "inputs 1, 2 of 'x'" in sentence and "standardise = true" in sentence
    assert precision_warnings(ready(x=uneven).train, 3) == []
    assert precision_warnings(ready(x=uneven, standardise=True).train, 2) == []


def test_a_large_constant_hides_small_inputs_too(ready):
    constant = np.column_stack([np.full(200, 30000.0), X[:, 1]])
    assert len(precision_warnings(ready(x=constant).train, 2)) == 1
