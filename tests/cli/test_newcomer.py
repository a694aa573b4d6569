"""What people try first and get wrong: each message says what the thing is, and what to do."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_calls import Podlt

import podlt as package
from podlt.cli.interrupts import what_is_left

TABLE = "age,income\n" + "".join(f"{n},{n % 2}\n" for n in range(40))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (None, "people.csv: data, not a recipe"),
        ('[data]\nsource = "people.csv"\n', "[model] is missing; podlt init writes a whole recipe"),
        ('[model]\nname = "a:b"\n', "[data] is missing"),
        ('[data]\nsource = "people.csv"\nlabl = "x"\n[model]\nname = "a:b"\n', "the field labl of [data] is none"),
        ('[data]\nsource = "people.csv"\n[model]\nname = "a:b"\n[trainin]\nepochs = 3\n', "[trainin] is none"),
    ],
)
def test_a_wrong_file_and_half_a_recipe_are_named_for_what_they_are(
    recipe: str | None, words: str, podlt: Podlt, tmp_path: Path
) -> None:
    (tmp_path / "people.csv").write_text(TABLE)
    (tmp_path / "half.toml").write_text(recipe or "")
    outcome = podlt("recipe", "show", "people.csv" if recipe is None else "half.toml")
    assert outcome.code == 2 and words in outcome.err


def test_a_run_is_no_recipe_but_can_be_resumed(podlt: Podlt, run: Path) -> None:
    outcome = podlt("train", run)
    assert outcome.code == 2 and "a run, not a recipe" in outcome.err and "--resume" in outcome.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("data", "describe", "pets"),
            "pets: a folder, not a recipe; if it is of data: podlt init pets.toml --data pets",
        ),
        (("verify", "https://example.org/x.podlt"), "an address: fetch the bundle first"),
        (("verify", "RUN", "--head", "bytes"), "bytes: not a signed tree head"),
        (("verify", "RUN", "--head", "nowhere"), "nowhere: cannot be read: No such file"),
        (("show", "RUN", "rond", "1"), "'rond' is not one of"),
        (("audit", "RUN", "--fraction", "10%"), "expected a number"),
        (("audit", "RUN", "--round", "ten"), "expected a whole number"),
    ],
)
def test_what_is_mistyped_is_said_in_plain_words(
    words: tuple[str, ...], says: str, podlt: Podlt, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    outcome = podlt(*(run if word == "RUN" else word for word in words))
    said = " ".join(outcome.err.replace("\u2502", " ").split())
    assert outcome.code == 2 and says in said and "Errno" not in said
    assert "Input should" not in said and "Value error" not in said


def test_a_run_that_is_complete_is_not_said_to_be_resumable_by_finish(podlt: Podlt, run: Path) -> None:
    outcome = podlt("finish", run)
    assert outcome.code == 2 and "complete already" in outcome.err and "hint" not in outcome.err


def test_ctrl_c_while_modules_are_imported_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("open('importing', 'w').close()\nimport time\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), str(Path(package.__file__).parents[1])])
    code = "from podlt.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "ledger", "x"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "importing").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == "interrupted\n"


def test_the_version_is_an_attribute_of_the_package(podlt: Podlt) -> None:
    assert podlt("--version").out.startswith(f"podlt {package.__version__},")


def test_an_interrupted_command_says_that_nothing_is_half_done_and_how_to_begin_again() -> None:
    assert what_is_left("podlt verify", ["verify", "a b"]) == "nothing was changed; begin again: podlt verify 'a b'"
    assert "no file is half" in what_is_left("podlt bundle", ["bundle", "r"])
    assert what_is_left("podlt show", ["show", "r" * 400]).endswith("begin again, by the same command")


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (
            '[data]\nsource = "digits"\n[modell]\nname = "a:b"\n',
            "that a recipe has; was [model] meant?",
        ),
        ('[data]\nsource = "d"\n[model]\nname = "a:b"\n[training]\nepoch = 3\n', "was epochs meant?"),
        ('[data]\nsource = "d"\n[model]\nname = "a:b"\n[trainnig]\nepochs = 3\n', "was [training] meant?"),
        (
            '[data]\nsource = "d"\n[model]\nname = "a:b"\n[zzz]\nepochs = 3\n',
            "[zzz] is none that a recipe has; podlt",
        ),
    ],
)
def test_a_typo_in_a_recipe_is_shown_with_what_was_meant(recipe: str, words: str, podlt: Podlt, tmp_path: Path) -> None:
    (tmp_path / "typo.toml").write_text(recipe)
    outcome = podlt("recipe", "show", "typo.toml")
    assert outcome.code == 2 and words in outcome.err


def test_a_path_that_is_no_run_is_named_for_what_it_is(podlt: Podlt, run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for path, words in (
        ("nowhere", "nowhere: there is no such file or folder"),
        ("text.txt", "text.txt: a file of another kind"),
        ("empty", "empty: a folder: no run here"),
        (run.parent, f"a folder of runs ({run.name}"),
    ):
        outcome = podlt("verify", path)
        assert outcome.code == 2 and words in outcome.err, outcome.err


def test_a_place_where_no_run_can_be_made_is_refused_before_anything_that_takes_long(
    podlt: Podlt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    outcome = podlt("train", "digits", "--run", "file/run")
    assert outcome.code == 2 and "file is a file: choose another place by --run DIR" in outcome.err
    monkeypatch.setattr("os.access", lambda path, mode: False)  # a read-only file system, also for root
    outcome = podlt("train", "digits", "--run", "there")
    assert outcome.code == 2 and "cannot be written: choose another place" in outcome.err and not outcome.out


def test_what_the_system_refuses_is_said_without_its_number(podlt: Podlt, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "there/new.toml")

    monkeypatch.setattr("pathlib.Path.exists", refused)
    outcome = podlt("init", "new.toml", "--data", "digits")
    assert outcome.code == 3 and outcome.err == "error: could not go on: there/new.toml: Read-only file system\n"
