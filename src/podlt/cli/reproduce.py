"""`podlt reproduce`: whether training a run again gives the same model, and where it does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from podlt.cli.options import CodeOption, DataOption, JsonOption, RunFilesArgument, console, print_facts, shown
from podlt.cli.predict import ModelOption
from podlt.cli.verify import run_facts

if TYPE_CHECKING:
    from podlt.manager.reproduction import Difference, Reproduction


def reproduce(
    run: RunFilesArgument,
    rounds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Train only the first N rounds again; all by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the model that training again gave (safetensors).")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that execute tasks; one a core by default.")
    ] = None,
    data: DataOption = None,
    code: CodeOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a run again from its recipe, data and program, and say in which round it first differs, if it does.

    RUN is a run's directory or a bundle (podlt bundle; updates are not needed). The run is verified first. Then the
    first parameters are made from the recipe's seed, every round's examples are cut as the log says, every task is
    executed here, and the parameters after each round are compared with the log's. Workers, keys, salts and draws are
    others in each run; they change no bit of the model. So a run with one worker, whose results nobody compared, is
    still a model that anybody can build again.

    A fake that went into the model before its worker was convicted cannot be built again: its round is named. Training
    then goes on with the run's own update of that round, where it is kept.

    Ends with 0 if the model is the same, 1 if it differs, 4 if not all could be trained again here.

    Examples: podlt reproduce runs/mnist

              podlt reproduce mine.podlt --data ~/data/mine.csv --code ~/models --out again.safetensors
    """
    from rich.progress import Progress

    from podlt.manager.reproduction import reproduce as train_again
    from podlt.manager.trained import module_of

    with Progress(console=Console(stderr=True), transient=True, disable=as_json or not sys.stderr.isatty()) as bar:
        task = bar.add_task("verifying, then training again", total=None)
        found = train_again(
            run,
            rounds=rounds,
            out=out,
            data=data,
            code=code,
            model=module_of(model) if model is not None else None,
            jobs=jobs,
            progress=lambda done, total: bar.update(
                task, description="training again", completed=done, total=total or None
            ),
        )
    if as_json:
        typer.echo(json.dumps(_document(found)))
    else:
        _print(found, run, console())
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _print(found: Reproduction, run: Path, out: Console) -> None:
    print_facts({**run_facts(found.verification), "start": found.start or "-", "program": _program(found)}, out)
    out.print()
    for line in _sentences(found, run):
        out.print(line, soft_wrap=True)
    for note in found.notes:
        out.print(f"  {shown(note)}", soft_wrap=True)


def _program(found: Reproduction) -> str:
    """Whether the program that was executed is the recipe's model and loss."""
    if found.program is None:
        return "-"
    return f"{found.program.outcome.value}: {found.program.why or found.program.figure}"


def _sentences(found: Reproduction, run: Path) -> list[str]:
    """What it came to, in rich's markup."""
    lines = []
    for each in found.faked:
        workers = f"worker{'s' * (len(each.workers) != 1)} {', '.join(map(str, each.workers))}"
        lines.append(
            f"[bold red]round {each.round}[/bold red] (entry {each.entry}): a fake of {workers} was applied before it "
            "was convicted: this update cannot be made again"
            + ("; the run's own was taken" if not (found.not_checked and each is found.faked[-1]) else "")
        )
    difference = found.difference
    if difference is not None:
        lines += _difference(difference, run)
    done = f"{found.same:,} of {found.rounds:,} rounds trained again with the same update and the same parameters"
    if difference is not None:
        lines.append(f"[bold red]differs[/bold red] in round {difference.round}; {done}")
    elif found.faked and found.not_checked:
        last = found.faked[-1].round
        lines.append(
            f"[bold red]differs[/bold red] from round {last} on; {done}; what follows was not checked: "
            f"{shown(found.not_checked)}"
        )
    elif found.not_checked:
        lines.append(f"[yellow]not checked[/yellow]: {shown(found.not_checked)}; {done}")
    elif found.faked:
        rounds = ", ".join(str(each.round) for each in found.faked)
        lines.append(f"[bold red]differs[/bold red] in the rounds with fakes ({rounds}) only; {done}; {found.model}")
    else:
        lines.append(f"[green]the same[/green]: {done}; {found.model}")
    return lines


def _difference(difference: Difference, run: Path) -> list[str]:
    lines = [f"round {difference.round} (entry {difference.entry}): {shown(difference.what)}"]
    for each in difference.deviations:
        lines.append(
            f"  {shown(each.name)}: largest deviation {each.largest:.3g}, of values up to {each.size:.3g} in size"
        )
    if not difference.deviations:
        lines.append("  by how much is not known: the run's update of this round is not here (podlt bundle --updates)")
    lines += [f"  may come from: {shown(cause)}" for cause in difference.causes]
    lines.append(f"  look at the round: podlt show {shown(str(run))} round {difference.round}")
    return lines


def _document(found: Reproduction) -> dict[str, Any]:
    import msgspec

    difference = found.difference
    return {
        "same": found.exit_code == 0,
        "exit_code": found.exit_code,
        **run_facts(found.verification),
        "start": found.start,
        "program": None if found.program is None else found.program.outcome.value,
        "rounds": found.rounds,
        "rounds_same": found.same,
        "fakes": msgspec.to_builtins(found.faked),
        "difference": None if difference is None else _finite(msgspec.to_builtins(difference)),
        "not_checked": found.not_checked or None,
        "model": found.model,
        "notes": found.notes,
    }


def _finite(document: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinities: a deviation that is none of its numbers is a text."""
    for each in document["deviations"]:
        for name in ("largest", "size"):
            value = each[name]
            each[name] = value if abs(value) < float("inf") else str(value)
    return document
