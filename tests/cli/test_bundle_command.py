"""`podlt bundle` and `podlt head`, and what the viewers make of a bundle."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from cli_calls import Podlt

from podlt.report.fold import open_log
from podlt.report.summary import summarise


def test_a_bundle_lies_beside_the_run_and_says_how_to_check_it(podlt: Podlt, run: Path) -> None:
    outcome = podlt("bundle", run)
    assert outcome.code == 0
    out = run.with_name("run.podlt")
    assert f"{out.stat().st_size:,} bytes" in outcome.out
    assert f"podlt verify {out}" in outcome.out and "audit" not in outcome.out
    assert "not part of the proof" in outcome.out
    assert "the run has no model.safetensors" in outcome.err


def test_a_second_bundle_needs_force(podlt: Podlt, run: Path) -> None:
    assert podlt("bundle", run).code == 0
    outcome = podlt("bundle", run)
    assert outcome.code == 2 and "--force" in outcome.err
    assert podlt("bundle", run, "--force").code == 0


def test_a_bundle_for_scripts(podlt: Podlt, run: Path, tmp_path: Path) -> None:
    document = json.loads(podlt("bundle", run, "--out", tmp_path / "x", "--json").out)
    assert document["file"] == str(tmp_path / "x")
    assert document["bytes"] == (tmp_path / "x").stat().st_size
    assert list(document["members"])[:3] == ["podlt-bundle", "log/entries", "log/heads"]
    assert document["missing"] == ["model.safetensors"]


def test_asking_for_updates_that_are_not_kept_is_told(podlt: Podlt, run: Path) -> None:
    outcome = podlt("bundle", run, "--updates")
    assert outcome.code == 0
    assert "keeps no updates" in outcome.err and "podlt audit" not in outcome.out.split("check it")[1]


def test_viewers_show_of_a_bundle_and_of_a_log_what_they_show_of_the_run(podlt: Podlt, run: Path) -> None:
    podlt("bundle", run)
    bundle = run.with_name("run.podlt")
    for path in (bundle, run / "log.db"):
        for command in (["ledger", "--json"], ["show", "round", "3"], ["show", "worker", "0"], ["show", "entry", "9"]):
            name, *rest = command
            assert podlt(name, path, *rest).out.replace(str(path), str(run)) == podlt(name, run, *rest).out
    ours, theirs = summarise(run), summarise(bundle)
    assert (theirs.cheaters, theirs.seconds, theirs.rounds) == (ours.cheaters, ours.seconds, ours.rounds)
    assert theirs.metrics == ours.metrics == {"accuracy": 0.5, "loss": 1.0}  # they are in the log
    assert summarise(run / "log.db").cheaters == []


def test_the_last_head_is_the_one_that_verify_takes(podlt: Podlt, run: Path, tmp_path: Path) -> None:
    with closing(open_log(run)) as log:
        note = log.heads()[-1][1]
    assert podlt("head", run).out == note
    outcome = podlt("head", run, "--out", tmp_path / "kept")
    assert outcome.code == 0 and "podlt verify" in outcome.out
    assert (tmp_path / "kept").read_text(encoding="utf-8") == note
    assert podlt("verify", run, "--head", tmp_path / "kept").code == 0


def test_both_say_when_there_is_no_run(podlt: Podlt, tmp_path: Path) -> None:
    for command in ("bundle", "head"):
        outcome = podlt(command, tmp_path / "nowhere")
        assert outcome.code == 2 and "no run here" in outcome.err
