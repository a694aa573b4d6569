"""`podlt simulate`: the rules alone, over many seeded runs, with digests in the place of tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from podlt.cli.options import JsonOption, console
from podlt.errors import UsageError
from podlt.protocol.options import Preset


def simulate(
    workers: Annotated[int, typer.Option(min=1, help="How many workers there are in all.")] = 50,
    cheat: Annotated[
        list[str] | None,
        typer.Option(metavar="COUNT:PLAYER", help="Such as 3:always, 2:selective:0.1, 2:majority, 1:silent."),
    ] = None,
    preset: Annotated[Preset, typer.Option(help="The rules.")] = "guarded",
    rounds: Annotated[int, typer.Option(min=1, help="The length of a run.")] = 200,
    runs: Annotated[int, typer.Option(min=1, help="How many runs, each with its own seed.")] = 1,
    seed: Annotated[int, typer.Option(help="Decides everything: the same seed gives the same runs.")] = 0,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the log of the (one) run, to verify and to show.")
    ] = None,
    network: Annotated[
        bool,
        typer.Option(
            "--network",
            help="Play the real manager and workers over simulated networks that lose, repeat and reorder messages, "
            "cut off and kill processes and the manager; what goes wrong follows from the seed.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Play the rules with simulated workers, to see how long cheaters last. The manager and the log are the real ones.

    Examples: podlt simulate --cheat 3:always --runs 100

              podlt simulate --preset classic --cheat 5:majority --runs 20     a coalition outvotes the honest

              podlt simulate --cheat 3:always --keep runs/simulated ; podlt verify runs/simulated

              podlt simulate --network --runs 100 --rounds 20     a run that goes wrong is repeated by its seed
    """
    if network:
        if cheat or keep is not None or preset != "guarded":
            raise UsageError(
                "--network: expected no --cheat, --keep or --preset; podlt arena --network plays cheaters there"
            )
        return _networks(workers, rounds, runs, seed, as_json)
    from podlt.recipe import ProtocolSpec
    from podlt.sim import simulate as play

    cast = _cast(cheat or ["3:always"])
    if keep is not None and keep.exists():
        raise UsageError(f"{keep}: there is something already")
    rules = ProtocolSpec(preset=preset)
    result = play(workers, cast, rounds, seed, runs, whole=keep is not None, protocol=rules, directory=keep)
    figures = _figures(result, rounds)
    if as_json:
        typer.echo(json.dumps(figures))
        return
    out = console()
    names = ", ".join(f"{count} {name}" for name, count in cast.items())
    out.print(f"{runs} runs of up to {rounds} rounds, {workers} workers, of them {names}; {preset}")
    for name, value in figures.items():
        out.print(f"  {name.replace('_', ' '):32} {_text(value)}")
    if keep is not None:
        out.print(f"[dim]podlt verify {keep}[/dim]")


def _networks(workers: int, rounds: int, runs: int, seed: int, as_json: bool) -> None:
    """Plays simulated networks; ends with status 1 if something did not hold in one."""
    import msgspec

    from podlt.sim.networks import play_networks

    failed, played, seconds, messages, kills, withdrawn = 0, 0, 0.0, 0, 0, 0
    for report in play_networks(seed, runs, workers=workers, rounds=rounds):
        failed, played, seconds = failed + bool(report.failure), played + report.rounds, seconds + report.seconds
        messages, kills, withdrawn = messages + report.messages, kills + report.kills, withdrawn + report.withdrawn
        if as_json:
            typer.echo(msgspec.json.encode(report).decode())
        elif report.failure:
            again = f"podlt simulate --network --workers {workers} --rounds {rounds} --seed {report.seed}"
            console().print(f"seed {report.seed}: {report.failure}; again: {again}", markup=False)
    if not as_json:
        console().print(
            f"{runs} networks, {played:,} rounds in {seconds:,.0f} simulated seconds, {messages:,} messages; "
            f"the manager died {kills:,} times, workers were let go {withdrawn:,} times; failed: {failed}"
        )
    if failed:
        raise typer.Exit(1)


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


def _cast(specs: list[str]) -> dict[str, int]:
    cast: dict[str, int] = {}
    for spec in specs:
        count, _, player = spec.partition(":")
        if not count.isdecimal() or not player:
            raise UsageError(f"--cheat {spec!r}: expected COUNT:PLAYER, such as 3:always")
        cast[player] = cast.get(player, 0) + int(count)
    return cast


def _figures(result: Any, rounds: int) -> dict[str, float | int | None]:
    import statistics

    convicted = [number + 1 for run in result.runs for number in run.convicted.values()]
    count = len(result.runs)
    return {
        "cheaters_caught": len(convicted),
        "cheaters_at_large": sum(run.at_large for run in result.runs),
        "caught_share": result.caught_within(rounds),
        "median_rounds_until_caught": statistics.median(convicted) if convicted else None,
        "fakes_applied_a_run": result.mean_fakes(),
        "honest_convicted_a_run": sum(run.honest_convicted for run in result.runs) / count,
        "credits_vested_to_cheaters_a_run": sum(run.vested for run in result.runs) / count,
        "credits_forfeited_a_run": sum(run.forfeited for run in result.runs) / count,
    }
