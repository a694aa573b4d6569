"""The page in a real browser: what it shows, what it survives, and that everybody can use it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from growing import CHEATERS, advance, growing_run, shown

from podlt.cli.report import write_report
from podlt.dashboard.claims import unchecked
from podlt.dashboard.page import report_page
from podlt.dashboard.server import DashboardServer
from podlt.dashboard.source import read_messages
from podlt.dashboard.stream import MessageStream
from podlt.dashboard.watching import LenderWatch
from podlt.store.bundle import write_bundle

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)></script><script>window.hacked=1</script>"

Open = Callable[..., Any]


def file_url(path: Path) -> str:
    return path.absolute().as_uri()


def test_a_live_run_is_seen_round_by_round_and_its_cheaters_with_their_evidence(opened: Open, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with growing_run(run) as world, shown(run) as server:
        page = opened(server.url).page
        advance(world, run, 5)
        page.get_by_text("5 rounds ·").wait_for()
        advance(world, run, 60)
        page.get_by_text("65 rounds ·").wait_for()
        for number in CHEATERS:
            page.get_by_role("button", name=f"worker {number} convicted").first.wait_for()
        page.get_by_role("button", name=f"worker {CHEATERS[0]} convicted").first.click()
        evidence = page.get_by_role("dialog").inner_text()
        assert "differs: convicted" in evidence and f"podlt audit {run} --round" in evidence
        page.get_by_role("button", name="Close").click()
        assert "not checked yet" in page.inner_text("#top")
        advance(world, run, -1)
        page.get_by_text("complete").first.wait_for()


def test_any_round_can_be_gone_back_to(opened: Open, finished: Path) -> None:
    with shown(finished) as server:
        page = opened(server.url).page
        page.get_by_text("complete").first.wait_for()
        slider = page.get_by_role("slider", name="Round")
        for _ in range(3):
            page.get_by_role("button", name="Round before").click()
        page.get_by_role("heading", name="Round 116").wait_for()
        slider.focus()
        page.keyboard.press("Home")
        page.get_by_role("heading", name="Round 0 ").wait_for()
        page.get_by_role("link", name="Workers").click()
        row = page.locator("tbody tr").first
        row.wait_for()
        assert row.locator("td").nth(4).inner_text() == "1", "one task after the first round"
        page.get_by_role("link", name="Overview").click()
        page.get_by_role("button", name="Newest").click()
        page.get_by_role("heading", name="Round 119").wait_for()


def test_a_click_on_the_strip_goes_to_that_round(opened: Open, finished: Path) -> None:
    with shown(finished) as server:
        page = opened(server.url).page
        page.get_by_text("complete").first.wait_for()
        strip = page.locator(".strip canvas")
        strip.click(position={"x": 60, "y": 120})
        page.get_by_role("heading", name="Round 2 ").or_(page.get_by_role("heading", name="Round 1 ")).first.wait_for()


def test_a_page_whose_server_was_away_goes_on(opened: Open, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with growing_run(run) as world:
        advance(world, run, 10)
        with shown(run) as server:
            port, found = server.port, opened(server.url)
            page = found.page
            page.get_by_text("10 rounds ·").wait_for()
        page.get_by_text("connection lost").wait_for()
        advance(world, run, 10)
        with shown(run, port):
            page.get_by_text("20 rounds ·").wait_for(timeout=20_000)
            assert not page.get_by_text("connection lost").is_visible()
        found.faults.clear()  # what a browser says of a server that is away


def test_hostile_names_are_text(opened: Open, finished: Path, tmp_path: Path) -> None:
    messages = read_messages(finished)
    for message in messages:
        if message["t"] == "join":
            message["w"][2] = HOSTILE
        if message["t"] == "header":
            message |= {"name": HOSTILE, "path": HOSTILE, "facts": {"Model": HOSTILE, "Data": HOSTILE}}
    messages.append({"t": "leave", "r": 1, "at": 0, "w": 2, "why": HOSTILE})
    messages.append({"t": "claims", **unchecked(HOSTILE)})
    path = tmp_path / "report.html"
    path.write_text(report_page(HOSTILE, messages), encoding="utf-8")
    page = opened(file_url(path)).page
    page.get_by_role("heading", name=HOSTILE).wait_for()
    for tab in ("Workers", "Claims", "Overview"):
        page.get_by_role("link", name=tab, exact=True).click()
        page.locator("#main .card").first.wait_for()
        assert page.evaluate("window.hacked === undefined && document.images.length === 0")
    page.get_by_role("button", name="convicted").first.click()
    assert HOSTILE in page.get_by_role("dialog").inner_text()


def test_inline_scripts_that_are_not_the_pages_do_not_run(opened: Open, finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    text = report_page("run", read_messages(finished))
    path.write_text(text.replace("<main", "<script>window.hacked = 1</script><main", 1), encoding="utf-8")
    found = opened(file_url(path))
    found.page.locator(".tile").first.wait_for()
    assert found.page.evaluate("window.hacked") is None
    assert "Content Security Policy" in found.faults.pop()


def test_the_report_is_the_page_with_its_data_inside(opened: Open, finished: Path, tmp_path: Path) -> None:
    page = opened(file_url(write_report(finished, tmp_path / "report.html"))).page
    page.get_by_text("claims hold").wait_for()
    page.get_by_role("link", name="Claims", exact=True).click()
    page.locator("td.outcome.holds").first.wait_for()
    assert page.locator("td.outcome.holds").count() == 12


def test_the_page_and_the_report_check_a_bundle_in_their_own_tab(opened: Open, finished: Path, tmp_path: Path) -> None:
    write_bundle(finished, tmp_path / "run.podlt")
    with shown(finished) as server:
        for url in (server.url, file_url(write_report(finished, tmp_path / "report.html"))):
            page = opened(f"{url}#/check").page
            page.locator("#pv-file").wait_for(state="attached")
            page.set_input_files("#pv-file", tmp_path / "run.podlt")
            page.get_by_text("all on this machine").wait_for()


def synthetic(rounds: int, workers: int) -> list[dict[str, Any]]:
    """A large run's messages, drawn."""
    dice = random.Random(1)
    key = "ab" * 32
    found: list[dict[str, Any]] = [{"t": "header", "name": "large", "path": "runs/large", "facts": {}, "cheats": {}}]
    found.append(
        {"t": "begin", "examples": workers, "epochs": rounds, "at": 1, "digests": {}, "preset": "guarded", "run": key}
    )
    found += [{"t": "join", "r": 0, "at": 1, "w": [number, key, "", 0]} for number in range(workers)]
    pay = {"p": [1], "s": "1" * workers}
    for number in range(rounds):
        cells = "".join(dice.choices("ucok", (90, 6, 3, 1), k=workers))
        out = [[dice.randrange(workers), "suspended"]] if number % 50 == 7 else []
        found.append(
            {"t": "round", "r": number, "ep": number, "at": 1000 * number, "ms": 900, "off": 0, "n": workers}
            | {"loss": 1 / (1 + number), "w": workers, "frag": workers, "tasks": workers, "agree": 3, "own": 1}
            | {"cells": cells, "e": [number, number], "tr": -number * workers, "earn": pay, "out": out}
        )
    return found


def test_a_thousand_workers_and_rounds_are_drawn_and_gone_back_to(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(report_page("large", synthetic(1000, 1000)), encoding="utf-8")
    page = opened(file_url(path)).page
    page.get_by_role("heading", name="Round 999").wait_for()
    page.get_by_role("slider", name="Round").focus()
    page.keyboard.press("Home")
    page.get_by_role("heading", name="Round 0 ").wait_for()
    page.get_by_role("link", name="Workers").click()
    page.locator("tbody tr").nth(999).wait_for()


def test_a_figure_of_ones_own_is_no_percentage(opened: Open, tmp_path: Path) -> None:
    messages = synthetic(4, 3)
    own = {"accuracy": 0.5, "cost": 0.615}
    messages += [{"t": "measure", "r": number, "ep": number, "at": 9, "m": own} for number in range(2)]
    for name, metrics, shown_as in (("own", own, "0.6150"), ("shares", {"accuracy": 0.615}, "61.50%")):
        path = tmp_path / f"{name}.html"
        told = [{**message, "m": metrics} if message["t"] == "measure" else message for message in messages]
        path.write_text(report_page(name, told), encoding="utf-8")
        card = opened(file_url(path)).page.locator("section.card", has_text="Test figures").first
        card.get_by_text(shown_as).first.wait_for()
        assert "61.50%" not in card.inner_text() or name == "shares"


def test_nothing_is_wider_than_a_phone(opened: Open, finished: Path) -> None:
    with shown(finished) as server:
        page = opened(server.url, is_mobile=False).page
        page.set_viewport_size({"width": 360, "height": 740})
        for tab in ("Workers", "Claims", "Overview"):
            page.get_by_role("link", name=tab, exact=True).click()
            page.locator("#main .card").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Open, finished: Path, scheme: str) -> None:
    axe_module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install '.[dev]' brings axe")
    with shown(finished) as server:
        page = opened(server.url, color_scheme=scheme).page
        for tab in ("Overview", "Workers", "Claims", "dialog"):
            if tab == "dialog":
                page.get_by_role("link", name="Overview").click()
                page.get_by_role("button", name="convicted").first.click()
            else:
                page.get_by_role("link", name=tab, exact=True).click()
            page.locator("#main .card").first.wait_for()
            found = axe_module.Axe().run(page).response["violations"]
            serious = [one for one in found if one["impact"] in ("serious", "critical")]
            assert [(tab, one["id"], one["nodes"][0]["html"][:200]) for one in serious] == []


def test_a_lenders_buttons_ask_its_worker(opened: Open) -> None:
    stream, pressed = MessageStream(), list[str]()
    watch = LenderWatch(stream, {"Memory": "8 GiB", "Folder": "~/.podlt"})
    state = {"paused": False, "stopping": False}

    def act(action: str) -> bool:
        pressed.append(action)
        watch.take({"event": "paused", **state, "paused": action == "pause", "stopping": action == "stop"})
        return True

    totals = {"tasks": 7, "vested": 30, "pending": 12, "forfeited": 0}
    watch.take({"event": "progress", "doing": "waiting for a task", "connected": True, **totals})
    watch.take({"event": "warning", "text": HOSTILE, "level": 30})
    with DashboardServer("127.0.0.1", 0, "lender", lambda name: stream, act) as server:
        page = opened(server.url).page
        page.get_by_text("waiting for a task").first.wait_for()
        assert "token" not in page.url and HOSTILE in page.inner_text(".events")
        page.get_by_role("button", name="Pause after this round").click()
        page.get_by_role("button", name="Resume").click()
        page.get_by_role("button", name="Pause after this round").wait_for()
        page.get_by_role("button", name="Stop after this round").click()
        page.get_by_text("Stopping once its round is in the log").wait_for()
        assert pressed == ["pause", "resume", "stop"]
        stranger = opened(server.url.partition("#")[0])
        stranger.page.get_by_text("needs the token").wait_for()
        stranger.faults.clear()
