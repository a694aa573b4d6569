"""One self-contained HTML page of a run: no script, no font, no address of anything elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from pathlib import Path

from podlt.protocol.claims import Outcome
from podlt.report.figures import Figures
from podlt.report.history import History, RoundRow
from podlt.report.plots import plots
from podlt.report.summary import SimulatedCheater, Summary, summary_of
from podlt.report.words import operators_text, rules_text
from podlt.verify import Verification

LOGGED = "(logged, not checked here)"
"""What stands next to a figure that only the audit checks."""

UNPROVEN = "(the manager's word)"
"""What stands next to a figure that no entry of the log binds."""

STYLE = Path(__file__).with_name("page.css")


def page(name: str, history: History, figures: Figures, verification: Verification) -> str:
    """The page.

    Args:
        name: what the run is called.
        history: what its log says.
        figures: that no entry binds.
        verification: of the same run, just now.
    """
    summary = summary_of(history, figures)
    parts = [
        _header(name, history, verification),
        _tiles(summary),
        _cheaters(summary),
        '<section class="plots">',
        *(
            f"<figure><h3>{escape(title)}</h3><figcaption>{escape(text)}</figcaption>{svg}</figure>"
            for title, text, svg in plots(history, figures)
        ),
        "</section>",
        _steps(verification),
        _convictions(history),
        _clips(history),
        _departures(history),
        _ledger(history),
        _facts(history),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: proof of training</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _header(name: str, history: History, verification: Verification) -> str:
    count = {o: sum(f.outcome is o for f in verification.findings) for o in Outcome}
    checked = f"{count[Outcome.HOLDS]} claims hold, {count[Outcome.NOT_CHECKED]} were not checked"
    if count[Outcome.FAILS]:
        fails = count[Outcome.FAILS]
        sign = f'<p class="verdict bad">&#10007; {fails} claim{"s fail" if fails > 1 else " fails"}</p>'
        reasons = [f for f in verification.findings if f.outcome is Outcome.FAILS]
        sign += "".join(f'<p class="bad">{escape(f.claim.title)}: {escape(f.why)}</p>' for f in reasons)
        sign += f'<p class="soft">{checked}</p>'
    else:
        audit = "; whether results are right is the audit's: <code>podlt audit RUN --fraction 1</code>"
        sign = f'<p class="verdict">{checked}</p><p class="soft">Nothing fails{audit}</p>'
    when = f"{_day(history.started)} to {_day(history.ended)}"
    return (
        f'<header><p class="soft">Proof of Deep Learning Training</p><h1>{escape(name)}</h1>'
        f'<p class="soft">{escape(history.status())} &middot; {when}</p>{sign}</header>'
    )


def _tiles(summary: Summary) -> str:
    tiles = []
    for name in ("accuracy", "auc"):
        if name in summary.metrics:
            shown = f"{summary.metrics[name]:.2%}" if name == "accuracy" else f"{summary.metrics[name]:.4f}"
            tiles.append((shown, f"{name} on the test set {LOGGED}"))
    if "loss" in summary.metrics and not tiles:
        tiles.append((f"{summary.metrics['loss']:.4f}", f"loss on the test set {LOGGED}"))
    tiles.append((f"{summary.rounds:,}", f"rounds over {summary.epochs} epochs"))
    tiles.append((f"{summary.left} / {summary.workers}", "workers left"))
    tiles.append((f"{summary.proofs:,}", "proof records in agreement"))
    tiles.append((f"{len(summary.convicted)}", f"convicted, {len(summary.evicted)} of them evicted"))
    tiles.append((f"{summary.executed:,}", "fragments executed by the manager"))
    tiles.append((f"{summary.clipped:,}", f"updates clipped {LOGGED}"))
    tiles.append((f"{summary.spare_share:.1%}", "of tasks repeat another"))
    if summary.lines_per_second is not None:
        tiles.append((f"{summary.lines_per_second:,.0f}", f"lines a second {UNPROVEN}"))
    inner = "".join(
        f'<div class="tile"><b>{escape(v)}</b><span class="soft">{escape(t)}</span></div>' for v, t in tiles
    )
    return f'<section class="tiles">{inner}</section>'


def _cheaters(summary: Summary) -> str:
    if not summary.demonstration:
        return ""
    rows = "".join(_cheater(cheater) for cheater in summary.cheaters)
    if summary.honest_convicted:
        names = ", ".join(str(worker) for worker in summary.honest_convicted)
        by = "a vote of three" if summary.votes else "the manager"
        honest = f'<p class="bad">Honest workers that {by} convicted wrongly: {names}.</p>'
    else:
        honest = "<p>No honest worker was convicted.</p>"
    return (
        "<h2>Who simulated a cheat</h2>"
        '<div class="card scroll"><p class="soft">From files of the demonstration that no entry of the log binds: the '
        "manager's word, no part of the proof. An audit finds fakes by executing their tasks again.</p>"
        '<table><tr><th>worker<th>cheat<th class="number">caught in round'
        '<th class="number">rounds as a cheater<th class="number">fakes applied<th class="number">vested since</tr>'
        f"{rows}</table>{honest}</div><h2>The run</h2>"
    )


def _cheater(cheater: SimulatedCheater) -> str:
    caught = "not caught" if cheater.convicted is None else f"{cheater.convicted} ({cheater.status})"
    lasted = "" if cheater.lasted is None else str(cheater.lasted)
    cells = [caught, lasted, f"{cheater.applied} of {cheater.fakes}", f"{cheater.vested:,}"]
    numbers = "".join(f'<td class="number">{cell}' for cell in cells)
    return f"<tr><td>{cheater.worker}<td>{escape(cheater.kind)}{numbers}</tr>"


def _steps(verification: Verification) -> str:
    classes = {Outcome.HOLDS: "good", Outcome.FAILS: "bad", Outcome.NOT_CHECKED: "open"}
    rows = "".join(
        f'<tr><td class="number">{int(f.claim)}<td class="{classes[f.outcome]}">{f.outcome.value}'
        f'<td>{escape(f.claim.title)}<td class="soft">{escape(f.why or f.figure)}</tr>'
        for f in verification.findings
    )
    return (
        '<h2>What was checked</h2><div class="card scroll"><p class="soft">What <code>podlt verify</code> found when '
        "this page was made. Do not trust the page: run the command.</p>"
        f"<table>{rows}</table></div>"
    )


def _convictions(history: History) -> str:
    found = [(row, verdict) for row in history.rounds for verdict in row.disputes]
    if not found:
        return ""
    rows = "".join(
        f'<tr><td class="number">{row.number}<td class="number">{verdict.fragment}<td>{verdict.outcome}'
        f"<td>{verdict.reason}<td>{_fates(row, verdict.convicted)}"
        f"<td><code>podlt audit RUN --round {row.number}</code></tr>"
        for row, verdict in found
    )
    return (
        '<h2>Convictions</h2><div class="card scroll"><p class="soft">Fragments whose results were not all what the '
        "manager found, or two of three said. Each is one execution that anybody can repeat, with the data.</p>"
        '<table><tr><th class="number">round<th class="number">fragment<th>decided by<th>why<th>convicted<th>repeat it'
        f"</tr>{rows}</table></div>"
    )


def _fates(row: RoundRow, convicted: list[int]) -> str:
    fates = {worker: "suspended" for worker in row.suspended} | {worker: "evicted" for worker in row.evicted}
    return ", ".join(f"worker {worker} ({fates[worker]})" for worker in convicted) or "nobody"


def _clips(history: History) -> str:
    found = [(row.number, fragment, most) for row in history.rounds for fragment, most in sorted(row.clipped.items())]
    if not found:
        return ""
    rows = "".join(f'<tr><td class="number">{n}<td class="number">{f}<td class="number">2^-{x}' for n, f, x in found)
    return (
        f'<h2>Clipped updates</h2><div class="card scroll"><p class="soft">{len(found):,} updates were more than '
        f"{history.begin.clip} times as long as the median of their round, and were scaled down before they were "
        f'averaged {LOGGED}.</p><details><summary>All of them</summary><table><tr><th class="number">round'
        f'<th class="number">fragment<th class="number">factor</tr>{rows}</table></details></div>'
    )


def _departures(history: History) -> str:
    if not history.withdrawn:
        return ""
    rows = "".join(
        f'<tr><td class="number">{number}<td class="number">{worker}<td>{escape(reason)}</tr>'
        for number, worker, reason in history.withdrawn
    )
    table = f'<table><tr><th class="number">round<th class="number">worker<th>reason</tr>{rows}</table>'
    return f'<h2>Who withdrew</h2><div class="card scroll">{table}</div>'


def _ledger(history: History) -> str:
    state = history.state
    rows, names, operators = [], ["pending", "vested", "forfeited"], history.operators()
    if state.ledger.taken:
        names += ["deposit", "returned", "seized"]
    for number, worker in sorted(state.workers.items()):
        account = state.ledger.accounts[number]
        cells = (worker.checks_passed, *(getattr(account, name) for name in names))
        numbers = "".join(f'<td class="number">{cell:,}' for cell in cells)
        operator = f"<td>{escape(worker.operator)}" if operators else ""
        rows.append(f'<tr><td class="number">{number}{operator}<td>{worker.status}{numbers}</tr>')
    heads = "".join(f'<th class="number">{name}' for name in ("checks passed", *names))
    return (
        '<h2>Ledger</h2><div class="card"><p>Treasury '
        f"{state.ledger.treasury:,} credits; all accounts sum to {state.ledger.total()}. {_escrow(history)}</p>"
        f'<details><summary>All {len(rows)} workers</summary><div class="scroll"><table><tr><th class="number">worker'
        f"{'<th>operator' if operators else ''}<th>status{heads}</tr>{''.join(rows)}</table></div></details></div>"
    )


def _escrow(history: History) -> str:
    escrow = history.begin.escrow
    return (
        f"A credit vests once its worker has {escrow:,} younger ones, {escrow:,} rounds after it left, or at the end."
    )


def _facts(history: History) -> str:
    begin, state = history.begin, history.state
    operators = history.operators()
    plain = {
        "protocol": rules_text(begin.options),
        **({"operators": operators_text(operators)} if operators else {}),
        "data": f"{begin.lines:,} lines, blocks of {begin.block_lines:,}"
        + (f", {begin.fragment_lines} lines a fragment" if begin.fragment_lines else ""),
        "epochs": f"{state.epoch} of {state.epochs}",
        **({"amended": history.amended()} if state.amendments else {}),
        "log": f"{history.entries:,} entries" + (f", resumed {history.resumed} times" if history.resumed else ""),
    }
    digests = {
        "run": state.run,
        "manager's key": begin.manager,
        "recipe": begin.recipe,
        "program": begin.program,
        "data": begin.data,
        "parameters": state.parameters,
    }
    rows = "".join(f"<dt>{escape(name)}<dd>{escape(text)}" for name, text in plain.items())
    rows += "".join(f"<dt>{escape(name)}<dd><code>{value.hex()}</code>" for name, value in digests.items())
    return f'<h2>Facts</h2><div class="card"><dl>{rows}</dl></div>'


def _day(millis: int) -> str:
    try:
        return f"{datetime.fromtimestamp(millis / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{millis} ms"
