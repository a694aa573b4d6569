"""A headless Chromium that is on this machine; where there is none, the tests that need it say how to get one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from growing import finished_run

NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
GET_ONE = "no Chromium on this machine: apt install chromium (nothing is downloaded by the tests)"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install '.[dev]' brings playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(GET_ONE)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page, and what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page, self.faults = page, list[str]()
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", lambda said: self.faults.append(f"console: {said.text}") if said.type != "log" else None)
        page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))
        page.on("response", lambda got: self.faults.append(f"{got.status}: {got.url}") if got.status >= 400 else None)
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a page; what goes wrong on it fails the test, unless it took it out of `faults`."""
    made: list[Opened] = []
    contexts: list[Any] = []

    def open_page(url: str, **options: Any) -> Opened:
        contexts.append(chromium.new_context(viewport={"width": 1280, "height": 800}, **options))
        made.append(Opened(contexts[-1].new_page()))
        made[-1].page.goto(url)
        return made[-1]

    yield open_page
    faults = [fault for one in made for fault in one.faults]
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is over: 120 rounds of 12 workers, two of whom cheated."""
    run = tmp_path_factory.mktemp("finished") / "run"
    finished_run(run)
    return run
