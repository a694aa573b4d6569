"""A lying manager against `podlt reproduce`: whoever trains the run again finds each lie about its model."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlt.errors import InvalidProofError
from podlt.manager.reproduction import reproduce

from .lying_manager import ATTACKS, play

UNDECIDED = {
    "begin-arithmetic": "use the version that began it",
    "begin-examples": "the first entry says 600",
    "begin-test": "the test set",
    "begin-no-test": "the first entry says that there is none",
}
"""What training again cannot decide, as the data or the arithmetic that are here may be the wrong ones; and why."""

UNNEEDED = {"checkpoint", "update"}
"""Lies about files that training again does not need."""


def found(name: str, run: Path) -> tuple[int, str]:
    """How training again ends, and what it says."""
    try:
        report = reproduce(run, jobs=1)
    except InvalidProofError as error:
        return error.exit_code, str(error)
    return report.exit_code, report.not_checked


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "loss" else pytest.mark.slow) for n in ATTACKS])
def test_a_lie_about_the_model_or_its_figures_is_a_difference(name: str, tmp_path: Path) -> None:
    code, why = found(name, play(ATTACKS[name], tmp_path / "run"))
    if name in UNDECIDED:
        assert code == 4 and UNDECIDED[name] in why
    else:
        assert code == (0 if name in UNNEEDED else 1)
