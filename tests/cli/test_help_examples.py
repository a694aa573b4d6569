"""Every command's --help shows an example, and the example prints what is shown."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console_blocks import executed, first_difference, started, steps, wait_for
from near_hosts import audits_that_capture_once, hosts_in_threads
from rich.text import Text
from typer.main import get_command

import podlt
from podlt.cli.app import build, run
from podlt.cli.help import FOLDER, leaves
from podlt.cli.recipes import find_recipe
from podlt.manager import events as ev

SERVED = ("manager", "worker", "receipts", "workers", "key")
"""Their examples need workers of a network: executed by one slow test."""

LONG = ("demo", "bench", "arena", "plan", "conformance", "doctor")
"""Seconds each: slow as well."""

WITHOUT = {("store", "upgrade"): "its tables are of one version so far"}

MAY_FAIL = {"audit": (0, 1), "reproduce": (0, 1)}
"""Both may find a fake in the model that was applied before its worker was caught."""

LASTING = ("dashboard", "witness-serve", "witness-ask")
"""They go on until Ctrl-C, or ask a server that does: their own tests execute them."""

COMMANDS = {"-".join(words) for words, _ in leaves(get_command(build()))}


def name_of(path: Path) -> str:
    return path.stem.split("-")[0]


EXAMPLES = [path for path in sorted(FOLDER.glob("*.txt")) if path.stem in COMMANDS]
QUICK = ("init", "recipe", "data")
"""Their examples need no run."""

QUICKLY = [path for path in EXAMPLES if name_of(path) in QUICK]
LOCAL = [
    path for path in EXAMPLES if name_of(path) not in (*SERVED, *LONG, *QUICK, "train") and path.stem not in LASTING
]
LONGER = [path for path in EXAMPLES if name_of(path) in LONG]
NETWORK = [path for path in EXAMPLES if name_of(path) in SERVED]


def texts_of_help() -> Iterator[tuple[str, str]]:
    """Every text that --help shows as markup: of commands, groups, arguments and options."""

    def walk(command: Any, name: str) -> Iterator[tuple[str, str]]:
        yield name, command.help or ""
        yield from ((f"{name} {each.name}", getattr(each, "help", None) or "") for each in command.params)
        for word, each in getattr(command, "commands", {}).items():
            yield from walk(each, f"{name} {word}")

    return walk(get_command(build()), "podlt")


def test_no_word_of_a_help_is_taken_for_markup() -> None:
    meant = re.compile(r"\[/?bold\]|\\(?=\[)")
    lost = [name for name, text in texts_of_help() if Text.from_markup(text).plain != meant.sub("", text)]
    assert not lost


def test_each_example_of_a_help_has_its_line() -> None:
    joined = [name for name, text in texts_of_help() if re.search(r"\S\n *podlt ", text.partition("Example")[2])]
    assert not joined


def write_people(path: Path) -> None:
    """A table of 1,500 people, with a few missing ages."""
    dice = random.Random(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "age", "job", "joined", "city", "income"])
        for number in range(1500):
            age, job, city = dice.randint(18, 70), dice.choice(["nurse", "cook", "clerk"]), dice.choice("ABC")
            joined = f"20{dice.randint(10, 24)}-0{dice.randint(1, 9)}-1{dice.randint(0, 9)}"
            income = "high" if age / 70 + (job == "nurse") * 0.4 + dice.random() * 0.3 > 1 else "low"
            writer.writerow([number, age if number % 40 else "", job, joined, city, income])


def check(path: Path, folder: Path, codes: tuple[int, ...] = (0,)) -> None:
    """Executes an example, and holds what it prints against what it shows."""
    for step in steps(path.read_text()):
        code, printed = executed(step.command, folder)
        assert code in codes, printed
        assert first_difference(step.shown, printed) == "", printed


def stopped(path: Path) -> None:
    """A run that was left after its first rounds."""

    def stop(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        podlt.train(find_recipe("digits"), run=path, workers=4, listener=stop)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a table, a recipe, a finished run with a cheater, one that was stopped, a bundle and a backup."""
    path = tmp_path_factory.mktemp("examples")
    write_people(path / "people.csv")
    check(FOLDER / "init.txt", path)
    with hosts_in_threads(), audits_that_capture_once():
        check(FOLDER / "train.txt", path)
        stopped(path / "runs/stopped")
        executed("podlt bundle runs/mine", path)
        executed("podlt backup runs/mine mine.backup", path)
        yield path


def test_every_command_shows_an_example() -> None:
    assert {path.stem for path in EXAMPLES} == COMMANDS - {"-".join(words) for words in WITHOUT}


def test_every_example_is_of_its_command_and_fits_a_terminal() -> None:
    for path in EXAMPLES:
        assert path.read_text().startswith(f"$ podlt {path.stem.replace('-', ' ')}"), path
        lines = path.read_text().splitlines()
        assert max(len(line) for line in lines if not line.startswith("$")) <= 78, path


def test_help_shows_the_example_and_the_three_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ledger", "--help"]) == 0
    assert "$ podlt ledger runs/mine" in capsys.readouterr().out
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"Who \w+(?: a machine)?", out) == ["Who trains", "Who lends a machine", "Who checks"]


def test_the_examples_that_need_no_run_print_what_they_show(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv")
    check(FOLDER / "init.txt", tmp_path)
    for path in QUICKLY:
        if path.stem != "init":
            check(path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", LOCAL, ids=[path.stem for path in LOCAL])
def test_an_example_prints_what_it_shows(path: Path, folder: Path) -> None:
    for made in {"backup": ("mine.backup",), "bundle": ("runs/mine.podlt",)}.get(path.stem, ()):
        (folder / made).unlink()
    if path.stem == "attest":
        executed("podlt attest --new-key me.pem", folder)
    if path.stem.startswith("witness"):  # in any order: a witness lists what it has seen
        executed("podlt witness cosign runs/mine --state witness", folder)
    check(path, folder, MAY_FAIL.get(path.stem, (0,)))


@pytest.mark.slow
@pytest.mark.parametrize("path", LONGER, ids=[path.stem for path in LONGER])
def test_a_longer_example_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    check(path, tmp_path)


@pytest.mark.slow
def test_the_examples_of_a_network_print_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager and a worker in processes of their own, as their users start them."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PODLT_CACHE", str(tmp_path / "cache"))
    write_people(tmp_path / "people.csv")
    check(FOLDER / "init.txt", tmp_path)
    manager, worker = (next(steps((FOLDER / f"{name}.txt").read_text())) for name in ("manager", "worker"))
    with started(manager.command, tmp_path) as managing:
        wait_for(tmp_path / "runs/net/invitation.txt")
        with started(worker.command, tmp_path) as working:
            worked = working.communicate(timeout=120)[0]
        managed = managing.communicate(timeout=120)[0]
    assert first_difference(manager.shown, managed) == "", managed
    assert first_difference(worker.shown, worked.replace(str(home), "~")) == "", worked
    (tmp_path / "key.txt").write_text(executed("podlt key backup", tmp_path)[1].splitlines()[0] + "\n")
    keys = executed("podlt key show", tmp_path)[1].split()
    for path in NETWORK:
        if path.stem not in ("manager", "worker"):
            text = path.read_text().replace("33c1bc7e5f9b573437fecb69c3e8822e67868f8a487faa696f305f82b2919b0e", keys[0])
            for step in steps(text):
                code, printed = executed(step.command, tmp_path)
                assert code == 0, printed
                assert first_difference(step.shown, printed) == "", printed
