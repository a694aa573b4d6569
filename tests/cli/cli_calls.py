"""What a call of the command line gives back."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Outcome(msgspec.Struct):
    """What a call of the command line came to."""

    code: int
    out: str
    err: str


Podlt = Callable[..., Outcome]
