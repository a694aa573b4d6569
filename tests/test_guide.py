"""README and guides show what there is: recipes that are read, names that exist, commands with their options."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import msgspec
import pytest
import typer

import podlt
from podlt.call_options import ObjectOptions
from podlt.cli.app import build
from podlt.data.spec import DataSpec
from podlt.program.optimizer import optimizer_from
from podlt.program.schedule import Horizon
from podlt.recipe import EvaluationSpec, Recipe, TrainingSpec, WitnessSpec

ROOT = Path(__file__).parents[1]
SHOWN = ["guide/*.md", "start/*.md", "proof.md", "FAQ.md", "PLAN.md", "OPERATIONS.md"]
PAGES = [ROOT / "README.md", *sorted(page for pattern in SHOWN for page in (ROOT / "docs").glob(pattern))]
TABLES = {
    "data": DataSpec,
    "evaluation": EvaluationSpec,
    "training": TrainingSpec,
    "witnesses": tuple[WitnessSpec, ...],
}


def blocks(page: Path, language: str) -> list[str]:
    """The code of a page in a language."""
    return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


pages = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@pages
def test_every_table_of_a_recipe_is_one(page: Path) -> None:
    for text in blocks(page, "toml"):
        document = tomllib.loads(text)
        if "model" in document:
            msgspec.convert(document, Recipe)
            continue
        for name, table in document.items():
            if name == "optimizer":
                optimizer_from(table, Horizon(1000, 10, 100))
            else:
                msgspec.convert(table, TABLES[name])


@pages
def test_every_python_block_calls_what_there_is(page: Path) -> None:
    known = {"model", "dataset", "loss", "optimizer", "epochs", "workers", "test", *ObjectOptions.__annotations__}
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse("" if text.startswith(">>>") else text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "podlt":
                assert hasattr(podlt, node.attr) or node.attr in ("callbacks", "errors"), node.attr
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "podlt.train":
                assert {keyword.arg for keyword in node.keywords} <= known, ast.unparse(node)


@pages
def test_every_command_has_the_options_that_it_is_shown_with(page: Path) -> None:
    root = typer.main.get_command(build())
    for text in [text for language in ("", "sh", "console") for text in blocks(page, language)]:
        for line in text.splitlines():
            line = line.removeprefix("$ ").split(" #")[0].split(" >")[0]
            words = shlex.split(line) if line.startswith("podlt ") else []
            command, path = root, words[1:]
            while path and path[0] in getattr(command, "commands", {}):
                command, path = command.commands[path[0]], path[1:]
            if command.name == "bench":  # passes its options on
                continue
            options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            assert {word for word in path if word.startswith("--")} <= options | {"--help"}, line
