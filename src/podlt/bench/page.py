"""How large the dashboard is, and how long a finished run of many rounds takes to open.

`podlt bench page` simulates a run, and opens its page and its report in a headless Chromium of this machine. The fold
is processor time; what the browser shows is on the wall clock; each figure is the least of three.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from podlt.dashboard import page
from podlt.dashboard.server import DashboardServer
from podlt.dashboard.source import RunSource, read_messages
from podlt.dashboard.stream import MessageStream
from podlt.errors import UsageError
from podlt.sim import simulate

REPEATS = 3
BROWSERS = "chromium", "chromium-browser", "google-chrome"
FIRST_PAINT = """new Promise((take) => new PerformanceObserver((list) => take(list.getEntries()[0].startTime))
  .observe({ type: "paint", buffered: true }))"""


class OpenedPage(msgspec.Struct, frozen=True):
    """What a browser saw of a page.

    Attributes:
        paint: seconds to the first paint.
        whole: seconds until the last round was shown.
    """

    paint: float
    whole: float


def page_bytes() -> tuple[int, int]:
    """Bytes of the page without data, as they are and as gzip sends them."""
    parts = [page.served_page(), *(body for _, body in page.files().values())]
    return sum(map(len, parts)), sum(len(gzip.compress(part, 6)) for part in parts)


def open_in(browser: Any, url: str, rounds: int) -> OpenedPage:
    """Opens a page in a context of its own, until its last round is shown."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    shown = context.new_page()
    begun = time.perf_counter()
    shown.goto(url)
    shown.get_by_role("heading", name=f"Round {rounds - 1:,} ").wait_for(timeout=120_000)
    whole = time.perf_counter() - begun
    found = OpenedPage(shown.evaluate(FIRST_PAINT) / 1e3, whole)
    context.close()
    return found


def served(browser: Any, run: Path, rounds: int) -> OpenedPage:
    """A run's page by a server that has just begun to read it."""
    stream = MessageStream()
    source = RunSource(run, stream)
    with DashboardServer("127.0.0.1", 0, "run", lambda name: stream) as server:
        source.start()
        found = open_in(browser, server.url, rounds)
    source.stop()
    return found


def least(measure: Callable[[], OpenedPage]) -> OpenedPage:
    """Each figure's least of several."""
    found = [measure() for _ in range(REPEATS)]
    return OpenedPage(min(one.paint for one in found), min(one.whole for one in found))


def fold_seconds(run: Path) -> float:
    """Processor time of folding a run's log into messages, the least of several."""
    taken = []
    for _ in range(REPEATS):
        begun = time.process_time()
        read_messages(run)
        taken.append(time.process_time() - begun)
    return min(taken)


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=50)
    asked = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UsageError("podlt bench page drives a browser with playwright: pip install '.[dev]'") from None
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise UsageError("podlt bench page needs a Chromium: apt install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run, report = Path(folder) / "run", Path(folder) / "report.html"
        simulate(asked.workers, {"selective:0.1": 3}, asked.rounds, whole=True, directory=run)
        report.write_text(page.report_page("run", read_messages(run)), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        live = least(lambda: served(browser, run, asked.rounds))
        inside = least(lambda: open_in(browser, report.as_uri(), asked.rounds))
        browser.close()
        plain, packed = page_bytes()
        print(f"{asked.rounds:,} rounds of {asked.workers:,} workers")
        print(f"page without data     {plain / 1e3:,.0f} kB ({packed / 1e3:,.0f} kB as gzip sends it)")
        print(f"report                {report.stat().st_size / 1e3:,.0f} kB")
        print(f"fold of the log       {fold_seconds(run):.2f} s of processor time")
        print(f"podlt dashboard       first paint {live.paint:.2f} s, last round {live.whole:.2f} s")
        print(f"report                first paint {inside.paint:.2f} s, last round {inside.whole:.2f} s")


if __name__ == "__main__":
    main()
