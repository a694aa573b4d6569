"""The sum of a round's updates as whole numbers, the average that follows from it, and the updates' fingerprints.

`update.average` adds up in units of the largest value, exactly; here the sums themselves are kept. That is so for exact
arithmetic only: PyTorch's own sums are rounded in the order of the updates.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from podlt.crypto import blob_digest
from podlt.errors import InvalidProofError
from podlt.program.clip import Scale, scaled
from podlt.program.places import Places
from podlt.program.update import DIVISOR
from podlt.protocol.fingerprint import Fingerprint

BITS = 42
"""Values are multiples of the largest one's 2**(exponent - 42), as `exact.cpu.average` has it."""

MOST_SUM = 2**BITS
"""What one update adds to a sum at most: 2**16 of them stay below 2**58, so that two sums that are equal modulo p are
equal."""


class SumSection(msgspec.Struct, frozen=True):
    """Values that are added up in one unit.

    Attributes:
        place: where they lie among the float32 values.
        measured: whose largest value gives the unit.
    """

    place: slice
    measured: slice


def sections(layout: Places) -> list[SumSection]:
    """The sections of an update, by unit: all of it; or gradients, their divisor, and buffers, if there are any."""
    floats = layout.float_bytes // 4
    divisor = dict(layout.items()).get(DIVISOR)
    if divisor is None:
        return [SumSection(slice(0, floats), slice(0, floats))]
    at, end = divisor.offset // 4, layout.section("grad:")[1] // 4
    found = [SumSection(slice(0, end), slice(0, end)), SumSection(slice(at, at + 1), slice(at, at + 1))]
    return found + ([SumSection(slice(end, floats), slice(end, floats))] if end < floats else [])


class UpdateSums(msgspec.Struct, frozen=True):
    """The sum of a round's updates.

    Attributes:
        exponents: of the largest value, for each section.
        values: int64, one for each float32 of an update.
    """

    exponents: list[int]
    values: np.ndarray

    def digest(self) -> bytes:
        """BLAKE3 of the values, little-endian."""
        return blob_digest(np.ascontiguousarray(self.values, "<i8").view(np.uint8).data)


def scaled_values(updates: Sequence[np.ndarray], layout: Places, scales: Sequence[Scale]) -> list[np.ndarray]:
    """The float32 values of updates, scaled as the round's clipping says.

    Args:
        updates: uint8 bytes in the update's layout, one a shard.
        layout: theirs.
        scales: what was clipped.
    """
    values = [update[: layout.float_bytes].view(np.float32) for update in updates]
    for shard in {scale.shard for scale in scales}:
        own = [scale for scale in scales if scale.shard == shard]
        values[shard] = scaled(values[shard], layout, own)
    return values


def exact_sums(values: Sequence[np.ndarray], layout: Places) -> UpdateSums:
    """The sum of float32 vectors, scaled and finite, in the units of `update.average`."""
    from podlt.exact.cpu.kernels import fingerprint as kernels

    addresses = np.array([each.ctypes.data for each in values], np.int64)
    out, exponents = np.zeros(layout.float_bytes // 4, np.int64), []
    for section in sections(layout):
        start, stop = section.measured.start, section.measured.stop
        exponents.append(kernels.largest(addresses, start, stop - start))
        kernels.add_units(addresses, section.place.start, exponents[-1] - BITS, out[section.place])
    return UpdateSums(exponents, out)


def average_of(sums: UpdateSums, examples: int, layout: Places) -> np.ndarray:
    """The float32 values of the average: what `update.average` makes of the same updates.

    Args:
        sums: of the round.
        examples: of the round.
        layout: of an update.
    """
    from podlt.exact.cpu.kernels import fingerprint as kernels

    out = np.zeros(layout.float_bytes // 4, np.float32)
    parts = sections(layout)
    over, single = [np.float32(examples)], np.zeros(1, np.float32)
    if len(parts) > 1:
        at = parts[1].place
        kernels.divide(sums.values[at], sums.exponents[1] - BITS, np.float32(1), single)
        over = [np.float32(float(single[0]) or 1.0), np.float32(1), np.float32(examples)]
    for section, exponent, divisor in zip(parts, sums.exponents, over, strict=False):
        kernels.divide(sums.values[section.place], exponent - BITS, divisor, out[section.place])
    return out


def fingerprint(
    update: np.ndarray, layout: Places, scaling: tuple[int, int], exponents: Sequence[int], points: Sequence[int]
) -> Fingerprint:
    """The fingerprint of an update.

    Args:
        update: uint8 bytes in the update's layout.
        layout: its layout.
        scaling: the exponent by which each of its two parts is scaled down, 0 for none.
        exponents: of the round's largest values, one a section.
        points: where to evaluate it.

    Raises:
        InvalidProofError: the exponents are not those of a sum that this update is part of.
    """
    from podlt.exact.cpu.kernels import fingerprint as kernels

    (values,) = scaled_values([update], layout, [Scale(0, part, e) for part, e in enumerate(scaling) if e])
    address, parts = np.array([values.ctypes.data], np.int64), sections(layout)
    out, largest = np.zeros(len(values), np.int64), []
    if len(exponents) != len(parts):
        raise InvalidProofError("another number of sections", expected=len(parts), actual=len(exponents))
    for section, exponent in zip(parts, exponents, strict=True):
        largest.append(kernels.largest(address, section.measured.start, section.measured.stop - section.measured.start))
        if largest[-1] > exponent:
            raise InvalidProofError("an update has a larger value than the round's", expected=exponent)
        kernels.add_units(address, section.place.start, exponent - BITS, out[section.place])
    return Fingerprint(largest, evaluate(out, points), blob_digest(update[layout.float_bytes :].tobytes()))


def evaluate(values: np.ndarray, points: Sequence[int]) -> list[int]:
    """The polynomial with these coefficients (int64, each of less than 2**60) at some points."""
    from podlt.exact.cpu.kernels import fingerprint as kernels

    found = np.zeros(len(points), np.uint64)
    kernels.polynomials(values, np.array(points, np.uint64), found)
    return [int(value) for value in found]


def packed(values: np.ndarray) -> tuple[int, bytes]:
    """UpdateSums as bytes of one width each, little-endian: the fewest that the largest needs, and the bytes."""
    most = max(int(values.max(initial=0)), -int(values.min(initial=0)) - 1)
    width = most.bit_length() // 8 + 1
    raw = np.ascontiguousarray(values, "<i8").view(np.uint8).reshape(-1, 8)
    return width, raw[:, :width].tobytes()


def unpacked(raw: bytes, count: int, width: int) -> np.ndarray:
    """What `packed` was given.

    Raises:
        InvalidProofError: not so many bytes.
    """
    if len(raw) != count * width or not 1 <= width <= 8:
        raise InvalidProofError("not as many sums as there are said to be", expected=count * width, actual=len(raw))
    given = np.frombuffer(raw, np.uint8).reshape(count, width)
    out = np.zeros((count, 8), np.uint8)
    out[:, :width] = given
    out[:, width:] = np.where(given[:, -1:] >= 128, 255, 0)
    return out.view("<i8").reshape(-1).astype(np.int64)
