"""`podlt plan`: as text, as JSON, as a picture; from flags and from recipes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_calls import Podlt

DOCUMENT = Path(__file__).parents[2] / "docs" / "PLAN.md"


def test_the_page_shows_what_the_command_prints(podlt: Podlt, golden: Callable[[Path, str], None]) -> None:
    before, rest = DOCUMENT.read_text().split("```\n$ podlt ", 1)
    command, rest = rest.split("\n", 1)
    outcome = podlt(*command.split())
    assert outcome.code == 0
    shown = "\n".join(line.rstrip() for line in outcome.out.splitlines())
    golden(DOCUMENT, f"{before}```\n$ podlt {command}\n{shown}\n```\n" + rest.split("```\n", 1)[1])


def test_json_has_every_figure_of_the_text(podlt: Podlt) -> None:
    found = json.loads(podlt("plan", "--keys", "free", "--json").out)
    assert found["cost"]["spares"] + found["cost"]["own"] == pytest.approx(0.0485, abs=1e-4)
    assert [row["tasks"] for row in found["cheats"]] == [87, 101, 100, 342]
    assert [row["deposit"] for row in found["incentives"]] == [15, 22]
    assert [row["escrow"] for row in found["incentives"]] == [None, None]
    assert found["options"]["preset"] == "guarded" and found["assumed"]["new_key"] == 0


def test_flags_come_before_the_recipe_and_examples_give_rounds_and_tasks(
    podlt: Podlt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlt.economics.plan.players", lambda *_: {})  # whom cheating pays is worked out for seconds

    def said(*argv: object) -> dict[str, Any]:
        found = json.loads(podlt("plan", *argv, "--json").out)
        return {**found["options"], **found["assumed"]}

    recipe = ("mnist-mlp", "--examples", 60_000)
    classic = said(*recipe, "--preset", "classic")
    assert (classic["workers"], classic["rounds"], classic["reward"]) == (50, 300, 20)
    guarded = said(*recipe, "--preset", "guarded")
    assert (guarded["rounds"], guarded["reward"]) == (300, 20)  # 20 examples for each of 48.5 shards
    few = said(*recipe, "--preset", "classic", "--workers", 9, "--epochs", 1, "--reward", 7)
    assert (few["workers"], few["rounds"], few["reward"]) == (9, 60, 7)
    assert said("--rounds", 7)["rounds"] == 7 and said()["rounds"] == 300


def test_the_picture_is_the_same_each_time(podlt: Podlt, tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        assert podlt("plan", "--rounds", 5, "--coalition", 0, "--plot", name).code == 0
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "a lone cheater" in drawn and "cheating gains (credits)" in drawn


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rounds", "5", "--coalition", "0", "--plot", "plan.pdf"], ".svg or .png"),
        (["--preset", "classic", "--workers", "2"], "at least 3 workers"),
        (["--operators", "60"], "at most as many operators"),
        (["--workers", "3", "--coalition", "0.9"], "leaves nobody honest"),
        (["nothing.toml"], "no such recipe"),
        (["--first-fault", "pardon"], "pardon"),
    ],
)
def test_what_no_run_could_do_is_refused(podlt: Podlt, argv: list[str], words: str) -> None:
    outcome = podlt("plan", *argv)
    assert outcome.code == 2 and words in outcome.err


def test_where_nothing_is_paid_there_is_no_best_response(podlt: Podlt) -> None:
    outcome = podlt("plan", "--reward", 0)
    assert outcome.code == 0 and "nothing is paid" in outcome.out and "best response" not in outcome.out


def test_classic_says_whom_its_vote_evicts(podlt: Podlt) -> None:
    out = podlt("plan", "--preset", "classic").out
    assert "0.092 honest workers are evicted a round" in out and "no deposit ends" in out


def test_levels_are_counted_in_tasks_and_the_page_shows_their_examples(podlt: Podlt) -> None:
    outcome = podlt("plan", "--levels", "-3:1,0:49")
    text = DOCUMENT.read_text()
    block = text.split("$ podlt plan --levels -3:1,0:49\n", 1)[1].split("```", 1)[0]
    shown = {line.rstrip() for line in outcome.out.splitlines()}
    assert outcome.code == 0 and set(block.splitlines()) <= shown
    rows = re.findall(r"alone, ([18]) of 393 seats +([0-9.]+)% +[0-9]+ fakes +([0-9]+) ", outcome.out)
    (_, slow, many), (_, fast, few) = rows
    assert "50 workers" in outcome.out and float(fast) < float(slow) and int(few) == pytest.approx(int(many) / 8, abs=1)


def test_equal_levels_are_no_levels(podlt: Podlt) -> None:
    plain, equal = (json.loads(podlt("plan", *more, "--json").out) for more in ([], ["--levels", "0:50"]))
    assert plain["cheats"] == equal["cheats"] and plain["incentives"] == equal["incentives"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--levels", "0"], "expected LEVEL:WORKERS"),
        (["--levels", "0:5,1:x"], "expected LEVEL:WORKERS"),
        (["--levels", "0:5,1:3", "--workers", "9"], "expected levels of all 9 workers"),
        (["--levels", "0:5,1:3", "--operators", "2"], "not both"),
    ],
)
def test_levels_that_cannot_be_are_refused(podlt: Podlt, argv: list[str], words: str) -> None:
    outcome = podlt("plan", *argv)
    assert outcome.code == 2 and words in outcome.err
