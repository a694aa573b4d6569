"""What the command line promises apart from any one run: help, imports, errors, recipes, data, simulation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import Podlt

import podlt as package
from podlt.cli.app import COMMANDS
from podlt.cli.recipes import FOLDER, TEMPLATE, find_recipe, known_recipes
from podlt.errors import UsageError
from podlt.program.optimizer import optimizer_from
from podlt.recipe import load_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"


def in_a_fresh_process(code: str) -> str:
    """Runs Python code; returns its last line of output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_looking_at_a_run_never_loads_pytorch(run: Path) -> None:
    calls = [["verify", "--jobs", "1"], ["show"], ["show", "round", "3"], ["ledger"], ["report"]]
    arguments = [["--help"], *([name, str(run), *rest] for name, *rest in calls)]
    code = f"""
import sys
from podlt.cli import main
for argv in {arguments!r}:
    try:
        main(argv)
    except SystemExit as end:
        assert end.code == 0, argv
print("torch" in sys.modules)
"""
    assert in_a_fresh_process(code) == "False"


def test_importing_the_package_loads_nothing_heavy_and_offers_its_names() -> None:
    code = """
import sys, podlt
heavy = [name for name in ("torch", "numpy", "sqlalchemy", "pyarrow", "matplotlib") if name in sys.modules]
assert not heavy, heavy
from podlt.verify import verify
assert podlt.verify is verify and callable(podlt.verify)
podlt.Recipe, podlt.simulate
assert "torch" not in sys.modules
print("light")
"""
    assert in_a_fresh_process(code) == "light"


def test_every_public_name_is_there_and_no_other() -> None:
    assert len(package.__all__) <= 20
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = package.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", [command.__name__ for commands in COMMANDS.values() for command in commands])
def test_every_command_teaches_itself_with_an_example(podlt: Podlt, command: str) -> None:
    outcome = podlt(command, "--help")
    assert outcome.code == 0
    assert f"podlt {command}" in outcome.out.partition("Example")[2]


def test_the_help_names_every_exit_code(podlt: Podlt) -> None:
    out = " ".join(podlt("--help").out.split())
    for promise in ("0 all that", "1 something fails", "2 usage", "3 could not", "4 nothing", "70 a crash", "130 int"):
        assert promise in out


@pytest.mark.parametrize(
    "argv",
    [["nonsense"], ["verify"], ["train", "--nonsense"], ["show", "x", "planet", "3"], ["simulate", "--runs", "0"]],
)
def test_wrong_arguments_end_with_2_and_no_traceback(podlt: Podlt, argv: list[str]) -> None:
    outcome = podlt(*argv)
    assert outcome.code == 2
    assert "Error" in outcome.err and "Traceback" not in outcome.err


def test_train_wants_a_recipe_or_a_run(podlt: Podlt) -> None:
    assert podlt("train").code == 2
    assert podlt("train", "digits", "--resume", "runs/x").code == 2
    outcome = podlt("train", "nonsense.toml")
    assert outcome.code == 2
    assert "expected a TOML file, or one of" in outcome.err


def test_debug_shows_where_an_error_was_raised() -> None:
    code = "from podlt.cli import main; main(['--debug', 'show', 'nowhere'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr and "UsageError" in done.stderr
    assert done.returncode == 2  # Python's own would be 1: a finding


def test_every_recipe_that_comes_along_can_be_read_and_its_schedule_ends_with_the_run() -> None:
    assert "mnist-mlp" in known_recipes() and TEMPLATE not in known_recipes()
    for name in [*known_recipes(), TEMPLATE]:
        recipe = load_recipe(FOLDER / f"{name}.toml")
        optimizer_from(dict(recipe.optimizer))
        first = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").partition("\n")[0]
        assert first.startswith("# ")


def test_the_examples_are_the_recipes_that_come_along() -> None:
    links = {path.stem for path in EXAMPLES.glob("*.toml")}
    assert links == set(known_recipes())
    for name in links:
        assert (EXAMPLES / f"{name}.toml").read_bytes() == (FOLDER / f"{name}.toml").read_bytes()
    load_recipe(EXAMPLES / "own_model" / "recipe.toml")


def test_a_new_recipe_is_ready_to_train_and_overwrites_nothing(podlt: Podlt) -> None:
    assert podlt("recipe", "new", "mine.toml").code == 0
    shown = json.loads(podlt("recipe", "show", "mine.toml").out)
    assert shown["training"]["workers"] == 12 and shown["protocol"]["preset"] == "guarded"
    before = Path("mine.toml").read_bytes()
    assert podlt("recipe", "new", "mine.toml", "--from", "census").code == 2
    assert Path("mine.toml").read_bytes() == before
    assert podlt("recipe", "new", "other.toml", "--from", "nonsense").code == 2
    listed = podlt("recipe", "list").out
    assert all(name in listed for name in known_recipes())


def test_a_file_goes_before_a_recipe_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("digits") == FOLDER / "digits.toml"
    Path("digits").write_text("")
    assert find_recipe("digits") == Path("digits")
    with pytest.raises(UsageError):
        find_recipe("../digits")


def test_data_describe_says_what_a_table_holds(podlt: Podlt, tmp_path: Path) -> None:
    Path("heights.csv").write_text("age,city,height\n" + "".join(f"{i},b{i % 3},{i}.5\n" for i in range(20)))
    spec = 'source = "heights.csv"\nlabel = "height"\ntarget = "number"\ncategorical = ["city"]\ntest_fraction = 0.1\n'
    Path("mine.toml").write_text(f'[data]\n{spec}[model]\nname = "m:f"\n')
    outcome = podlt("data", "describe", "mine.toml")
    assert outcome.code == 0
    assert "18 examples to train on, 2 to test on" in outcome.out
    assert "@cardinalities" in outcome.out
    assert "a worker sees the whole model" in outcome.out
    assert "dealt: 1 examples to a worker a round" in outcome.out
    assert "warning: shards of one line: 18 examples a round over 48 useful workers" in outcome.out
    Path("heights.csv").write_text("age,city,height\n1,b,2\n2,b,nan\n")
    outcome = podlt("data", "fetch", "mine.toml")
    assert outcome.code == 2
    assert "heights.csv, line 3" in outcome.err


def test_a_simulated_run_can_be_kept_and_verified(podlt: Podlt) -> None:
    options = ["--workers", "8", "--rounds", "30", "--seed", "4"]
    outcome = podlt("simulate", *options, "--preset", "classic", "--cheat", "2:always", "--keep", "kept", "--json")
    figures = json.loads(outcome.out)
    assert figures["cheaters_caught"] == 2 and figures["cheaters_at_large"] == 0
    assert figures["credits_vested_to_cheaters_a_run"] == figures["honest_convicted_a_run"] == 0
    assert podlt("verify", "kept").code == 0
    assert podlt("simulate", "--keep", "kept").code == 2
    assert podlt("simulate", "--cheat", "always").code == 2
    assert "cheaters caught" in podlt("simulate", *options, "--runs", "2", "--cheat", "1:selective:0.5").out


def test_an_unknown_bench_names_the_known_ones(podlt: Podlt) -> None:
    outcome = podlt("bench", "nonsense")
    assert outcome.code == 2
    assert "overhead" in outcome.err


def test_a_bench_takes_its_own_options(podlt: Podlt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["podlt"])
    outcome = podlt("bench", "verify", "--rounds", "3", "--workers", "4", "--repeats", "1", "--jobs", "1")
    assert outcome.code == 0
    assert "exit code 0; " in outcome.out and "signatures" in outcome.out
