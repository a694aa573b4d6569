"""Why somebody withdrew or a run stopped, in words that may be logged."""

from __future__ import annotations

import re

_PART = r"[^\s/:;,'\"()<>\[\]]+"
_PATH = re.compile(rf"(?<![\w/.~])~?(?:/{{3,}}|/){_PART}(?:/+{_PART})*/?")


def without_paths(reason: str) -> str:
    """A reason as it may be logged: of each path of the manager's machine only the last part. A log is public."""
    return _PATH.sub(lambda found: found[0].rstrip("/").rpartition("/")[2], reason)
