"""How long a browser takes to verify a bundle: `podlt bench browser --rounds 1000 --workers 50`.

A simulated run's bundle (its entries, signatures and heads are real) is given to the checker's page, which is opened
from the disk in a headless Chromium of this machine. Seconds are on the wall clock, from the file to the filled table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from podlt.dashboard.checker_page import write_checker_page
from podlt.errors import UsageError
from podlt.sim import simulate
from podlt.store.bundle import write_bundle

BROWSERS = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
PATIENCE = 300_000
"""Milliseconds after which a bundle counts as not verified."""


def main() -> None:
    """Builds a bundle, has a browser verify it several times, and prints the median."""
    parser = argparse.ArgumentParser(description="time the verification of a simulated run's bundle in a browser")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bundle", type=Path, default=None, help="where the bundle is kept, and reused if it is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "verify.html"
        write_checker_page(page)
        bundle = options.bundle or Path(scratch) / "run.podlt"
        if not bundle.exists():
            run = Path(scratch) / "run"
            simulate(options.workers, {"always": 3}, options.rounds, whole=True, directory=run)
            write_bundle(run, bundle)
        found = in_browser(page, bundle, options.repeats)
        size = bundle.stat().st_size / 2**20
        print(f"bundle {size:.1f} MiB, page {page.stat().st_size / 1000:.0f} kB, exit code {found['exit']}")
    for line in found["figures"]:
        print(line)
    seconds = found["seconds"]
    print(f"median {statistics.median(seconds):.2f} s of {len(seconds)} (best {min(seconds):.2f} s)")
    print(f"{found['browser']}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


def in_browser(page: Path, bundle: Path, repeats: int) -> dict[str, Any]:
    """Has a page verify a bundle; what it showed, and how many seconds each time took.

    Raises:
        UsageError: there is no browser, or nothing that drives it.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UsageError("playwright is not installed: pip install '.[dev]' brings it") from None
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise UsageError("no Chromium on this machine: apt install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        found: dict[str, Any] = {"seconds": [], "browser": f"Chromium {browser.version}"}
        for _ in range(repeats):
            shown = browser.new_page()
            shown.goto(page.as_uri())
            begun = time.perf_counter()
            shown.set_input_files("#pv-file", bundle)
            shown.wait_for_selector("[data-claim]", timeout=PATIENCE)
            found["seconds"].append(time.perf_counter() - begun)
            rows = [shown.inner_text(f"[data-claim='{claim}']").split("\t")[-1] for claim in (1, 8, 9)]
            found |= {"figures": rows, "exit": int(shown.locator("[data-outcome=fails]").count() > 0)}
            shown.close()
        browser.close()
    return found


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
