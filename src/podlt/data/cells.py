"""What the cells of a table mean: numbers, booleans, dates, and values that are missing.

A column means what all of its cells mean together, as in pandas: where every cell is a number, 1, 1.0, 01 and 1e0 are
one value, and where every cell is true or false, so are TRUE and true. Any other column holds texts, all different.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["number", "boolean", "text"]
Mask = npt.NDArray[np.bool_]

_PANDAS = "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|n/a|nan|null"
MISSING_TEXTS = frozenset(["", *_PANDAS.split("|")])
"""What stands for a missing text: what pandas takes for one, but for "None", which is a class in many tables."""

MISSING_NUMBERS = MISSING_TEXTS | {"None", "none"}

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}.*)?$"
_ZONE = r"([zZ]|[+-][0-9]{2}:?[0-9]{2})$"
_MICROSECONDS_A_DAY = 86_400_000_000
_EXACT = 2**53


class Numbers(NamedTuple):
    """The cells of a column as numbers.

    Attributes:
        values: float64[n], NaN where there is none.
        missing: bool[n], where the cell is missing.
        wrong: bool[n], where the cell is neither missing nor what it should be.
        boolean: bool[n], where the cell was true or false.
    """

    values: npt.NDArray[np.float64]
    missing: Mask
    wrong: Mask
    boolean: Mask


def mask_of(values: pa.Array) -> Mask:
    """An array of booleans without nulls, bool[n]."""
    result: Mask = values.to_numpy(zero_copy_only=False).astype(np.bool_)
    return result


def missing_of(values: pa.Array) -> Mask:
    """Which cells of a column of texts are missing, bool[n]."""
    texts = pa.array(sorted(MISSING_TEXTS), pa.string())
    return mask_of(pc.or_(pc.is_null(values), pc.is_in(values.cast(pa.string()), texts)))


def numbers_of(values: pa.Array) -> Numbers:
    """The cells of a column as numbers; true is 1 and false is 0."""
    none = np.zeros(len(values), np.bool_)
    if not pa.types.is_string(values.type):
        floats = _floats(values.cast(pa.float64(), safe=False))
        boolean = none if not pa.types.is_boolean(values.type) else ~none
        return Numbers(floats, np.isnan(floats), none, boolean)
    try:
        floats = _floats(values.cast(pa.float64()))
        return Numbers(floats, np.isnan(floats), none, none)
    except pa.ArrowInvalid:
        pass
    absent = pc.or_(pc.is_null(values), pc.is_in(values, pa.array(sorted(MISSING_NUMBERS), pa.string())))
    missing = mask_of(absent)
    lower = pc.utf8_lower(values)
    boolean = mask_of(pc.fill_null(pc.is_in(lower, pa.array(["true", "false"])), False))
    matched = mask_of(pc.fill_null(pc.match_substring_regex(values, _NUMBER), False))
    digits = pc.if_else(pa.array(matched), values, pa.scalar(None, pa.string()))
    floats = _floats(digits.cast(pa.float64()))
    floats[boolean] = mask_of(pc.fill_null(pc.equal(lower, "true"), False))[boolean]
    infinite = mask_of(pc.fill_null(pc.match_substring_regex(lower, r"^[+-]?inf(inity)?$"), False))
    floats[infinite] = np.inf
    return Numbers(floats, missing, ~(missing | boolean | matched | infinite), boolean)


def days_of(values: pa.Array) -> Numbers:
    """The cells of a column of dates as days since 1970: ISO 8601 in texts, or Arrow's own types."""
    none = np.zeros(len(values), np.bool_)
    if pa.types.is_temporal(values.type):
        days = _days(values.cast(pa.timestamp("us"), safe=False))
        return Numbers(days, mask_of(pc.is_null(values)), none, none)
    values = values.cast(pa.string())
    missing = missing_of(values)
    shaped = mask_of(pc.fill_null(pc.match_substring_regex(values, _DATE), False))
    zoned = mask_of(pc.fill_null(pc.match_substring_regex(values, r":.*" + _ZONE), False)) & shaped
    days = np.full(len(values), np.nan)
    for rows, kind in ((shaped & ~zoned, pa.timestamp("us")), (zoned, pa.timestamp("us", "UTC"))):
        if rows.any():
            days[rows] = _parsed(values.filter(pa.array(rows)), kind)
    return Numbers(days, missing, ~missing & np.isnan(days), none)


def is_date(text: object) -> bool:
    """Whether a cell looks like a date."""
    return isinstance(text, str) and re.match(_DATE, text) is not None


def kind_of(texts: Iterable[str]) -> Kind:
    """What a column means whose cells are these; missing ones have no say."""
    cells = [text for text in texts if text not in MISSING_TEXTS]
    if cells and all(_number_name(cell) is not None for cell in cells):
        return "number"
    return "boolean" if cells and all(cell.lower() in ("true", "false") for cell in cells) else "text"


def name_as(kind: Kind, text: str) -> str:
    """The one name of a cell's value in a column of this kind; a cell that is not of the kind keeps its own."""
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower()
    return (_number_name(text) if kind == "number" else None) or text


def _number_name(text: str) -> str | None:
    """The name that all spellings of a number share, or None if the text is no number."""
    if not re.match(_NUMBER, text):
        return None
    if text.lstrip("+-").isdecimal():
        return str(int(text)) if len(text) < 4000 else text  # as long as the file has it: an identifier may be
    value = float(text)
    if not np.isfinite(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)


def _floats(values: pa.Array) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = values.to_numpy(zero_copy_only=False).astype(np.float64)
    return result


def _days(stamps: pa.Array) -> Any:
    return _floats(stamps.cast(pa.int64())) / _MICROSECONDS_A_DAY


def _parsed(texts: pa.Array, kind: pa.DataType) -> Any:
    """The dates in texts of the right shape, NaN for those that no calendar has."""
    try:
        return _days(texts.cast(kind))
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return np.full(1, np.nan)
        half = len(texts) // 2
        return np.concatenate([_parsed(texts[:half], kind), _parsed(texts[half:], kind)])
