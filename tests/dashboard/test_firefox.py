"""The pages in Firefox: the checker finds what `podlt verify` finds, and the dashboard shows a run and its evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from firefox import Firefox, firefox_program
from growing import CHEATERS, advance, growing_run, shown

from podlt.cli.report import write_report
from podlt.dashboard.checker_page import write_checker_page
from podlt.protocol.claims import Claim, Outcome
from podlt.store.bundle import write_bundle
from podlt.verify import verify

pytestmark = pytest.mark.slow

ENTER = "\ue007"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    program = firefox_program()
    if program is None:
        pytest.skip("no Firefox on this machine: apt install firefox-esr (nothing is downloaded by the tests)")
    browser = Firefox(program, tmp_path_factory.mktemp("firefox") / "profile")
    yield browser
    browser.close()


@pytest.fixture
def firefox(started: Firefox) -> Iterator[Firefox]:
    """The browser; what goes wrong on a page fails the test."""
    before = len(started.faults())
    yield started
    assert started.faults()[before:] == []


def outcomes(firefox: Firefox, page: Path, bundle: Path) -> dict[Claim, str]:
    """What the checker finds of a bundle."""
    firefox.open(page.as_uri())
    firefox.give("#pv-file", str(bundle))
    firefox.wait(f"[data-claim='{max(Claim):d}']")
    script = "return [...document.querySelectorAll('[data-claim]')].map((row) => Object.values({ ...row.dataset }))"
    return {Claim(int(number)): outcome for number, outcome in firefox.run(script)}


def test_the_checker_finds_what_verify_finds(firefox: Firefox, finished: Path, tmp_path: Path) -> None:
    page, bundle, spoiled = tmp_path / "verify.html", tmp_path / "run.podlt", tmp_path / "spoiled.podlt"
    write_checker_page(page)
    write_bundle(finished, bundle)
    raw = bytearray(bundle.read_bytes())
    raw[len(raw) // 2] ^= 1
    spoiled.write_bytes(raw)
    for one in (bundle, spoiled):
        expected = {finding.claim: finding.outcome.value for finding in verify(one, jobs=1).findings}
        assert outcomes(firefox, page, one) == expected
    assert Outcome.FAILS in expected.values(), "the spoiled one was not"


def test_a_key_that_is_typed_after_the_bundle_counts(firefox: Firefox, finished: Path, tmp_path: Path) -> None:
    write_checker_page(tmp_path / "verify.html")
    write_bundle(finished, tmp_path / "run.podlt")
    assert outcomes(firefox, tmp_path / "verify.html", tmp_path / "run.podlt")[Claim.MANAGER] == "not checked"
    firefox.click(".pv-given summary")
    firefox.give("#pv-key", "00" * 32 + ENTER)
    firefox.wait(f"[data-claim='{Claim.MANAGER:d}'][data-outcome='fails']")
    assert "is another manager's" in firefox.text(".pv-first")


def test_a_run_that_grows_is_followed_and_a_conviction_has_its_evidence(firefox: Firefox, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with growing_run(run) as world, shown(run) as server:
        firefox.open(server.url)
        advance(world, run, 65)
        firefox.wait_for_text("65 rounds \u00b7")
        name = f"worker {CHEATERS[0]} convicted"
        firefox.wait_for_text(name)
        firefox.run(
            "[...document.querySelectorAll('button')].find((b) => b.innerText.includes(arguments[0])).click()", name
        )
        firefox.wait("[role=dialog], dialog[open]")
        assert f"podlt audit {run} --round" in firefox.text("[role=dialog], dialog[open]")


def test_a_report_is_one_file_that_opens(firefox: Firefox, finished: Path, tmp_path: Path) -> None:
    write_report(finished, tmp_path / "report.html")
    firefox.open((tmp_path / "report.html").as_uri())
    firefox.wait_for_text("120 rounds \u00b7")
    picture = firefox.picture()
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
