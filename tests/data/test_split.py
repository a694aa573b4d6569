"""Which examples are held out: issue 11, point 4."""

import numpy as np
import pytest
from examples_drawn import examples
from hypothesis import given
from hypothesis import strategies as st

from podlt.data.spec import DataSpec
from podlt.data.split import TEST, TRAIN, UNUSED, VALIDATION, Split
from podlt.errors import UsageError

Y = np.random.default_rng(5).integers(0, 7, 1000)


def parts_of(labels, chunk=1000, **options):
    spec = DataSpec("x.csv", **options)
    split = Split(spec, np.bincount(labels))
    return split, np.concatenate([split.of(labels[at : at + chunk]) for at in range(0, len(labels), chunk)])


@given(
    st.lists(st.integers(0, 4), min_size=10, max_size=200),
    st.floats(0.1, 0.5),
    st.floats(0, 0.4),
    st.integers(1, 50),
    st.sampled_from(["random", "last"]),
)
@examples(150)
def test_each_part_has_the_examples_that_it_should_however_they_come(labels, test, validation, chunk, split):
    labels = np.array(labels)
    options = {"test_fraction": test, "validation_fraction": validation if int(len(labels) * validation) else 0.0}
    try:
        found, parts = parts_of(labels, chunk, split=split, **options)
    except UsageError:
        return  # too few examples of a class, or of all
    assert [int((parts == part).sum()) for part in (TRAIN, TEST, VALIDATION)] == [found.sizes[p] for p in range(3)]
    assert (parts == parts_of(labels, split=split, **options)[1]).all()
    if split == "random":
        assert set(labels) == set(labels[parts == TRAIN])


@pytest.mark.parametrize("labels", [Y, np.sort(Y)], ids=["mixed", "sorted"])
def test_each_class_is_held_out_in_its_proportion(labels):
    _, parts = parts_of(labels, test_fraction=0.2, validation_fraction=0.1)
    for part, share in ((TEST, 0.2), (VALIDATION, 0.1)):
        assert (parts == part).sum() == 1000 * share
        held, all_examples = np.bincount(labels[parts == part]), np.bincount(labels)
        assert np.abs(held - all_examples * share).max() < 1


def test_another_seed_holds_out_other_examples():
    first, again, other = (parts_of(Y, test_fraction=0.2, seed=seed)[1] for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_the_last_examples_are_held_out_where_the_recipe_says_so():
    _, parts = parts_of(Y, test_fraction=0.2, validation_fraction=0.1, split="last")
    assert parts.tolist() == [TRAIN] * 700 + [VALIDATION] * 100 + [TEST] * 200


def test_a_limit_of_the_test_part_leaves_the_rest_unused():
    split, parts = parts_of(Y, test_fraction=0.2, test_limit=30)
    assert split.sizes[TEST] == 30 == (parts == TEST).sum() and (parts == UNUSED).sum() == 170


def test_every_example_is_as_likely_to_be_held_out_as_any_other():
    counts = sum((parts_of(np.zeros(20, int), test_fraction=0.25, seed=seed)[1] == TEST) * 1 for seed in range(2000))
    assert ((counts - 500) ** 2 / 375).sum() < 60  # 15 degrees of freedom: five lines are drawn, one from each stretch


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 1, 2, 3], {"test_fraction": 0.1}, "test_fraction 0.1 of 4 examples is no example"),
        ([0, 1, 2, 3], {"test_fraction": 0.5}, "no class has an example to spare"),
        ([0] * 4, {"test_fraction": 0.6, "validation_fraction": 0.5}, "all of its 4 examples are held out"),
    ],
)
def test_a_part_that_no_example_is_left_for_is_refused(labels, options, message):
    with pytest.raises(UsageError, match=message):
        parts_of(np.array(labels), **options)
