"""`podlt checker`: the page that verifies bundles in a browser, as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def checker(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where to. It is written over.")] = Path("verify.html"),
) -> None:
    """Write the page on which anybody verifies a bundle in a browser, without podlt: one file, for any web server.

    It can also be mailed, or opened from a disk. It asks no server and can ask none: its own policy forbids it. It
    takes what podlt bundle wrote, and checks the same claims as podlt verify, by rules of its own.
    """
    from podlt.dashboard.checker_page import write_checker_page

    write_checker_page(out)
    typer.echo(f"wrote {out}: open it in a browser of 2025 or later")
    typer.echo("then drop a bundle on it, as podlt bundle RUN writes")
