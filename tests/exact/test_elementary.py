"""Elementary functions: the fast twin equals the written sequence bit for bit, and the sequence is accurate."""

import numpy as np
import pytest
import torch
from examples_drawn import examples
from hypothesis import given
from hypothesis import strategies as st

from podlt.errors import UnsupportedError
from podlt.exact.cpu.backend import table
from podlt.exact.cpu.kernels import elementary as loops
from podlt.exact.cpu.power import power
from podlt.exact.definition import elementary as definition
from podlt.exact.definition import structure
from podlt.exact.portable.backend import table as portable_table

NAMES = ["exp", "log", "log2", "log1p", "expm1", "tanh", "sigmoid", "erf", "erfc", "atan", "rsqrt", "gelu", "gelu_tanh"]
NAMES += ["silu", "sin", "cos"]
BOUNDED = [88.7, 89, 90, -87.4, -103.9, -104, 0.625, -0.625, 0.927734375, -0.9277344, 3.99, 4, 0.70710677, 0.70710678]
EXTREME = [0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 1, -1, -1e30, 1e30, 3.4e38, np.inf, -np.inf, np.nan]
EDGES = np.array(BOUNDED + EXTREME, np.float32)


def all_exponents():
    """Every float32 whose low 12 bits are one pattern: all signs and exponents, a mantissa in 4096."""
    return ((np.arange(2**20, dtype=np.uint32) << 12) | np.uint32(0x5A5)).view(np.float32)


def agree(got, want):
    both_nan = np.isnan(got) & np.isnan(want)
    return bool(((got.view(np.uint32) == want.view(np.uint32)) | both_nan).all())


@pytest.mark.parametrize("name", NAMES)
def test_functions_equal_their_written_sequence_over_all_exponents(name):
    x = np.concatenate([all_exponents(), EDGES])
    if name in ("sin", "cos"):
        x = np.clip(np.nan_to_num(x), -524287, 524287)
    out = np.empty_like(x)
    loops.unary(getattr(loops, name.upper()), x.ctypes.data, len(x), out.ctypes.data)
    with np.errstate(all="ignore"):
        assert agree(out, getattr(definition, name)(x))


@pytest.mark.parametrize(
    ("name", "low", "high", "bound"),
    [
        ("exp", -87, 88, 1e-7),
        ("log", 1e-30, 100, 1e-7),
        ("log2", 1e-30, 100, 2e-7),
        ("log2", 0.9, 1.1, 3e-7),
        ("erfc", -5, 9, 1e-7),
        ("atan", -20, 20, 2e-7),
        ("atan", -1e-3, 1e-3, 1e-7),
        ("log1p", -0.999, 100, 3e-7),
        ("log1p", -1e-3, 1e-3, 2e-7),
        ("expm1", -30, 88, 2e-7),
        ("expm1", -1e-3, 1e-3, 1e-7),
        ("tanh", -10, 10, 2e-7),
        ("sigmoid", -80, 80, 2e-7),
        ("erf", -4, 4, 2e-7),
        ("rsqrt", 1e-30, 1e6, 1e-7),
        ("sin", -5e5, 5e5, 1e-7),
        ("cos", -100, 100, 1e-7),
    ],
)
def test_functions_are_accurate(name, low, high, bound):
    x = np.random.default_rng(0).uniform(low, high, 100_000).astype(np.float32)
    want = getattr(torch, name)(torch.from_numpy(x).double()).numpy()
    error = np.abs(getattr(definition, name)(x).astype(np.float64) - want) / np.maximum(np.abs(want), 1e-38)
    assert error.max() < bound


@pytest.mark.parametrize(
    ("name", "numbers"), [("softplus", (1.0, 20.0)), ("softplus", (0.3, 5.0)), ("elu", (0.7, 1.3, 0.9))]
)
def test_activations_of_several_numbers_equal_their_written_sequence_over_all_exponents(name, numbers):
    x = np.concatenate([all_exponents(), EDGES])
    with np.errstate(all="ignore"):
        want = getattr(definition, name)(x, *numbers)
    assert agree(table(2)[f"{name}.default"](torch.from_numpy(x), *numbers).numpy(), want)


@pytest.mark.parametrize("name", ["log1p", "expm1"])
def test_small_arguments_of_log1p_and_expm1_are_their_own_image(name):
    x = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-39, -1e-30, 1e-9], np.float32)
    assert agree(table(2)[f"{name}.default"](torch.from_numpy(x)).numpy(), x)


@pytest.mark.parametrize(
    ("name", "given", "want"),
    [
        ("log1p", [-1.0, -1.5, np.inf, np.nan], [-np.inf, np.nan, np.inf, np.nan]),
        ("log2", [0.0, -1.0, 2.0**-149, 2.0**127, np.inf, np.nan], [-np.inf, np.nan, -149.0, 127.0, np.inf, np.nan]),
        ("erfc", [-np.inf, -0.0, 0.0, 10.4, np.inf, np.nan], [2.0, 1.0, 1.0, 0.0, 0.0, np.nan]),
        ("atan", [-np.inf, -0.0, 1e-45, np.inf, np.nan], [-np.pi / 2, -0.0, 1e-45, np.pi / 2, np.nan]),
        ("round", [0.5, -0.5, 1.5, 2.5, np.inf, np.nan], [0.0, -0.0, 2.0, 2.0, np.inf, np.nan]),
        ("expm1", [-np.inf, -104.0, 89.0, np.inf, np.nan], [-1.0, -1.0, np.inf, np.inf, np.nan]),
        ("softplus", [-np.inf, np.inf, np.nan], [0.0, np.inf, np.nan]),
        ("elu", [-np.inf, np.inf, np.nan, -0.0], [-1.0, np.inf, np.nan, -0.0]),
    ],
)
def test_ends_of_the_line_are_where_mathematics_has_them(name, given, want):
    got = table(2)[f"{name}.default"](torch.tensor(given)).numpy()
    assert agree(got, np.array(want, np.float32))


@examples(200)
@given(
    st.floats(width=32), st.one_of(st.floats(width=32), st.sampled_from([0.5, -0.5, 2.0, 3.0, -1.0, 64.0, 65.0, 0.0]))
)
def test_powers_equal_their_written_sequence(x, y):
    a, b = np.array([x], np.float32), np.array([y], np.float32)
    want = definition.power(a, b)
    assert agree(power(torch.from_numpy(a), torch.from_numpy(b)).numpy(), want)
    assert agree(power(torch.from_numpy(a), y).numpy(), want)


def test_powers_are_accurate():
    random = np.random.default_rng(2)
    x, y = np.exp(random.uniform(-5, 5, 2000)).astype(np.float32), random.uniform(-8, 8, 2000).astype(np.float32)
    out = power(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    want = x.astype(np.float64) ** y.astype(np.float64)
    assert (np.abs(out - want) / want).max() < 1e-7


@pytest.mark.parametrize(("name", "which"), [("gelu", loops.GELU), ("gelu_tanh", loops.GELU_TANH)])
def test_slopes_equal_their_written_sequence(name, which):
    x = np.random.default_rng(3).normal(size=5000).astype(np.float32) * 3
    out, ones = np.empty_like(x), np.ones_like(x)
    loops.slope(which, ones.ctypes.data, x.ctypes.data, len(x), out.ctypes.data)
    with np.errstate(all="ignore"):
        assert agree(out, getattr(definition, f"{name}_slope")(x))


def test_square_roots_and_quotients_are_the_ieee_operations():
    x = np.abs(all_exponents())
    with np.errstate(all="ignore"):
        assert agree(table(2)["sqrt.default"](torch.from_numpy(x)).numpy(), np.sqrt(x))
        for divisor in (3.0, 7.0, 1e-3):
            got = table(2)["div.Scalar"](torch.from_numpy(x), divisor).numpy()
            assert agree(got, x / np.float32(divisor))
        y = np.roll(x, 12345)
        for name, want in (("add", x + y), ("sub", x - y), ("mul", x * y), ("div", x / y)):
            assert agree(table(2)[f"{name}.Tensor"](torch.from_numpy(x), torch.from_numpy(y)).numpy(), want)
        scaled = table(2)["add.Tensor"](torch.from_numpy(x), torch.from_numpy(y), alpha=0.3).numpy()
        assert agree(scaled, x + y * np.float32(0.3))


def test_angles_beyond_the_reduction_are_refused_by_name():
    with pytest.raises(UnsupportedError, match=r"^sin"):
        table(2)["sin.default"](torch.tensor([6e5]))


def any_bits(seed):
    return np.random.default_rng(seed).integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)


def test_remainders_of_any_two_floats_are_exact_on_both_backends():
    a, b = any_bits(4), any_bits(5)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    got = table(2)["remainder.Tensor"](x, y).numpy()
    assert agree(portable_table(2)["remainder.Tensor"](x, y).numpy(), got)
    with np.errstate(all="ignore"):
        assert agree(got[:3000], structure.remainder(a[:3000], b[:3000]))


def test_a_remainder_has_the_sign_of_its_divisor():
    got = table(2)["remainder.Scalar"](torch.tensor([5.5, -5.5, 4.0, -4.0]), -2.0)
    assert agree(got.numpy(), np.array([-0.5, -1.5, 0.0, -0.0], np.float32))
    assert table(2)["remainder.Scalar"](torch.tensor([5, -5]), 3).tolist() == [2, 1]


def test_a_product_of_prefixes_is_taken_from_the_first_value_on():
    big, small = 2.0**100, 2.0**-100
    got = table(2)["cumprod.default"](torch.tensor([big, small, big, big, small]), 0)
    assert got.tolist() == [big, 1.0, big, float("inf"), float("inf")]
