"""The checker's page in a real browser: a bundle is dropped, the table is read, and no request leaves."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from podlt.canonical import encode
from podlt.cli import main
from podlt.dashboard.checker_page import FOLDER, checker_page, write_checker_page
from podlt.protocol.claims import Claim
from podlt.verify.documents import Documents
from protocol.test_tampering import ENTRIES, LOG, WORLD, changed, place_of, signed_with

from .conftest import bundle_of

DOCUMENTS = Documents(WORLD.recipe, WORLD.program)
NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"


def test_the_page_is_one_file_that_can_ask_nobody() -> None:
    page = checker_page()
    assert len(page.encode()) < 200_000
    assert "%" not in page[: page.index("<style>")], "a place was not filled"
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None and policy[1].startswith("default-src 'none';")
    assert "connect-src" not in policy[1] and "unsafe" not in policy[1] and "http" not in policy[1]
    assert not re.search(r"\b(?:fetch|XMLHttpRequest|importScripts|innerHTML|eval|localStorage)\b", page)


def test_each_script_is_a_file_of_one_thought() -> None:
    for path in FOLDER.glob("*.js"):
        lines = path.read_text().splitlines()
        assert len(lines) <= 400 and max(map(len, lines)) <= 180, path.name


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install '.[dev]' brings playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt install chromium (nothing is downloaded by the tests)")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Checker:
    """The page, opened from the disk, and all that it asked for or complained of."""

    def __init__(self, chromium: Any, folder: Path) -> None:
        write_checker_page(folder / "verify.html")
        self.folder, self.page = folder, chromium.new_page()
        self.faults, self.requests = list[str](), list[str]()
        self.page.on("console", lambda said: self.faults.append(said.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto((folder / "verify.html").as_uri())

    def outcomes(self, bundle: bytes) -> list[str]:
        """The outcome of each claim, once a bundle was given to the page."""
        (self.folder / "run.podlt").write_bytes(bundle)
        self.page.set_input_files("#pv-file", self.folder / "run.podlt")
        self.page.wait_for_selector(f"[data-claim='{len(Claim)}']", timeout=60_000)
        rows = self.page.locator("[data-claim]")
        return [str(rows.nth(i).get_attribute("data-outcome")) for i in range(rows.count())]


@pytest.fixture
def checker(chromium: Any, tmp_path: Path) -> Iterator[Checker]:
    opened = Checker(chromium, tmp_path)
    yield opened
    opened.page.close()
    assert opened.faults == []
    assert all(url.startswith(("blob:null/", "file:///")) for url in opened.requests), opened.requests


@pytest.mark.slow
def test_a_bundle_is_verified_in_a_browser_and_each_entry_has_its_path(checker: Checker) -> None:
    found = checker.outcomes(bundle_of(LOG, DOCUMENTS))
    assert "fails" not in found and found[0] == found[Claim.SIGNATURES - 1] == found[Claim.OUTCOME - 1] == "holds"
    page = checker.page
    page.fill("#pv-goto", "7")
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_selector(".pv-path .pv-holds")
    assert "leads to the root" in page.inner_text(".pv-path")
    assert "different people" in page.inner_text(".podlt-verify")


@pytest.mark.slow
def test_what_the_reader_types_after_the_bundle_counts(checker: Checker) -> None:
    bundle = bundle_of(LOG, DOCUMENTS)
    assert checker.outcomes(bundle)[Claim.MANAGER - 1] == "not checked"
    checker.page.click(".pv-given summary")
    checker.page.fill("#pv-key", "00" * 32)
    checker.page.keyboard.press("Enter")
    checker.page.wait_for_selector(f"[data-claim='{Claim.MANAGER:d}'][data-outcome='fails']")
    assert Claim.MANAGER.title in checker.page.inner_text(".pv-first")
    checker.page.fill("#pv-key", ENTRIES[0].manager.hex())
    checker.page.keyboard.press("Enter")
    checker.page.wait_for_selector(f"[data-claim='{Claim.MANAGER:d}'][data-outcome='holds']")


@pytest.mark.slow
def test_the_page_opens_the_first_entry_that_is_wrong(checker: Checker) -> None:
    place = place_of("pay.transfers[].amount")
    log = signed_with(place, encode(changed(ENTRIES[place], "pay.transfers[].amount")))
    assert checker.outcomes(bundle_of(log, DOCUMENTS))[Claim.PAYMENTS - 1] == "fails"
    assert f"entry {place}:" in checker.page.inner_text(".pv-first")
    checker.page.wait_for_selector(f".pv-detail h4:has-text('{place}')")


@pytest.mark.slow
def test_what_a_bundle_says_is_text_on_the_page_and_no_markup(checker: Checker) -> None:
    place = place_of("close.reason")
    evil = "<img src=x onerror=alert(1)></script><b>\u202e"
    log = signed_with(place, encode(msgspec.structs.replace(ENTRIES[place], reason=evil)))
    checker.outcomes(bundle_of(log, DOCUMENTS))
    checker.page.fill("#pv-goto", str(place))
    checker.page.get_by_role("button", name="Show", exact=True).click()
    checker.page.wait_for_selector(".pv-detail pre:has-text('onerror')")
    assert "\u202e" not in checker.page.inner_text(".pv-detail pre")
    assert checker.page.locator(".podlt-verify img, .podlt-verify b").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [lambda raw: raw[:-600], lambda raw: raw[:600]])
def test_a_bundle_that_was_cut_off_fails_the_first_claim(checker: Checker, spoil: Callable[[bytes], bytes]) -> None:
    found = checker.outcomes(spoil(bundle_of(LOG, DOCUMENTS)))
    assert found[0] == "fails" and set(found[1:]) == {"not checked"}


@pytest.mark.slow
def test_a_file_that_is_no_bundle_is_called_so(checker: Checker) -> None:
    (checker.folder / "notes.txt").write_text("no bundle")
    checker.page.set_input_files("#pv-file", checker.folder / "notes.txt")
    checker.page.wait_for_selector(".pv-status.pv-bad:has-text('podlt bundle RUN')")
    assert checker.page.locator("[data-claim]").count() == 0


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["checker", str(tmp_path / "page.html")])
    assert end.value.code == 0 and "podlt bundle RUN" in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text() == checker_page()
