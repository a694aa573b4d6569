"""What the arena over a simulated network came to, as a section of docs/ARENA.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from podlt.sim.networked_arena import COMPUTE, LATE, RULES, NetworkRow

HEAD = "## Over a simulated network"

LEGEND = f"""The real manager, workers and sessions of both sides; what carries messages, tells the time and computes is
simulated. A quarter of the workers attack, a process each; a task takes {COMPUTE} s. {RULES.checked:.0%} of the
shards have a spare, the manager executes {RULES.own:.0%}, and {RULES.escrow} tasks are in escrow, so that short runs
tell. Here are the attacks that need a network to be meant, and a cheater of each kind of the tables above. The log of
each run is verified.

- **came to**: *caught*: convicted. *let go*: withdrawn without fraud, and it may come back. *shut out*: refused for
  good. *harmless*: none of these, and nothing false is applied. *rescued*: a lying manager's fakes are applied, and
  `podlt verify` counts its withdrawals. **as expected**: so it was to be, no honest worker was convicted or let go,
  and fakes were found as often as the formula says.
- **convicted**, **withdrawn**: attackers; **honest** convicted and withdrawn, in all runs together.
- **fakes**, **found**: that were opened, and of them named by a verdict; **least**, **most**: of the formula's 95 %
  interval; **applied**: fakes.
- **pay**: of an attacker, for each credit of an honest worker.
- **round**: how long one takes, for each second of the run that nobody attacks. A late answer costs a round {LATE:g} s,
  here the time of {LATE / COMPUTE:.0f} tasks: who is late again waits half as long for its backup, and who is let go
  comes back ever later."""


def _optional(value: int | None) -> str:
    return "-" if value is None else str(value)


COLUMNS: tuple[tuple[str, Callable[[NetworkRow], str]], ...] = (
    ("came to", lambda row: row.outcome),
    ("as expected", lambda row: "yes" if row.is_as_expected else "no"),
    ("convicted", lambda row: str(row.convicted)),
    ("withdrawn", lambda row: str(row.let_go)),
    ("honest convicted", lambda row: str(row.honest_convicted)),
    ("honest withdrawn", lambda row: str(row.honest_let_go)),
    ("fakes", lambda row: str(row.trials)),
    ("found", lambda row: str(row.hits)),
    ("least", lambda row: _optional(row.low)),
    ("most", lambda row: _optional(row.high)),
    ("applied", lambda row: str(row.applied)),
    ("pay", lambda row: f"{row.pay:.2f}"),
    ("round", lambda row: f"{row.pace:.2f}"),
    ("rescued", lambda row: str(row.rescued)),
)
"""Heads and cells."""


def network_section(rows: Sequence[NetworkRow], command: str, date: str, version: str) -> str:
    """The section, with its heading.

    Args:
        rows: what was played.
        command: that made it.
        date: of the measurement.
        version: podlt's, in words.
    """
    lines = [f"| attack | what it does | {' | '.join(name for name, _ in COLUMNS)} |"]
    lines.append(f"|{' --- |' * 4}{' ---: |' * (len(COLUMNS) - 2)}")
    for row in rows:
        lines.append(f"| `{row.attack}` | {row.what} | {' | '.join(cell(row) for _, cell in COLUMNS)} |")
    table = "\n".join(lines)
    return (
        f"{HEAD}\n\n<!-- made by `{command}`; do not edit -->\n`{command}`, {date}, {version}.\n\n{LEGEND}\n\n{table}\n"
    )


def with_network(page: str, section: str) -> str:
    """A page with this section at its end, in the place of the one that it had."""
    return f"{page.partition(HEAD)[0].rstrip()}\n\n{section}".lstrip()


def network_of(page: str) -> str:
    """The section of a page; empty where it has none."""
    _, head, rest = page.partition(HEAD)
    return head + rest
