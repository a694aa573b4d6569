"""`podlt verify`: what a run claims, checked from its log and its files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from podlt.cli.attest import write_summary
from podlt.cli.findings import conclusion, findings_document, print_findings
from podlt.cli.options import JsonOption, RunFilesArgument, console, print_facts, shown
from podlt.cli.signing import (
    KeylessOption,
    KeyOption,
    StagingOption,
    SummaryOption,
    TokenOption,
    TrustOption,
    signer_of,
)
from podlt.cli.witness import read_witness
from podlt.errors import InvalidProofError, UsageError

NOTE_LINES = 5
"""Of a head with its manager's signature alone."""

if TYPE_CHECKING:
    from podlt.log.notes import WitnessKey
    from podlt.verify import Verification


def verify(
    run: RunFilesArgument,
    as_json: JsonOption = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that check signatures; one a core by default.")
    ] = None,
    manager_key: Annotated[
        str | None, typer.Option(metavar="HEX", help="The key of the manager whose run this is said to be.")
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A tree head that you saved: the log must continue it."),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="A witness that must have cosigned the log to its end: its key, or a file with it. Repeatable.",
        ),
    ] = None,
    summary: SummaryOption = None,
    key: KeyOption = None,
    keyless: KeylessOption = False,
    token: TokenOption = None,
    staging: StagingOption = False,
    trust_config: TrustOption = None,
) -> None:
    """Verify what a run claims: every draw, signature, verdict, payment and Merkle head; its terms and its model.

    RUN is a run's directory, a bundle of it (`podlt bundle`), or a log alone. Needs no PyTorch. Prints every claim with
    one of three outcomes: it holds, it fails (the first entry that is wrong is named), or it was not checked, and why.
    Whether results are what their tasks give is not checked here: see `podlt audit`.

    Ends with 0 if all that was asked for holds, 1 if something fails, 4 if nothing fails but something was missing.

    Examples: podlt verify runs/mnist

              podlt verify mnist.podlt --head saved.head --json

              podlt verify mnist.podlt --witness witness.key.pub
    """
    trusted = read_note(head) if head is not None else None
    manager = read_key(manager_key) if manager_key is not None else None
    signer = None
    if summary is not None:
        signer = signer_of(key, keyless, token=token, staging=staging, trust_config=trust_config)
    demanded = [read_witness(text) for text in witness or []]
    result = verified(run, jobs=jobs, manager_key=manager, trusted_head=trusted, witnesses=demanded, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(_document(result)))
    else:
        print_verification(result, console())
    if summary is not None and signer is not None:
        write_summary(summary, run, result.findings, result, ["PODLT_VERIFIED"], signer)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def verified(
    run: Path,
    *,
    jobs: int | None = None,
    manager_key: bytes | None = None,
    trusted_head: str | None = None,
    witnesses: Sequence[WitnessKey] = (),
    quiet: bool = False,
) -> Verification:
    """The verification of a run's log; shows how far it is on a terminal."""
    from rich.progress import Progress

    from podlt.verify import verify as check

    with Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("verifying", total=None)
        return check(
            run,
            jobs=jobs,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            manager_key=manager_key,
            trusted_head=trusted_head,
            witnesses=witnesses,
        )


def print_verification(result: Verification, out: Console) -> None:
    """Whose run it is, the claims with what checking them came to, and what no check can say."""
    print_facts(run_facts(result), out)
    out.print()
    print_findings(result.findings, out)
    out.print(f"\n{conclusion(result.findings)}", soft_wrap=True)
    if is_record(result):
        out.print("  one worker: a record of a training; no result was compared with another's", soft_wrap=True)
    for sentence in unknown(result):
        out.print(f"  [dim]not known: {shown(sentence)}[/dim]", soft_wrap=True)


def run_facts(result: Verification) -> dict[str, str]:
    """Whose run it is, as far as the log says it."""
    begin, state = result.state.begin, result.state
    if begin is None:
        return {}
    facts = {"run": state.run.hex(), "manager": begin.manager.hex(), "recipe": begin.recipe.hex()}
    facts |= {"data": f"{begin.data.hex()}, {begin.examples:,} examples", "parameters": state.parameters.hex()}
    return facts


def unknown(result: Verification, *, executed: bool = False, all_executed: bool = False) -> list[str]:
    """What a log cannot show, in sentences: verifying it leaves this open whatever holds.

    Args:
        result: of the verification.
        executed: whether some of its tasks were executed again.
        all_executed: whether all were.
    """
    state, counts = result.state, result.counts
    compared = counts["agree"] + counts["vote"] + counts["referee"]
    sentences = []
    if not is_record(result):
        sentences.append("that keys and operators are different people: the manager, too, may have workers of its own")
    if state.options.own:
        sentences.append("that the manager executed its own share of the tasks")
    if is_record(result) and not all_executed:
        sentences.append(
            f"that its one worker computed anything: a record, in which nothing was compared ({compared:,} of "
            f"{counts['shards']:,} results were executed by the manager); podlt reproduce trains it again"
        )
    elif not all_executed:
        sentences.append(
            f"that results which nobody compared, or executed again, were computed: {compared:,} shards were, of "
            f"{counts['shards']:,}"
        )
    if counts["rescued"]:
        sentences.append(
            f"whether {counts['rescued']:,} of {counts['withdraw']:,} withdrawn workers were gone: they had answered, "
            "and were let go before it was revealed who is checked"
        )
    elif counts["withdraw"]:
        sentences.append(f"whether the {counts['withdraw']:,} withdrawn workers were really gone")
    if state.ledger.taken:
        sentences.append("whether deposits were really paid, or given back")
    if result.documents.is_simulated:
        return ["anything about training: the recipe says that this run was simulated", *sentences]
    return sentences if executed else [*sentences, "that the log was not simulated: only an audit executes its tasks"]


def is_record(result: Verification) -> bool:
    """Whether the run had one worker: then nobody's results were compared with another's."""
    return len(result.state.workers) == 1


def _document(result: Verification) -> dict[str, Any]:
    failure, state = result.failure, result.state
    return {
        "holds": result.ok,
        **findings_document(result.findings),
        "finished": state.closed is not None,
        "entries": state.index,
        "rounds": state.round,
        "head": result.head or None,
        **run_facts(result),
        "not_known": unknown(result),
        "failure": None
        if failure is None
        else {"claim": failure.step, "entry": failure.entry, "message": str(failure)},
    }


def _failure(error: InvalidProofError) -> dict[str, Any]:
    return {"claim": int(error.step), "entry": error.entry, "message": str(error)}


def read_note(path: Path) -> str:
    """The signed tree head in a file, without the lines of witnesses that may follow its manager's.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return "".join(lines[:NOTE_LINES] if all(line.startswith("— ") for line in lines[NOTE_LINES:]) else lines)
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a signed tree head: expected what podlt head RUN --out FILE wrote") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_key(text: str) -> bytes:
    """A manager's key, as it was given.

    Raises:
        UsageError: it is none.
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise UsageError("--manager-key: expected 64 hexadecimal digits, as `podlt show RUN` prints them")
    return key
