"""What all tests share: `--rewrite-golden`, which writes golden files anew, to be reviewed as a diff.

Every log that a test verifies is verified by the second verifier too (`second_opinion`).

Also which files run in one process where there are several.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import second_opinion
from examples_drawn import ALL, FAST
from hypothesis import settings

settings.register_profile("podlt", deadline=None)  # no test rests on the clock: a machine may be busy
settings.register_profile("fast", settings.get_profile("podlt"), max_examples=FAST)
settings.load_profile("podlt" if ALL else "fast")

# Hosts in threads share PyTorch's number of threads with the manager, and stock arithmetic rounds by it: a manager that
# sets it for a moment, and back, would have them differ, and who is honest evicted. It is set before PyTorch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

second_opinion.install()

Golden = Callable[[Path, str], None]

TOGETHER = ("tests/program/", "tests/store/", "tests/manager/", "tests/api/", "tests/inference/")
"""Folders whose tests share what takes seconds: captured programs, a PostgreSQL server, finished runs."""


HEAVY = ("tests/manager/", "tests/program/", "tests/network/", "tests/store/", "tests/attacks/", "tests/cli/")
"""Folders whose tests take longest: begun first, so that no process is left alone with one of them at the end."""


@pytest.hookimpl(hookwrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Half a million objects of libraries and tests stay until the end: nobody looks through them for garbage again."""
    gc.disable()
    yield
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # by default every 700 objects, and captures make millions
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((i for i, folder in enumerate(HEAVY) if item.nodeid.startswith(folder)), len(HEAVY))

    items.sort(key=place)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write golden files anew instead of comparing")


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is one process anyway
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Lets `--dist loadfile` give such a folder to one process, instead of each of its files to any."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # by number of tests, whatever they take

    class Folders(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in TOGETHER if nodeid.startswith(folder)), super()._split_scope(nodeid))

    return Folders(config, log)


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
