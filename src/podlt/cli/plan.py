"""`podlt plan`: what a run's proof costs, what it finds and when, and what cheating would pay."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from podlt.cli.groups import grouped
from podlt.cli.options import JsonOption, console, print_facts
from podlt.errors import UsageError

if TYPE_CHECKING:
    from podlt.economics.options import Assumptions, ProofOptions
    from podlt.economics.plan import ProofPlan
PROOF = "The proof (as the recipe says, else what stands in brackets)"
RUN = "The run (as the recipe says, else what stands in brackets)"
WORKERS = "What is assumed of workers"
ROUNDS = 300
"""Unless the recipe and the number of examples say how many."""


@dataclass(frozen=True)
class ProofFlags:
    """The proof's options, where they are not to be the recipe's."""

    preset: Annotated[
        Literal["guarded", "classic"] | None, typer.Option(rich_help_panel=PROOF, help="Whose rules hold (guarded).")
    ] = None
    checked: Annotated[
        float | None,
        typer.Option(min=0, max=1, rich_help_panel=PROOF, help="Spares for each shard (0.03)."),
    ] = None
    own: Annotated[
        float | None,
        typer.Option(min=0, max=1, rich_help_panel=PROOF, help="Manager's own tasks for each (0.02)."),
    ] = None
    own_most: Annotated[
        int | None, typer.Option(min=0, rich_help_panel=PROOF, help="The most of them a round (1).")
    ] = None
    clip: Annotated[
        float | None, typer.Option(min=0, rich_help_panel=PROOF, help="Largest update, in medians (4).")
    ] = None
    escrow: Annotated[
        int | None, typer.Option(min=0, rich_help_panel=PROOF, help="Tasks until a credit vests (50).")
    ] = None
    deposit: Annotated[
        int | None, typer.Option(min=0, rich_help_panel=PROOF, help="Credits that a worker brings (0).")
    ] = None
    first_fault: Annotated[
        Literal["suspend", "evict"] | None,
        typer.Option(rich_help_panel=PROOF, help="What a worker's first conviction does (suspend)."),
    ] = None
    reward: Annotated[int | None, typer.Option(min=0, rich_help_panel=PROOF, help="Credits a task (1).")] = None


@dataclass(frozen=True)
class AssumedFlags:
    """The run, and what is assumed of its workers."""

    workers: Annotated[int | None, typer.Option(min=1, rich_help_panel=RUN, help="How many (50).")] = None
    rounds: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=RUN, help=f"How many ({ROUNDS}, or by --examples).")
    ] = None
    examples: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=RUN, help="How many examples the data have, to count rounds by."),
    ] = None
    epochs: Annotated[int | None, typer.Option(min=1, rich_help_panel=RUN, help="How many.")] = None
    cost: Annotated[
        float, typer.Option(min=0, rich_help_panel=WORKERS, help="What honest work costs, for each credit of reward.")
    ] = 0.9
    coalition: Annotated[
        float, typer.Option(min=0, max=1, rich_help_panel=WORKERS, help="Share of workers that act together.")
    ] = 0.2
    operators: Annotated[int | None, typer.Option(min=1, rich_help_panel=WORKERS, help="How many, of equal size.")] = (
        None
    )
    levels: Annotated[
        str,
        typer.Option(
            metavar="LEVEL:WORKERS,...",
            rich_help_panel=WORKERS,
            help="Unequal machines, such as 0:40,2:10, as `podlt workers list` has them; who is one level higher has "
            "twice as many tasks a round.",
        ),
    ] = ""
    keys: Annotated[
        Literal["invited", "free"],
        typer.Option(rich_help_panel=WORKERS, help="Whether who was evicted can come back under a new key."),
    ] = "invited"
    key_price: Annotated[
        float, typer.Option(min=0, rich_help_panel=WORKERS, help="Free keys: what one costs besides the deposit.")
    ] = 0.0


@grouped
def plan(
    proof: ProofFlags,
    assumed: AssumedFlags,
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A TOML file, or a name of `podlt recipe list`.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it, as .svg or .png.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Work out what a run's proof costs, how soon it finds fakes, and which escrow or deposit makes cheating worthless.

    Nothing is executed or fetched. What the figures mean: docs/PLAN.md.

    Examples: podlt plan mnist-mlp --examples 60000

              podlt plan --workers 200 --coalition 0.3 --keys free --deposit 25

              podlt plan --preset classic --plot plan.svg

              podlt plan --levels -3:1,0:49     one machine at an eighth of the others' speed
    """
    import msgspec

    from podlt.economics.plan import make_plan

    options, given = _inputs(recipe, proof, assumed)
    if given.workers == 1:
        _print_record(options, given, plot, as_json=as_json)
        return
    made = make_plan(options, given)
    if plot is not None:
        from podlt.economics.plots import draw_plan

        draw_plan(made, plot)
    if as_json:
        typer.echo(msgspec.json.encode(made).decode())
        return
    _print(made, console())
    if plot is not None:
        typer.echo(f"\n{plot}: drawn")


def _inputs(name: str | None, proof: ProofFlags, assumed: AssumedFlags) -> tuple[ProofOptions, Assumptions]:
    """What flags say, else the recipe, else the defaults."""
    import msgspec

    from podlt.cli.recipes import find_recipe
    from podlt.economics.batches import Dealing, options_of
    from podlt.economics.options import Assumptions
    from podlt.economics.plan import kinds_of
    from podlt.protocol.shares import SeatWeights
    from podlt.recipe import TrainingSpec, load_recipe

    training, protocol = TrainingSpec(), {}
    if name is not None:
        recipe = load_recipe(find_recipe(name))
        training, protocol = recipe.training, msgspec.to_builtins(recipe.protocol)
    levels = _levels(assumed.levels)
    workers, given = assumed.workers or sum(levels.values()) or training.workers, vars(proof)
    flags = {field: value for field, value in given.items() if value is not None and field != "reward"}
    rules = options_of(protocol | flags, 1)
    weights = SeatWeights(levels)
    kinds = kinds_of(rules, workers, weights.total if levels else None)
    dealing = Dealing(training.batch_size, -(-training.shard_size // weights.usual), kinds)
    options = options_of(protocol | flags, dealing.task_examples)
    if proof.reward is not None:
        options = msgspec.structs.replace(options, reward=proof.reward)
    counted = (
        ROUNDS if assumed.examples is None else dealing.rounds(assumed.examples, assumed.epochs or training.epochs)
    )
    return options, Assumptions(
        workers=workers,
        rounds=assumed.rounds or counted,
        cost=assumed.cost,
        coalition=assumed.coalition,
        operators=assumed.operators,
        keys=assumed.keys,
        new_key=assumed.key_price,
        levels=levels,
    )


def _levels(text: str) -> dict[int, int]:
    """Level -> how many workers have it.

    Raises:
        UsageError: anything else.
    """
    found: dict[int, int] = {}
    for part in text.split(",") if text else ():
        level, colon, count = part.strip().partition(":")
        if not colon or not level.lstrip("-").isdecimal() or not count.isdecimal():
            raise UsageError(f"--levels {text!r}: expected LEVEL:WORKERS,..., such as 0:40,2:10")
        found[int(level)] = found.get(int(level), 0) + int(count)
    return found


def _print_record(options: ProofOptions, assumed: Assumptions, plot: Path | None, *, as_json: bool) -> None:
    """A run of one worker: nothing is compared, so there is nothing to work out.

    Raises:
        UsageError: it was to be drawn.
    """
    if plot is not None:
        raise UsageError("--plot: with one worker nothing is compared: there is nothing to draw")
    if as_json:
        typer.echo(json.dumps({"workers": 1, "rounds": assumed.rounds, "record": True, "own": options.own}))
        return
    typer.echo(
        "one worker: a record of a training. No result is compared with another's; the manager executes "
        f"{options.own:.0%} of them itself.\n"
        "Whether the record is true is found by training again: podlt reproduce RUN (all of it, by anybody with recipe "
        "and data), or podlt audit RUN (a drawn part)."
    )


def _print(plan: ProofPlan, out: Console) -> None:
    from podlt.economics.words import advice, one_line

    options, assumed = plan.options, plan.assumed
    out.print(one_line(assumed.workers, options, assumed.rounds, assumed.seating) + "\n", soft_wrap=True)
    print_facts(_facts(plan), out)
    out.print()
    out.print(_cheats(plan))
    if plan.incentives:
        out.print()
        out.print(_incentives(plan))
    out.print()
    for sentence in advice(plan):
        out.print(f"- {sentence}", soft_wrap=True)


def _tasks(assumed: Assumptions) -> str:
    """How many tasks workers have a round."""
    seating = assumed.seating
    if seating is None or assumed.seats == assumed.workers:
        return "a task each a round"
    each = sorted({*seating.friends, *seating.others})
    return f"{seating.total:,} tasks a round, {' or '.join(map(str, each))} each"


def _facts(plan: ProofPlan) -> dict[str, str]:
    options, assumed, cost, alone = plan.options, plan.assumed, plan.cost, plan.unpunished
    apart = "" if assumed.operators is None else f" of {assumed.operators} operators"
    spares = ", ".join(f"{number} in {chance:.0%}" for number, chance in plan.spares_a_round)
    facts = {
        "run": f"{assumed.workers:,} workers{apart}, {assumed.rounds:,} rounds, {_tasks(assumed)}",
        "cost": f"{cost.spares:.2%} of workers' tasks repeat another (spares: {spares} of the rounds), the manager "
        f"executes {cost.own:.2%} more: {cost.total:.2%}",
    }
    if options.preset == "guarded" and options.clip:
        shards = assumed.seats - cost.spares * assumed.seats
        facts["one fake"] = f"weighs at most as {options.clip:g} of a round's {shards:,.1f} useful shards (clip)"
    if assumed.members > 1:
        what = "the most" if options.preset == "classic" else "all"
        facts["coalition"] = (
            f"{assumed.members:,} workers; friends hold {what} of a shard's seats {alone.shards_a_round:,.3f} "
            f"times a round, {alone.share_of_tasks:.2%} of a member's tasks"
        )
        facts["unpunished"] = f"a fake there is caught with {alone.hazard:.2%}" + (
            f"; {alone.framed_a_round:.3f} honest workers are evicted a round" if alone.framed_a_round else ""
        )
        facts[""] = f"with the manager on their side nobody sees {alone.with_manager:.1%} of their fakes, but an audit"
        if plan.shared_work:
            facts["shared"] = f"executing such a shard once for all friends saves each {plan.shared_work:,.1f} credits"
    facts["stakes"] = (
        f"reward {options.reward:,} a task, of which work costs {assumed.cost:.0%}; escrow {options.escrow:,} tasks, "
        f"deposit {options.deposit:,}; a first conviction "
        f"{'suspends' if options.convictions > 1 else 'evicts'}; keys {assumed.keys}"
        + (f", {assumed.new_key:g} credits each" if assumed.keys == "free" else "")
    )
    if plan.tasks_worked_out < assumed.rounds:
        facts["horizon"] = f"the best response is that of a run of {plan.tasks_worked_out:,} tasks"
    return facts


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left")
    return table


def _cheats(plan: ProofPlan) -> Table:
    table = _table("who cheats", "caught a fake", "99.9% within", "rounds", "in this run", "fakes applied")
    for each in plan.cheats:
        tasks = "never" if each.tasks is None else f"{each.tasks:,} fakes"
        rounds = "never" if each.rounds is None else f"{each.rounds:,}"
        table.add_row(each.who, f"{each.hazard:.2%}", tasks, rounds, f"{each.caught:.1%}", f"{each.applied:,.1f}")
    return table


def _incentives(plan: ProofPlan) -> Table:
    needs = ("escrow", "deposit", "deposit, joining late")
    table = _table("the best response", "honest", "best", "gain", "fakes", *(f"0 with {need}" for need in needs))
    for each in plan.incentives:
        figures: list[Any] = [each.honest, each.best, each.gain, each.fakes]
        least = (each.escrow, each.deposit, each.deposit_for_all)
        table.add_row(
            each.who,
            *(f"{value:,.1f}" for value in figures),
            *("none" if value is None else f"{value:,}" for value in least),
            style="yellow" if each.gain else None,
        )
    return table
