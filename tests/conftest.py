"""What all tests share: `--rewrite-golden`, which writes golden files anew, to be reviewed as a diff."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("podlt", deadline=None)  # no test rests on the clock: a machine may be busy
settings.load_profile("podlt")

Golden = Callable[[Path, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write golden files anew instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares a text with a checked-in file, or writes the file."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--rewrite-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: run pytest --rewrite-golden and review it"
        assert text == path.read_text(encoding="utf-8"), f"{path.name} differs: review with pytest --rewrite-golden"

    return compare
