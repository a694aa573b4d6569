"""What events of a run and of a worker have in common: data for programs, lines for people, a level for the log."""

from __future__ import annotations

import logging
from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something happened.

    Attributes:
        level: how much it deserves attention, as in `logging`.
    """

    level: ClassVar[int] = logging.INFO

    @property
    def name(self) -> str:
        """Its kind, as JSON and the log call it."""
        return str(self.__struct_config__.tag)

    @property
    def lines_for_people(self) -> list[str]:
        """It as text, in lines; none if a progress bar or a figure shows it."""
        return []


class Published(Event, frozen=True, tag="published"):
    """How the parameters of a round went out.

    Attributes:
        size: bytes of the parameters.
        sent: bytes that were published, once, however many workers fetch them.
        form: "whole", "delta" (what changed) or "same".
        way: "messages", "https" from the manager, or an object "store".
        seconds: that it took to find what changed.
    """

    size: int
    sent: int
    form: str
    way: str
    seconds: float
