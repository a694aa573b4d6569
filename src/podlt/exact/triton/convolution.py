"""Exact convolutions: digits are cut before they are laid out, and laid out by the product itself as it reads them.

One operand is a matrix of digits, cut by rows. The other is an image of digits: a product reads its (c, y, x) for a
position (n, oy, ox) and a tap (c, ky, kx). Positions are columns and taps are contracted (`convolve`), or the other way
about (`weight_gradient`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import triton.language as tl

from podlt.errors import UnsupportedError
from podlt.exact.aten.backend import Filters, SampleDigits
from podlt.exact.constants import ADAPTIVE
from podlt.exact.geometry import Geometry, Pair
from podlt.exact.portable import convolution as portable
from podlt.exact.triton.digits import CutRows, cut
from podlt.exact.triton.flags import Flag
from podlt.exact.triton.jit import kernel, launch
from podlt.exact.triton.products import chosen, chunk_terms, levels, plus_step, unit
from podlt.exact.triton.scalars import rounded

Tensor = torch.Tensor


@kernel
def convolution_kernel(
    matrix,
    image,
    matrix_exponents,
    image_exponents,
    matrix_wide,
    image_wide,
    bias,
    out,
    rows,
    columns,
    terms,
    padded,
    length,
    across,
    taps,
    taps_across,
    height,
    width,
    stride_y,
    stride_x,
    pad_y,
    pad_x,
    dilation_y,
    dilation_x,
    sample_step,
    group_step,
    plane_step,
    channel_step,
    exponent_group,
    exponent_column,
    out_group,
    out_row,
    out_inner,
    out_outer,
    count: tl.constexpr,
    adaptive: tl.constexpr,
    by_half: tl.constexpr,
    has_bias: tl.constexpr,
    by_positions: tl.constexpr,
    chunk: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
):
    """One block of one group: rows of the matrix against columns of what the image is laid out as."""
    blocks = tl.cdiv(columns, block_n)
    i = (tl.program_id(0) // blocks).to(tl.int64) * block_m + tl.arange(0, block_m)
    j = (tl.program_id(0) % blocks) * block_n + tl.arange(0, block_n)  # int32: it is divided
    group = tl.program_id(1).to(tl.int64)
    in_rows, in_columns = (i < rows)[:, None], (j < columns)[None, :]
    a = matrix + (group * count * rows + i)[:, None] * padded
    next_a = rows.to(tl.int64) * padded
    owner = (j // length) if by_positions else (j // taps)  # the sample or channel of a column
    place = group * exponent_group + owner.to(tl.int64) * exponent_column
    wide_a = tl.load(matrix_wide + group * rows + i, mask=i < rows, other=0)
    wide_b = tl.load(image_wide + place, mask=j < columns, other=0)
    wide = (wide_a[:, None] + wide_b[None, :]) > 0
    deep = (tl.max(wide_a, 0) + tl.max(wide_b, 0)) > 0
    kind: tl.constexpr = tl.float32 if by_half else tl.int32
    total = tl.zeros((block_m, block_n), tl.int64)
    for first in range(0, padded, chunk):
        s0 = tl.zeros((block_m, block_n), kind)
        s1, s2, s3 = s0, s0, s0
        for start in range(first, tl.minimum(first + chunk, padded), block_k):
            k = start + tl.arange(0, block_k)
            position = j[None, :] if by_positions else k[:, None]
            tap = k[:, None] if by_positions else j[None, :]
            y = ((position % length) // across) * stride_y - pad_y + ((tap % taps) // taps_across) * dilation_y
            x = (position % across) * stride_x - pad_x + (tap % taps_across) * dilation_x
            seen = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (k < terms)[:, None] & in_columns
            b = image + group * group_step + (position // length).to(tl.int64) * sample_step
            b = b + (tap // taps).to(tl.int64) * channel_step + (y * width + x)
            rows_a = a + k[None, :]
            s0, s1, s2, s3 = plus_step(
                s0, s1, s2, s3, rows_a, b, next_a, plane_step, in_rows, seen, deep, count, adaptive, by_half
            )
        total += levels(s0, s1, s2, s3, wide, count, adaptive)
    e = tl.load(matrix_exponents + group * rows + i, mask=i < rows, other=0)[:, None]
    e = e + tl.load(image_exponents + place, mask=j < columns, other=0)[None, :]
    found = rounded(total, e - unit(wide, count, adaptive))
    if has_bias:
        found = found + tl.load(bias + group * rows + i, mask=i < rows, other=0.0)[:, None]
    where = group * out_group + i[:, None] * out_row
    where = where + ((j // out_inner).to(tl.int64) * out_outer + j % out_inner)[None, :]
    tl.store(out + where, found, mask=in_rows & in_columns)


@dataclass(frozen=True)
class CutImage:
    """The digits that are laid out.

    Args:
        planes: int8, whose last two dimensions lie close together.
        exponents: int32, contiguous.
        wide: int32, as the exponents: 1 where a value of that exponent has four digits though others may have two.
        size: height and width.
        steps: from one sample, group, plane and channel to the next, in values.
        owners: of exponents, from one group and from one column's sample or channel to the next.
    """

    planes: Tensor
    exponents: Tensor
    wide: Tensor
    size: Pair
    steps: tuple[int, int, int, int]
    owners: tuple[int, int]


def _multiply(
    matrix: CutRows,
    image: CutImage,
    columns: int,
    terms: int,
    g: Geometry,
    taps: Pair,
    size: Pair,
    by_positions: bool,
    adaptive: bool,
    bias: Tensor | None,
    out: Tensor,
    steps: tuple[int, int, int, int],
) -> None:
    """Write the products of each group; `steps` are of the result: group, row, columns in a block, block.

    Raises:
        UnsupportedError: more columns or terms than int32 can number.
    """
    if max(columns, terms) >= 2**31 - 128:
        raise UnsupportedError(f"convolution: expected less than 2**31 positions, got {max(columns, terms):,}")
    groups, count, rows, padded = matrix.values.shape
    block_m, block_n = (64 if rows > 32 else 32), (64 if columns > 32 else 32)
    by_half = chosen(out.device) == "half"
    launch(
        convolution_kernel,
        (-(-rows // block_m) * -(-columns // block_n), groups),
        *(matrix.values, image.planes, matrix.exponents, image.exponents, matrix.wide, image.wide),
        *(matrix.values if bias is None else bias.contiguous(), out, rows, columns, terms, padded),
        *(size[0] * size[1], size[1], taps[0] * taps[1], taps[1], *image.size),
        *(*g.stride, *g.padding, *g.dilation, *image.steps, *image.owners, *steps),
        count=count,
        adaptive=adaptive,
        by_half=by_half,
        has_bias=bias is not None,
        by_positions=by_positions,
        chunk=chunk_terms(count, by_half),
        block_m=block_m,
        block_n=block_n,
        block_k=64,
        num_warps=4 if count <= 2 else 8,
    )


def cut_samples(x: Tensor, groups: int, digits: int, operation: str) -> SampleDigits:
    """The digits of float32 (n, c, h, w), of any value: `places` are the wide ones, all with planes for the widest."""
    n, c, h, w = x.shape
    flag = Flag(x.device)
    found = cut(x.detach().reshape(1, n * groups, -1), digits, flag)
    flag.check(operation)
    planes = found.values[0].unflatten(1, (n, groups))[..., : c // groups * h * w].permute(1, 2, 0, 3)
    planes = planes.unflatten(3, (c // groups, h, w))
    return SampleDigits(planes, found.exponents.reshape(n, groups), found.wide.reshape(n, groups))


def convolve(
    x: Tensor,
    filters: Filters,
    bias: Tensor | None,
    g: Geometry,
    taps: Pair,
    size: Pair,
    digits: int,
    operation: str,
    apart: Pair = (1, 1),
) -> Tensor:
    """`Convolutions.convolve`."""
    weight = filters.rows()
    if not weight.numel() or not x.numel():
        return portable.convolve(x, filters, bias, g, taps, size, digits, operation, apart)
    samples = cut_samples(x, g.groups, digits, operation)
    samples = samples if apart == (1, 1) else replace(samples, planes=portable.spaced(apart, samples.planes))
    planes, (groups, per, k), length = samples.planes, weight.shape, size[0] * size[1]
    n = planes.shape[0]
    out = torch.zeros((n, groups * per, *size), device=planes.device)
    flag = Flag(planes.device)
    matrix = cut(weight, digits, flag)
    flag.check(operation)
    if not out.numel():
        return out
    assert samples.places is not None
    if planes.stride()[-2:] != (planes.shape[-1], 1):
        planes = planes.contiguous()
    by_sample, by_group, by_plane, by_channel = planes.stride()[:4]
    steps = (by_sample, by_group, by_plane, by_channel)
    owners = (1, groups)
    image = CutImage(planes, samples.exponents, samples.places, (planes.shape[4], planes.shape[5]), steps, owners)
    places = (per * length, length, length, groups * per * length)
    added = None if bias is None else bias.detach()
    adaptive = digits == ADAPTIVE
    _multiply(matrix, image, n * length, k, g, taps, size, True, adaptive, added, out, places)
    return out


def weight_gradient(grad: Tensor, x: Tensor, shape: Sequence[int], g: Geometry, digits: int) -> Tensor:
    """`Convolutions.weight_gradient`."""
    if not (grad.numel() and x.numel()):
        return portable.weight_gradient(grad, x, shape, g, digits)
    (n, c, h, w), (_, o, *size) = x.shape, grad.shape
    flag = Flag(x.device)
    rows = grad.detach().transpose(0, 1).reshape(g.groups, o // g.groups, -1)
    channels = x.detach().transpose(0, 1).reshape(g.groups, c // g.groups, -1)
    matrix, found = cut(rows, digits, flag), cut(channels, digits, flag)
    flag.check("convolution_backward")
    by_group, by_plane, by_channel, _ = found.values.stride()
    steps = (h * w, by_group, by_plane, by_channel)
    image = CutImage(found.values, found.exponents, found.wide, (h, w), steps, (c // g.groups, 1))
    taps, cells = (shape[2], shape[3]), (size[0], size[1])
    columns, terms = c // g.groups * taps[0] * taps[1], n * cells[0] * cells[1]
    out = torch.empty(tuple(shape), device=x.device)
    places = (o // g.groups * columns, columns, columns, 0)
    _multiply(matrix, image, columns, terms, g, taps, cells, False, digits == ADAPTIVE, None, out, places)
    return out
