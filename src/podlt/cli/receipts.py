"""`podlt receipts`: whether a published log is the one that its manager showed to a worker."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from podlt.cli.options import JsonOption, RunArgument, options_of
from podlt.errors import InvalidProofError, NotCheckedError, UsageError

FOLDER = ".podlt"


class OlderLogError(NotCheckedError):
    """A log has fewer entries than its manager has signed: an older copy, or one that was cut. Nothing is decided."""


def receipts(
    context: typer.Context,
    run: RunArgument,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The worker's folder, where its receipts are; ~/.podlt by default."),
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here what convicts the manager, if anything does.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the receipts that a worker has with a log that its manager publishes.

    Each receipt has a head that the manager signed over the whole log at that time. If the log that it publishes is
    another one, the two signed heads are evidence against it (exit code 1). Run podlt verify as well: this command
    says that it is the same log, and not that it is sound.

    Example: podlt receipts runs/theirs --evidence evidence.json
    """
    from podlt.network import receipts as stored
    from podlt.protocol import entries as e
    from podlt.report.fold import decode, open_log

    home = folder or Path.home() / FOLDER
    with closing(open_log(run)) as store:
        rows = store.entries()
        first = next(((n, leaf, body) for n, leaf, body in rows), None)
        begin = decode(0, first[2]) if first is not None else None
        if not isinstance(begin, e.Begin):
            raise UsageError(f"{run}: the log is empty: nothing was trained yet")
        identity, heads = e.identity(begin), store.heads()
        if not heads:
            raise UsageError(f"{run}: the log has no signed head yet")
        note = heads[-1][1]
        found = stored.compare(stored.read(home, identity), store.entries(), note, begin.manager, identity)
    document = {
        "run": identity.hex(),
        "manager": begin.manager.hex(),
        "published_head": note,
        **msgspec.to_builtins(found),
    }
    if as_json:
        typer.echo(json.dumps(document))
    if found.contradictions:
        if evidence is not None:
            from podlt.store.files import write_whole

            write_whole(evidence, json.dumps(document, indent=1).encode())
        else:
            options_of(context).hint = "keep the evidence: --evidence FILE"
        one = found.contradictions[0]
        raise InvalidProofError(
            f"{len(found.contradictions)} receipts are of another log: {one.reason}",
            expected=bytes.fromhex(one.expected),
            actual=bytes.fromhex(one.published),
        )
    if found.beyond:
        raise OlderLogError(
            f"{found.beyond} receipts are over more entries than this log has: it is an older copy, or was cut; "
            f"the other {found.receipts} receipts are in it"
        )
    if not as_json:
        typer.echo(
            f"all {found.receipts:,} receipts are in this log; it is the one that the manager showed to its worker"
        )
