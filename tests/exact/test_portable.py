"""The table in plain torch operations: the CPU backend's bits and the definitions' bits, on the CPU and on CUDA.

Without a GPU everything but the tests for CUDA runs, on the CPU; those say that they were skipped.
"""

import math

import numpy as np
import pytest
import torch
from examples_drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from portable_calls import calls
from test_every_operation import as_arrays, bits, parts, sampled

from podlt.errors import UnsupportedError, UsageError
from podlt.exact.aten.convolution import forward, input_gradient
from podlt.exact.conformance import visited
from podlt.exact.constants import NanError, NonFiniteError
from podlt.exact.cpu import backend as cpu
from podlt.exact.definition import elementary as definition_elementary
from podlt.exact.definition import layers
from podlt.exact.definition import products as definition
from podlt.exact.geometry import Geometry
from podlt.exact.operations import definitions
from podlt.exact.portable import convolution, elementary, products, reduce
from podlt.exact.portable.backend import backend, table
from podlt.program.philox import philox, uniform

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA: no GPU on this machine, so nothing ran on one")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_GPU)]
on_each_device = pytest.mark.parametrize("device", DEVICES)
FUNCTIONS = ["exp", "log", "tanh", "sigmoid", "erf", "rsqrt", "gelu", "gelu_tanh", "gelu_slope", "gelu_tanh_slope"]
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def moved(item, device):
    if isinstance(item, torch.Tensor):
        return item.to(device)
    return [moved(part, device) for part in item] if isinstance(item, list | tuple) else item


def same(a, b):
    """Equal bits, type and shape; NaNs are alike."""
    if a is None or b is None:
        return a is None and b is None
    a, b = torch.as_tensor(a).cpu(), torch.as_tensor(b).cpu()
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype != torch.float32:
        return torch.equal(a, b)
    bits = a.contiguous().view(torch.int32) == b.contiguous().view(torch.int32)
    return bool((bits | (torch.isnan(a) & torch.isnan(b))).all())


def counters(draw, count, device):
    index = torch.arange(-(-count // 4), device=device)
    return [index, index * 0, index * 0 + draw, index * 0]


def as_list(found):
    return list(found) if isinstance(found, tuple | list) else [found]


@on_each_device
@pytest.mark.parametrize("digits", [1, 2, 3, 0])
def test_every_call_of_every_operation_gives_the_cpu_backend_s_bits(device, digits):
    ours, theirs = table(digits, device), cpu.table(digits)
    for number, (name, arguments, options) in enumerate(calls(products_only=digits != 2)):
        want = as_list(theirs[name](*arguments, **options))
        got = as_list(ours[name](*moved(arguments, device), **options))
        assert len(got) == len(want), (name, number)
        for part, (a, b) in enumerate(zip(got, want, strict=True)):
            assert same(a, b), (name, number, part)
            assert a is None or a.device.type == device, (name, "is not on its device")


def test_both_backends_have_every_sampled_operation():
    assert set(table(2)) == set(cpu.table(2)) == {name for name, _, _ in sampled()}


@on_each_device
def test_every_sample_of_every_operation_gives_the_bits_of_the_definition(device):
    """The body of the CPU's test: the definitions, over the same samples."""
    run, defined = visited(device, 2), definitions(2)
    for number, (name, arguments, options) in enumerate(sampled()):
        given = as_arrays(arguments), {key: as_arrays(value) for key, value in options.items()}
        with np.errstate(all="ignore"):
            want = parts(defined[name](*given[0], **given[1]))
        got = [None if part is None else part.numpy() for part in parts(run[name](*arguments, **options))]
        assert [bits(part) for part in got] == [bits(part) for part in want], (name, number)


@on_each_device
@pytest.mark.parametrize("way", ["int8", "float64"])
@settings(max_examples=10, deadline=None)
@given(data=st.data(), m=st.integers(1, 4), k=st.integers(1, 5), n=st.integers(1, 4), digits=st.integers(1, 3))
def test_products_equal_their_definition_for_any_floats(device, way, data, m, k, n, digits):
    a = data.draw(arrays(np.float32, (m, k), elements=finite))
    b = data.draw(arrays(np.float32, (k, n), elements=finite))
    with products.using(way):
        got = table(digits, device)["mm.default"](*moved([torch.from_numpy(a), torch.from_numpy(b)], device))
    assert same(got, definition.mm(a, b, digits))


@on_each_device
@settings(max_examples=10, deadline=None)
@given(x=arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 3)), elements=finite))
def test_sums_over_any_dimensions_equal_their_definition(device, x):
    t = torch.from_numpy(x).to(device)
    for dims in ([0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]):
        kept = [d for d in range(3) if d not in dims]
        lines = x.transpose(*kept, *dims).reshape(*[x.shape[d] for d in kept], -1)
        assert same(reduce.total(t, dims, False), np.apply_along_axis(definition.exact_sum, -1, lines))


@on_each_device
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "digits"),
    [
        pytest.param(*geometry, digits, marks=[] if digits == 2 or geometry == (2, 1, 1) else pytest.mark.slow)
        for geometry in ((1, 1, 1), (2, 1, 1), (1, 2, 2))
        for digits in (1, 2, 3, 0)
    ],
)
def test_convolutions_and_their_gradients_equal_their_definitions(device, digits, stride, padding, dilation):
    x, weight = np.random.default_rng(1).normal(size=(2, 2, 5, 6)), np.random.default_rng(2).normal(size=(3, 2, 3, 3))
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    t, w = torch.from_numpy(x).to(device), torch.from_numpy(weight).to(device)
    g, numbers = (
        Geometry((stride,) * 2, (padding,) * 2, (dilation,) * 2, 1),
        (stride, padding, dilation, digits),
    )
    b = backend(digits, t.device)
    y = forward(b, t, w, None, g)
    assert same(y, layers.convolution(x, weight, *numbers))
    grad = y.flip(0) * 0.37
    got = convolution.weight_gradient(grad, t, weight.shape, g, digits)
    assert same(got, layers.convolution_weight_gradient(grad.cpu().numpy(), x, weight, *numbers))
    got = input_gradient(b, grad, w, (5, 6), None, g)
    assert same(got, layers.convolution_input_gradient(grad.cpu().numpy(), x.shape, weight, *numbers))


@on_each_device
@pytest.mark.parametrize("name", [*FUNCTIONS, "sin", "cos"])
def test_functions_equal_their_written_sequence_over_all_exponents(device, name):
    x = ((np.arange(2**17, dtype=np.uint32) << 15) | np.uint32(0x35A5)).view(np.float32)
    if name in ("sin", "cos"):
        x = np.clip(np.nan_to_num(x), -524287, 524287)
    t = torch.from_numpy(x).to(device)
    waves = {"sin": 0, "cos": 1}
    got = elementary.wave(t, waves[name]) if name in waves else getattr(elementary, name)(t)
    with np.errstate(all="ignore"):
        assert same(got, getattr(definition_elementary, name)(x))


@on_each_device
@examples(60)
@given(
    st.floats(width=32), st.one_of(st.floats(width=32), st.sampled_from([0.5, -0.5, 2.0, 3.0, -1.0, 64.0, 65.0, 0.0]))
)
def test_powers_equal_their_written_sequence(device, x, y):
    a, b = np.array([x], np.float32), np.array([y], np.float32)
    assert same(
        elementary.power(*moved([torch.from_numpy(a), torch.from_numpy(b)], device)), definition_elementary.power(a, b)
    )


@on_each_device
def test_square_roots_and_quotients_are_the_ieee_operations(device):
    x = np.abs(((np.arange(2**17, dtype=np.uint32) << 15) | np.uint32(0x35A5)).view(np.float32))
    t, run = torch.from_numpy(x).to(device), table(2, device)
    with np.errstate(all="ignore"):
        assert same(run["sqrt.default"](t), np.sqrt(x))
        assert same(run["reciprocal.default"](t), np.float32(1) / x)
        for divisor in (3.0, 7.0, 1e-3):
            assert same(run["div.Scalar"](t, divisor), x / np.float32(divisor))
        y = np.roll(x, 12345)
        for name, want in (("add", x + y), ("sub", x - y), ("mul", x * y), ("div", x / y)):
            assert same(run[f"{name}.Tensor"](t, torch.from_numpy(y).to(device)), want)
        assert same(run["add.Tensor"](t, torch.from_numpy(y).to(device), alpha=0.3), x + y * np.float32(0.3))
        assert same(run["addcmul.default"](t, t, torch.from_numpy(y).to(device)), x + x * y)


@on_each_device
def test_pieces_blocks_and_ways_do_not_change_a_bit(device, monkeypatch):
    a, b = torch.randn(30, 200, device=device), torch.randn(200, 9, device=device)
    x, weight = torch.randn(7, 4, 8, 8, device=device), torch.randn(6, 2, 3, 3, device=device)
    g, one = Geometry((2, 1), (1, 0), (1, 2), 2), backend(2, x.device)

    def everything():
        y = forward(one, x, weight, None, g)
        d_x = input_gradient(one, y, weight, (8, 8), None, g)
        batches = products.bmm(a.reshape(5, 6, 200), b.expand(5, 200, 9), 3)
        return products.mm(a, b, 2), batches, y, d_x, convolution.weight_gradient(y, x, weight.shape, g, 2)

    want = everything()
    for change in ((products, "MOST_TERMS", 48), (products, "LARGE", 0), (convolution, "BLOCK_BYTES", 1)):
        monkeypatch.setattr(*change)
        assert all(map(same, everything(), want)), change[1]
    with products.using("float64"):
        assert all(map(same, everything(), want))
    monkeypatch.setattr(products, "has_int8", lambda device: False)
    assert all(map(same, everything(), want))


@on_each_device
def test_the_largest_digits_fill_an_int32_accumulator_and_no_more(device):
    x = torch.full((1, products.MOST_TERMS + 5), 2.0 - 2.0**-20, device=device)
    assert products.MOST_TERMS * 64 * 64 < 2**31
    with products.using("float64"):
        want = products.mm(x, x.t(), 1)
    assert same(products.mm(x, x.t(), 1), want) and float(want) == 4.0 * x.shape[1]


@on_each_device
def test_zeros_of_both_signs_and_nans_are_ordered_as_ieee_754_2019_orders_them(device):
    run = table(2, device)
    up, down = torch.zeros(19, device=device), -torch.zeros(19, device=device)
    for a, b in ((up, down), (down, up)):
        assert same(run["maximum.default"](a, b), up) and same(run["minimum.default"](a, b), down)
        both = torch.stack([a, b])
        assert same(run["amax.default"](both, [0]), up) and same(run["amin.default"](both, [0]), down)
    nan = torch.full((19,), math.nan, device=device)
    for name in ("maximum.default", "minimum.default"):
        assert same(run[name](nan, up), nan) and same(run[name](up, nan), nan)


@on_each_device
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_non_finite_terms_are_an_error_that_names_the_operation(device, bad):
    run, one = table(2, device), torch.tensor([[1.0, 2.0], [bad, 1.0]], device=device)
    for name, arguments in {
        "mm": (one, one),
        "bmm": (one[None], one[None]),
        "addmm": (one[0], one, one),
        "sum": (one,),
        "mean": (one,),
        "cumsum": (one, 0),
        "native_layer_norm": (one, [2], None, None, 1e-5),
        "convolution": (one[None, None], one[:1, :1][None, None], None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
    }.items():
        with pytest.raises(NonFiniteError, match=f"^{name}: expected finite"):
            run[f"{name}.default"](*arguments)


@on_each_device
@pytest.mark.parametrize("row", [[math.nan, 1.0], [math.inf, 1.0], [-math.inf, -math.inf]])
def test_softmax_refuses_lines_without_a_finite_maximum(device, row):
    with pytest.raises(NonFiniteError, match=r"^_softmax"):
        table(2, device)["_softmax.default"](torch.tensor([[1.0, 2.0], row], device=device), 1, False)


@on_each_device
@pytest.mark.parametrize("bad", [7, -1])
def test_places_beyond_a_tensor_are_refused_before_a_device_reads_them(device, bad):
    run, x, index = table(2, device), torch.ones(7, 3, device=device), torch.tensor([[0, bad, 1]], device=device)
    for name, arguments in {
        "gather.default": (x, 0, index),
        "scatter.value": (x, 0, index, 1.0),
        "scatter_add.default": (x, 0, index, x),
        "index_select.default": (x, 0, index[0]),
        "index_add.default": (x, 0, index[0], x[:3]),
        "embedding.default": (x, index),
        "nll_loss_forward.default": (x.t(), index[0], None, 1, -100),
    }.items():
        with pytest.raises(IndexError, match=name.partition(".")[0]):
            run[name](*arguments)
    with pytest.raises(IndexError, match=r"^index:"):
        run["index.Tensor"](x, [index * 8])
    with pytest.raises(IndexError, match=r"^embedding_dense"):
        run["embedding_dense_backward.default"](x, torch.tensor([0, 1, 2, 3, 4, 5, 9], device=device), 7, -1, False)


@on_each_device
def test_what_depends_on_order_is_refused(device):
    arguments = (torch.zeros(3), [torch.tensor([1, 1])], torch.tensor([1.0, 2.0]), False)
    with pytest.raises(UsageError, match="one twice"):
        table(2, device)["index_put.default"](*moved(arguments, device))
    with pytest.raises(UnsupportedError, match=r"^sin"):
        table(2, device)["sin.default"](torch.tensor([6e5], device=device))


@on_each_device
def test_draws_are_the_cpu_s(device):
    for seed, draw, shape in (
        (0, 0, (5,)),
        (2**64 - 1, 2**31, (3, 7)),
        (0x0123456789ABCDEF, 9, (4, 1, 2)),
        (1, 1, (0,)),
    ):
        words = philox(counters(draw, math.prod(shape), device), (seed % 2**32, seed >> 32))  # by torch on the CPU too
        drawn = (torch.stack(words, 1).reshape(-1)[: math.prod(shape)].reshape(shape) >> 8).float() / 2.0**24
        assert same(drawn, uniform(seed, draw, shape))
        assert same(uniform(seed, draw, shape, device), uniform(seed, draw, shape))


@on_each_device
def test_what_has_no_order_or_no_place_is_refused(device):
    run, nan = table(2, device), torch.tensor([1.0, math.nan], device=device)
    for name, arguments in {"sort": (nan,), "topk": (nan, 1), "argmax": (nan,), "logsumexp": (nan, [0])}.items():
        with pytest.raises(NanError, match=f"^{name}:"):
            run[f"{name}.default"](*arguments)
    with pytest.raises(NanError, match=r"^max:"):
        run["max.dim"](nan, 0)
    with pytest.raises(NonFiniteError, match=r"^logsumexp"):
        run["logsumexp.default"](torch.full((2,), math.inf, device=device), [0])
    with pytest.raises(UsageError, match="from 0 to 3"):
        run["topk.default"](torch.ones(3, device=device), 4)
    with pytest.raises(UsageError, match="at least one value"):
        run["amax.default"](torch.ones(2, 0, device=device), [1])
    twice = torch.tensor([1, 1], device=device)
    with pytest.raises(UsageError, match="one twice"):
        run["scatter.src"](torch.zeros(3, device=device), 0, twice, torch.ones(2, device=device))
    for value in (1e30, math.nan):
        with pytest.raises(UnsupportedError, match=r"^_to_copy"):
            run["_to_copy.default"](torch.tensor([value], device=device), dtype=torch.int64)


def test_a_device_that_is_not_there_is_said_so():
    with pytest.raises(UsageError, match="expected cpu, cuda"):
        table(2, "warp drive")
    with pytest.raises(UsageError, match="digits"):
        table(4)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="finds none"):
            table(2, "cuda")
