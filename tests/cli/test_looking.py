"""What verify, show, ledger and report tell of a run, and with which exit code."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import tracemalloc
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from cli_calls import Podlt
from unfinished import CLIPPED_ROUND, EXPONENT, RULES, unfinished_world

from podlt.errors import StorageError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.report import figures
from podlt.report.fold import open_log
from podlt.report.history import RoundRow, read_history
from podlt.report.summary import summarise
from podlt.report.words import verdict_text

UNASKED = {Claim.MANAGER, Claim.CONTINUITY, Claim.MODEL, Claim.WITNESSES}
UNASKED |= {claim for claim in Claim if claim.command == "audit"}
"""What `verify` leaves open of a simulated run if nothing is asked for."""

CONCLUSION = f"{len(Claim) - len(UNASKED)} claims hold, {len(UNASKED)} were not checked"


def spoil(run: Path, number: int) -> None:
    """Changes one bit in an entry's bytes."""
    with closing(sqlite3.connect(run / "log.db")) as database, database:
        (body,) = database.execute("select body from entries where number = ?", (number,)).fetchone()
        changed = body[:-1] + bytes([body[-1] ^ 1])
        database.execute("update entries set body = ? where number = ?", (changed, number))


def rows(out: str) -> list[tuple[int, str]]:
    """The table of claims: number and outcome."""
    found = re.findall(r"^ *(\d+)  (holds|FAILS|not checked) ", out, re.MULTILINE)
    return [(int(number), outcome) for number, outcome in found]


def test_verify_prints_every_claim_with_its_outcome_and_ends_with_0(podlt: Podlt, run: Path) -> None:
    outcome = podlt("verify", run)
    assert outcome.code == 0
    assert rows(outcome.out) == [(int(c), "not checked" if c in UNASKED else "holds") for c in Claim]
    assert f"{CONCLUSION}\n" in outcome.out
    for sentence in ("this run was simulated", "keys and operators are different people", "nobody compared"):
        assert f"not known: {'anything' if 'simulated' in sentence else 'that'}" in outcome.out
        assert sentence in outcome.out
    assert "sound" not in outcome.out
    document = json.loads(podlt("verify", run, "--json").out)
    assert document["holds"] is True and document["exit_code"] == 0 and document["failure"] is None
    assert [(row["claim"], row["outcome"]) for row in document["claims"]] == [
        (number, outcome.lower()) for number, outcome in rows(outcome.out)
    ]


def test_verify_of_a_bare_log_or_a_swapped_recipe_ends_with_4_and_1(podlt: Podlt, run: Path) -> None:
    bare = podlt("verify", run / "log.db")
    assert bare.code == 4 and dict(rows(bare.out))[Claim.TERMS] == "not checked"
    assert "(3 of these asked for)" in bare.out
    recipe = (run / "recipe.json").read_bytes()
    (run / "recipe.json").unlink()
    missing = podlt("verify", run)
    assert missing.code == 4 and "recipe.json: not here" in missing.out
    (run / "recipe.json").write_bytes(recipe.replace(b'"reward":1', b'"reward":2'))
    swapped = podlt("verify", run)
    assert swapped.code == 1 and dict(rows(swapped.out))[Claim.DOCUMENTS] == "FAILS"
    assert dict(rows(swapped.out))[Claim.TERMS] == "not checked"


def test_verify_names_the_entry_that_was_changed_and_ends_with_1(podlt: Podlt, run: Path) -> None:
    spoil(run, 40)
    outcome = podlt("verify", run)
    assert outcome.code == 1
    assert "fails: claim 2, the entries are those under the tree heads: entry 40" in outcome.out
    assert dict(rows(outcome.out))[Claim.TREE] == "FAILS" and "1 FAIL" in outcome.out
    document = json.loads(podlt("verify", run, "--json").out)
    assert document["holds"] is False and document["exit_code"] == 1
    assert (document["failure"]["entry"], document["failure"]["claim"]) == (40, 2)


def test_verify_holds_the_log_to_a_manager_and_to_a_head_that_was_kept(podlt: Podlt, run: Path, tmp_path: Path) -> None:
    with closing(open_log(run)) as store:
        heads = store.heads()
    kept = tmp_path / "head"
    kept.write_text(heads[len(heads) // 2][1], encoding="utf-8")
    manager = read_history(run).begin.manager.hex()
    assert podlt("verify", run, "--head", kept, "--manager-key", manager).code == 0
    stranger = podlt("verify", run, "--manager-key", "0" * 64)
    assert stranger.code == 1
    assert "another manager" in stranger.out
    name = read_history(run).state.run.hex()
    kept.write_text(heads[0][1].replace(name, "0" * 64), encoding="utf-8")
    other = podlt("verify", run, "--head", kept)
    assert other.code == 1 and "the head that you kept is another run's" in " ".join(other.out.split())
    note = heads[0][1]
    for broken in ("", "\0", note[:-5], note.replace(name, "0" + name), note.replace(name, "0" * 64, 1)):
        kept.write_text(broken, encoding="utf-8")
        damaged = podlt("verify", run, "--head", kept)
        assert damaged.code == 2 and "not a signed tree head of this run" in damaged.err and damaged.out == ""
    kept.write_bytes(b"\xff\xfe")
    assert podlt("verify", run, "--head", kept).code == 2
    assert podlt("verify", run, "--head", tmp_path / "nowhere").code == 2
    assert podlt("verify", run, "--manager-key", "abc").code == 2


def test_verify_of_a_log_that_cannot_be_read_ends_with_3(podlt: Podlt, run: Path) -> None:
    (run / "log.db").unlink()
    outcome = podlt("verify", run)
    assert outcome.code == 3
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err


def test_a_missing_run_is_one_line_and_ends_with_2(podlt: Podlt, tmp_path: Path) -> None:
    for command in ("verify", "show", "ledger", "report"):
        outcome = podlt(command, tmp_path / "nowhere")
        assert outcome.code == 2, command
        assert outcome.err.count("\n") == 1
        assert outcome.err.startswith("error: ") and "no run here" in outcome.err


def test_show_gives_the_whole_run_and_the_rounds_that_convicted(podlt: Podlt, run: Path) -> None:
    history = read_history(run)
    out = podlt("show", run).out
    assert history.state.run.hex() in out
    for worker, row in history.convictions().items():
        assert re.search(rf"^ +{row.number} .* worker {worker} \(suspended\)", out, re.MULTILINE)
        assert f"repeat the execution: podlt audit {run} --round {row.number}\n" in out
    assert "withdrew: no opening" in out
    assert "12: 10 active, 2 suspended" in out and "guarded: 0.1 of the shards" in out
    executed = sum(len(row.executed) for row in history.rounds)
    assert f"the manager executed {executed} itself" in " ".join(out.split()) and executed > 2


def dispute(run: Path) -> tuple[RoundRow, e.Verdict]:
    """The first verdict that convicts, and its round."""
    return next((row, verdict) for row in read_history(run).rounds for verdict in row.disputes)


def proof_record(out: str, shard: int) -> str:
    """What is shown of a shard."""
    (found,) = [part for part in out.split("Proof record")[1:] if re.search(rf"^shard +{shard},", part, re.M)]
    return found


def test_show_round_gives_both_results_with_their_signatures_and_the_command_that_repeats_them(
    podlt: Podlt, run: Path
) -> None:
    row, verdict = dispute(run)
    (worker,) = verdict.convicted
    out = podlt("show", run, "round", row.number).out
    record = proof_record(out, verdict.shard)
    results = re.findall(r"^  result +([0-9a-f]{64})", record, re.MULTILINE)
    assert len(re.findall(r"^  signature +[0-9a-f]{128}", record, re.MULTILINE)) == len(results) in (1, 2)
    assert f"worker {worker}  convicted, suspended" in record and f"convicts [{worker}]" in record
    assert verdict.accepted.hex() in record and len({*results, verdict.accepted.hex()}) == 2
    assert verdict_text(verdict.outcome, verdict.reason) in record and "by executing the task" in record
    overview = podlt("show", run).out
    assert f"\n{verdict.outcome} ({verdict.reason}): {verdict_text(verdict.outcome, verdict.reason)}\n" in overview
    assert f"repeat the execution: podlt audit {run} --round {row.number}\n" in out
    assert out.count("Proof record") == len(row.agreed) + len(row.disputes)


def test_show_round_of_a_classic_run_gives_three_results(podlt: Podlt, classic: Path) -> None:
    row, verdict = dispute(classic)
    record = proof_record(podlt("show", classic, "round", row.number).out, verdict.shard)
    results = re.findall(r"^  result +([0-9a-f]{64})", record, re.MULTILINE)
    assert len(results) == 3 and len(set(results)) == 2
    assert f"worker {verdict.convicted[0]}  convicted, evicted" in record and "vote (compared)" in record
    assert "2 evicted" in podlt("show", classic).out


def test_show_worker_says_why_it_was_convicted_and_how_to_repeat_it(podlt: Podlt, run: Path) -> None:
    row, verdict = dispute(run)
    (worker,) = verdict.convicted
    out = podlt("show", run, "worker", worker).out
    assert "joined" in out
    why = f"convicted: its result for shard {verdict.shard} is not the accepted one"
    assert re.search(rf"^ +\d+ +{row.number}  {why}", out, re.MULTILINE)
    assert re.search(rf"^ +\d+ +{row.number}  suspended, after conviction 1", out, re.MULTILINE)
    assert f"{read_history(run).state.ledger.accounts[worker].forfeited} forfeited" in out
    assert f"repeat the execution that convicted it: podlt audit {run} --round {row.number}\n" in out


def test_show_says_what_is_in_escrow_when_it_vests_what_was_clipped_and_who_runs_whom(
    podlt: Podlt, tmp_path: Path
) -> None:
    run, rounds = tmp_path / "run", 8
    world = unfinished_world(run, rounds)
    out = " ".join(podlt("show", run, "worker", 2).out.split())
    missing = RULES.escrow - rounds + 1
    assert f"the pay of {rounds} tasks; the oldest (3 credits) vests after {missing} more of its tasks" in out
    assert "operator alice" in out and "of its result for shard" in out and f"scaled by 2^-{EXPONENT}" in out
    gone = " ".join(podlt("show", run, "worker", 3).out.split())
    left = world.state.workers[3].left
    assert "status withdrawn" in gone and f"all of it vests with round {left + RULES.escrow}" in gone
    overview = " ".join(podlt("show", run).out.split())
    assert "operators alice (2), bob (1)" in overview
    assert f"1 updates, down to 2^-{EXPONENT} of their length; in rounds {CLIPPED_ROUND}" in overview
    assert f"{6 * 3 * rounds} credits are pending" in overview
    assert "clipped: the gradients of shard" in podlt("show", run, "round", CLIPPED_ROUND).out
    life = json.loads(podlt("show", run, "worker", 2, "--json").out)
    assert life["escrow"] == {"credits": [3] * rounds, "tasks": missing, "round": None}
    assert podlt("report", run, "--out", "page.html").code == 0
    messages = shown_by(Path("page.html"))
    clips = {message["r"]: message["clip"] for message in messages if message["t"] == "round" and "clip" in message}
    assert [exponent for _, exponent in clips[CLIPPED_ROUND]] == [EXPONENT] and len(clips) == 1
    assert [message["w"][2] for message in messages if message["t"] == "join"].count("alice") == 2


def test_show_entry_proves_that_it_is_in_the_tree(podlt: Podlt, run: Path) -> None:
    for number in (0, 17, read_history(run).entries - 1):
        outcome = podlt("show", run, "entry", number)
        assert outcome.code == 0
        assert "\nincluded" in outcome.out
    spoil(run, 40)
    outcome = podlt("show", run, "entry", 17)
    assert outcome.code == 1
    assert "not included" in outcome.out
    assert f"hint: podlt verify {run}" in outcome.err


@pytest.mark.parametrize("what", ["round", "worker", "entry"])
def test_show_of_a_number_that_is_not_there_says_which_are(podlt: Podlt, run: Path, what: str) -> None:
    outcome = podlt("show", run, what, 100000)
    assert outcome.code == 2
    assert "expected 0 to " in outcome.err
    assert podlt("show", run, what).code == 2


def test_control_codes_in_a_log_never_reach_the_terminal(
    podlt: Podlt, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import podlt.report.history as history_module

    true = read_history(run)
    hostile = [(1, 2, "\x1b[2J[red]gone[/red]\x07")]
    monkeypatch.setattr(history_module, "read_history", lambda path: _with(true, hostile))
    out = podlt("show", run).out
    assert "\x1b" not in out and "\x07" not in out
    assert "[red]gone[/red]" in out


def _with(history: object, withdrawn: list[tuple[int, int, str]]) -> object:
    history.withdrawn = withdrawn  # type: ignore[attr-defined]
    return history


def test_the_ledger_sums_to_zero_in_every_form(podlt: Podlt, run: Path) -> None:
    document = json.loads(podlt("ledger", run, "--json").out)
    held = sum(worker["pending"] + worker["vested"] for worker in document["workers"])
    assert document["sum"] == 0 == document["treasury"] + held
    rows = list(csv.DictReader(io.StringIO(podlt("ledger", run, "--csv").out)))
    assert [int(row["vested"]) for row in rows] == [worker["vested"] for worker in document["workers"]]
    table = podlt("ledger", run).out
    assert f"treasury {document['treasury']:,}" in table and "sum 0" in table
    assert podlt("ledger", run, "--csv", "--json").code == 2


def test_a_cheater_has_nothing_vested_and_everything_forfeited(podlt: Podlt, run: Path) -> None:
    workers = json.loads(podlt("ledger", run, "--json").out)["workers"]
    cheated = {worker: row.number for worker, row in read_history(run).convictions().items()}
    for worker in workers[:2]:
        assert (worker["status"], worker["convictions"]) == ("suspended", 1)
        assert worker["vested"] == worker["pending"] == 0
        assert (worker["forfeited"] > 0) == (cheated[worker["worker"]] > 0), "what it gave in earlier rounds"
    assert max(cheated.values()) > 0


def test_the_summary_counts_fakes_until_the_conviction(run: Path) -> None:
    summary = summarise(run)
    convicted = {worker: row.number for worker, row in read_history(run).convictions().items()}
    for cheater in summary.cheaters:
        assert cheater.convicted == convicted[cheater.worker]
        assert cheater.lasted == convicted[cheater.worker] + 1 == cheater.fakes
        assert (cheater.applied, cheater.vested) == (cheater.fakes - 1, 0)
    assert summary.honest_convicted == [] and summary.evicted == []
    assert summary.proof_share == pytest.approx(0.25)
    assert summary.examples_per_second == pytest.approx(summary.examples / (0.5 * summary.rounds))


def test_a_half_line_of_figures_as_a_kill_leaves_it_is_passed_over(run: Path) -> None:
    whole = summarise(run)
    with (run / "rounds.jsonl").open("a") as file:
        file.write('{"round":99,"seco')
    assert summarise(run) == whole


def test_figures_of_however_many_rounds_take_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_ITEMS", 8)
    (tmp_path / "recipe.json").touch()
    with (tmp_path / "rounds.jsonl").open("w") as file:
        for number in range(1000):
            one = {"round": number, "seconds": number, "compute": 0.5, "proof": 0.25, "faked": [], "applied": []}
            file.write(json.dumps(one) + " " * 20_000 + "\n")
    tracemalloc.start()
    found = figures.read_figures(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    assert (found.spent.seconds, found.spent.compute, found.spent.proof) == (999 * 500, 500, 250)
    assert found.spent.each == [0, 128, 256, 384, 512, 640, 768, 896] and found.spent.step == 128


def test_a_line_of_figures_that_does_not_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LONGEST_LINE", 200)
    (tmp_path / "recipe.json").touch()
    (tmp_path / "rounds.jsonl").write_text(" " * 1000)
    with pytest.raises(StorageError, match=r"rounds.jsonl, line 1: longer than 200 bytes"):
        figures.read_figures(tmp_path)
    (tmp_path / "rounds.jsonl").write_text("{}\n")
    with pytest.raises(StorageError, match=r"rounds.jsonl, line 1: .*missing required field"):
        figures.read_figures(tmp_path)


class Outside(HTMLParser):
    """Collects whatever a browser would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            inside = value is None or value.startswith(("#", "data:"))
            if (name in ("src", "href", "data") or name.endswith(":href")) and not inside:
                self.loads.append(f"{tag} {name}={value}")


def shown_by(page: Path) -> list[dict[str, Any]]:
    """The messages in a report."""
    text = page.read_text(encoding="utf-8")
    return json.loads(text.partition('id="data">')[2].partition("</script>")[0])["messages"]


def claims_of(page: Path) -> dict[int, str]:
    """Claim -> outcome, as a report has them."""
    (claims,) = [message for message in shown_by(page) if message["t"] == "claims"]
    return {row[0]: row[3] for row in claims["rows"]}


def test_the_report_is_one_page_that_loads_nothing_from_elsewhere(podlt: Podlt, run: Path) -> None:
    assert podlt("report", run, "--out", "page.html").code == 0
    text = Path("page.html").read_text(encoding="utf-8")
    outside = Outside()
    outside.feed(text.partition('id="data">')[0])
    assert outside.loads == []
    assert not re.search(r"url\((?!#)|@import", text) and "default-src 'none'" in text
    row, verdict = dispute(run)
    rounds = {message["r"]: message for message in shown_by(Path("page.html")) if message["t"] == "round"}
    shown = rounds[row.number]
    assert shown["dis"][0]["con"] == verdict.convicted and [verdict.convicted[0], "suspended"] in shown["out"]
    assert shown["dis"][0]["acc"] == verdict.accepted.hex()
    outcomes = list(claims_of(Path("page.html")).values())
    counts = f"{outcomes.count('holds')} claims hold, {outcomes.count('not checked')} were not checked"
    assert counts == CONCLUSION and "fails" not in outcomes
    assert not re.search("the proof holds|sound", text, re.IGNORECASE)


def test_report_and_show_speak_json_with_three_outcomes(podlt: Podlt, run: Path) -> None:
    document = json.loads(podlt("report", run, "--json").out)
    assert Path(document["report"]).is_file() and document["exit_code"] == 0
    assert {row["outcome"] for row in document["claims"]} == {"holds", "not checked"}
    shown = json.loads(podlt("show", run, "--json").out)
    assert "podlt verify" in shown["unverified"] and shown["rounds"] and shown["begin"]["preset"] == "guarded"
    entry = json.loads(podlt("show", run, "entry", 5, "--json").out)
    assert entry["included"] is True and entry["unverified"] == shown["unverified"]


def test_the_report_of_a_spoilt_run_says_which_claims_fail(podlt: Podlt, run: Path) -> None:
    (run / "recipe.json").write_text("{}")
    assert podlt("report", run).code == 0
    outcomes = claims_of(run / "report.html")
    assert outcomes[Claim.DOCUMENTS] == "fails" and outcomes[Claim.TERMS] == "not checked"
    assert list(outcomes.values()).count("fails") == 1


def test_lines_that_are_not_for_a_terminal_end_where_their_text_does(podlt: Podlt, run: Path) -> None:
    for words in (("verify",), ("show",), ("show", "round", "1"), ("ledger",)):
        outcome = podlt(words[0], run, *words[1:])
        assert outcome.out and [line for line in outcome.out.splitlines() if line != line.rstrip()] == []
