"""What an entry's first field says, whatever version it is of: its kind's name, and the version of the format."""

from __future__ import annotations

import re

import msgspec

from podlt.canonical import MAX_RECORD


class _Tagged(msgspec.Struct):
    """What any version of any kind begins with."""

    kind: str


_tagged = msgspec.msgpack.Decoder(_Tagged)
_TAG = re.compile(r"([a-z-]{1,32})/([1-9][0-9]{0,5})")


def tag_in(body: bytes) -> str:
    """What an entry that cannot be decoded says it is; "" if it says nothing."""
    try:
        return _tagged.decode(body).kind if len(body) <= MAX_RECORD else ""
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""


def tag_parts(tag: str) -> tuple[str, int]:
    """Name and version of a tag; nothing if it has another form, and then no program is known that wrote it."""
    found = _TAG.fullmatch(tag)
    return (found[1], int(found[2])) if found else ("", 0)
