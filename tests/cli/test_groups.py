"""Options in groups: a command's parameters are dataclasses, and typer gets their fields."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from podlt.cli.groups import grouped
from podlt.cli.manager import manager
from podlt.cli.monitoring_options import MonitoringOptions
from podlt.cli.run_options import RunOptions
from podlt.cli.train import train


@dataclass(frozen=True)
class Colour:
    """One option, and one that is not for the command line to say."""

    hue: Annotated[str, typer.Option(help="Which.")] = "red"
    deep: Annotated[bool, typer.Option("--deep")] = False

    @property
    def text(self) -> str:
        return f"{'deep ' if self.deep else ''}{self.hue}"


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Argument()]


def painted(*argv: str) -> Any:
    app, seen = typer.Typer(), []

    @app.command()
    @grouped
    def paint(size: Size, colour: Colour, times: Annotated[int, typer.Option(min=1)] = 1) -> None:
        """Paint."""
        seen.append((size.width, colour.text, times))

    result = CliRunner().invoke(app, argv)
    return seen, result


def test_a_command_gets_its_options_in_their_groups() -> None:
    assert painted("3")[0] == [(3, "red", 1)]
    assert painted("--deep", "--hue", "blue", "3", "--times", "2")[0] == [(3, "deep blue", 2)]


@pytest.mark.parametrize("argv", [(), ("x",), ("3", "--times", "0"), ("3", "--nonsense")])
def test_what_typer_refuses_never_reaches_the_command(argv: tuple[str, ...]) -> None:
    seen, result = painted(*argv)
    assert not seen and result.exit_code == 2


def test_the_help_shows_every_option_of_a_group() -> None:
    out = painted("--help")[1].output
    assert "Paint." in out and "--hue" in out and "--deep" in out and "Which." in out


@pytest.mark.parametrize("group", [RunOptions, MonitoringOptions])
def test_train_and_manager_share_one_declaration_of_each_common_option(group: type[Any]) -> None:
    one, other = (inspect.signature(command).parameters for command in (train, manager))
    for name in group.__dataclass_fields__:
        assert one[name].default == other[name].default
        assert vars(one[name].annotation.__metadata__[0]) == vars(other[name].annotation.__metadata__[0])
