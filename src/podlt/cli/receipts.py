"""`podlt receipts`: whether a published log is the one that its manager showed to a worker, and has all of its work."""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from podlt.cli.options import JsonOption, options_of
from podlt.errors import InvalidProofError, NotCheckedError, UsageError

if TYPE_CHECKING:
    from podlt.receipts.commitments import BoundComparison
    from podlt.receipts.credits import Comparison

FOLDER = ".podlt"


class OlderLogError(NotCheckedError):
    """A log has fewer entries than its manager has signed: an older copy, or one that was cut. Nothing is decided."""


def receipts(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run's directory, a bundle of it, or its log.db; or the https:// URL of a bundle.",
            metavar="[RUN|URL]",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The worker's folder, where its receipts are; ~/.podlt by default."),
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here what convicts the manager, if anything does.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check a file that --evidence wrote, by itself: nothing else is needed."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the receipts that a worker has with a log that its manager publishes.

    A receipt for credits has a head that the manager signed over the whole log at that time; one for a commitment has
    its signature on the work of a round, from before anything was shown. If the published log is another one, or lacks
    such work, that is evidence against the manager (exit code 1), which anybody can check. Run podlt verify as well:
    this command says that it is the same log, and not that it is sound.

    Examples: podlt receipts runs/theirs --evidence evidence.json

              podlt receipts https://example.org/theirs.podlt

              podlt receipts --check evidence.json
    """
    if (run is None) == (check is None):
        raise UsageError("expected a run, or --check FILE")
    if check is not None:
        _check(check, as_json)
        return
    assert run is not None
    with _published(run) as path:
        document, found, bound = _compared(path, folder or Path.home() / FOLDER)
    if as_json:
        typer.echo(json.dumps(document))
    if bound.dropped or found.contradictions:
        _convict(context, found, bound, document, evidence)
    if not as_json:
        for account in document["accounts"]:
            typer.echo(_credits(account))
    _decided(found, bound)
    if not as_json:
        typer.echo(
            f"all {found.receipts:,} receipts for credits and {bound.logged:,} for commitments are in this log; it is "
            "the one that the manager showed to its worker"
        )
        if evidence is not None:
            typer.echo(f"{evidence}: not written: nothing convicts the manager")
        if bound.anew:
            typer.echo(
                f"{bound.anew:,} receipts for commitments are of attempts at rounds that the manager began anew: the "
                "log counts how often it did"
            )


@contextmanager
def _published(run: str) -> Iterator[Path]:
    """Where a run is on this machine; one at a URL is fetched, and deleted afterwards.

    Raises:
        UsageError: nothing can be fetched there.
        StorageError: there is no room for it.
    """
    if not run.startswith("https://"):
        yield Path(run)
        return
    from podlt.network.download import download

    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "run.podlt"
        download(run, target, MOST_EVIDENCE)
        yield target


def _compared(run: Path, home: Path) -> tuple[dict[str, Any], Comparison, BoundComparison]:
    """Compares what is in a worker's folder with a published log; the facts as JSON has them, and both comparisons.

    Raises:
        UsageError: there is no run, or it has not begun.
        StorageError: there are no receipts of it.
        InvalidProofError: a receipt, or the log, does not prove what it says.
    """
    from podlt.protocol import entries as e
    from podlt.receipts import commitments, credits
    from podlt.report.fold import decode, open_log

    with closing(open_log(run)) as store:
        rows = store.entries()
        first = next(((n, leaf, body) for n, leaf, body in rows), None)
        begin = decode(0, first[2]) if first is not None else None
        if not isinstance(begin, e.Begin):
            raise UsageError(f"{run}: the log is empty: nothing was trained yet")
        identity, heads = e.identity(begin), store.heads()
        if not heads:
            raise UsageError(f"{run}: the log has no signed head yet")
        note, manager = heads[-1][1], begin.manager
        saved = commitments.read(home, identity)
        found = credits.compare(credits.read(home, identity), store.entries(), note, manager, identity)
        bound = commitments.compare(saved, store.entries(), note, manager, identity)
    document = {
        "run": identity.hex(),
        "manager": manager.hex(),
        "published_head": note,
        **msgspec.to_builtins(found),
        "commitments": {**_counts(bound), "dropped": len(bound.dropped)},
        "accounts": [] if bound.dropped or found.contradictions else _accounts(run, home, identity),
    }
    return document, found, bound


def _accounts(run: Path, home: Path, identity: bytes) -> list[dict[str, Any]]:
    """What the log has, at its end, for each worker whose receipts these are; nothing if the rules do not allow it."""
    from podlt.report.fold import walk
    from podlt.worker.folder import BookFiles

    try:
        last = deque(walk(run), maxlen=1)[0]
    except InvalidProofError:  # podlt verify says what is wrong
        return []
    ledger, mine = last.state.ledger.accounts, BookFiles(home).earned(identity)
    return [
        {"worker": number, "key": worker.key.hex(), **msgspec.to_builtins(ledger[number])}
        for number, worker in last.state.workers.items()
        if worker.key.hex() in mine and number in ledger
    ]


def _credits(account: dict[str, Any]) -> str:
    moved = [f"{account[name]:,} {name}" for name in ("vested", "pending", "forfeited")]
    held = f"; deposit {account['deposit']:,} held" if account["deposit"] else ""
    return f"worker {account['worker']} ({account['key'][:16]}) has by this log: {', '.join(moved)}{held}"


def _counts(bound: BoundComparison) -> dict[str, int]:
    return {"logged": bound.logged, "anew": bound.anew, "beyond": bound.beyond}


def _convict(
    context: typer.Context,
    found: Comparison,
    bound: BoundComparison,
    document: dict[str, Any],
    evidence: Path | None,
) -> None:
    """Writes the evidence, and says what it is.

    Raises:
        InvalidProofError: always.
    """
    if evidence is None:
        options_of(context).hint = "keep the evidence: --evidence FILE"
    else:
        from podlt.store.files import write_whole

        whole = json.dumps(document, indent=1).encode()
        write_whole(evidence, msgspec.json.encode(bound.dropped[0]) if bound.dropped else whole)
    if bound.dropped:
        one = bound.dropped[0]
        raise InvalidProofError(f"{len(bound.dropped)} commitments: {one.reason} (round {one.receipt.round})")
    other = found.contradictions[0]
    raise InvalidProofError(
        f"{len(found.contradictions)} receipts are of another log: {other.reason}",
        expected=bytes.fromhex(other.expected),
        actual=bytes.fromhex(other.published),
    )


def _decided(found: Comparison, bound: BoundComparison) -> None:
    """Raises: OlderLogError: receipts are about more than the log has."""
    if bound.beyond and not found.beyond:
        raise OlderLogError(
            f"{bound.beyond} receipts for commitments are of a round that this log does not have: the one in progress "
            f"when its manager stopped, or the log was cut; all {found.receipts:,} receipts for credits are in it"
        )
    if found.beyond or bound.beyond:
        raise OlderLogError(
            f"{found.beyond + bound.beyond} receipts are over more entries than this log has: it is an older copy, or "
            f"was cut; the other {found.receipts + bound.logged + bound.anew} receipts are in it"
        )


def _check(path: Path, as_json: bool) -> None:
    """Whether a file convicts a manager.

    Raises:
        InvalidProofError: it does not.
        UsageError: there is no such file.
    """
    from podlt.protocol import entries as e
    from podlt.receipts.commitments import check_evidence
    from podlt.store.files import read_whole

    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    found = check_evidence(read_whole(path, MOST_EVIDENCE))
    begin, receipt = e.decode(found.begin.entry), found.receipt
    assert isinstance(begin, e.Begin)
    said = {
        "run": e.identity(begin).hex(),
        "manager": begin.manager.hex(),
        "round": receipt.round,
        "attempt": receipt.attempt,
        "worker": receipt.commitment.holder,
        "reason": found.reason,
    }
    if as_json:
        typer.echo(json.dumps(said))
    else:
        typer.echo(
            f"the evidence holds: manager {said['manager']}, run {said['run']}, round {receipt.round}, worker "
            f"{receipt.commitment.holder}: {found.reason}"
        )


MOST_EVIDENCE = 2**30
