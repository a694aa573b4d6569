"""Takes the pictures of the pages anew, from real runs: `python docs/screenshots.py [NAME ...]`.

It trains MNIST with three cheaters, digits over the network with one worker process, and plays a thousand workers, in a
temporary folder; needs playwright and Debian's chromium (or PODLT_CHROMIUM). About two minutes; look at what it made.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from podlt.bench import PODLT

IMAGES = Path(__file__).parent / "images"
WIDE, PHONE = (1440, 1000), (390, 844)
ADDRESS = re.compile(r"dashboard: (http\S+)")
LONGEST = 120.0
LEARNING_RATES = (0.001, 0.003, 0.01)


@contextmanager
def started(folder: Path, *arguments: str, said: re.Pattern[str] = ADDRESS) -> Iterator[str]:
    """A command that goes on meanwhile, and what it says first that fits: the address of its page."""
    output = folder / f"{arguments[0]}.txt"
    with output.open("w") as file:
        process = subprocess.Popen([*PODLT, *arguments], cwd=folder, stdout=file, stderr=file)
    try:
        until = time.monotonic() + LONGEST
        while (found := said.search(output.read_text())) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"podlt {' '.join(arguments)}: {output.read_text()}")
            time.sleep(0.1)
        yield found.group(1)
    finally:
        process.terminate()
        process.wait()


def opened(browser: Browser, url: str, size: tuple[int, int], *, dark: bool = False, scale: float = 1.0) -> Page:
    """A page of a size in CSS pixels, once it shows figures."""
    shape = ViewportSize(width=size[0], height=size[1])
    context = browser.new_context(viewport=shape, color_scheme="dark" if dark else "light", device_scale_factor=scale)
    page = context.new_page()
    page.goto(url)
    page.locator("#main .card").first.wait_for()
    return page


def training(browser: Browser, folder: Path) -> None:
    """The page while it trains; then, of the run that is over, a conviction's evidence and the page on a phone."""
    run = folder / "runs" / "mnist"
    with started(folder, "train", "mnist-mlp", "--cheat", "3:sign-flip", "--run", str(run), "--dashboard") as url:
        page = opened(browser, url, WIDE)
        page.get_by_role("button", name="convicted").first.wait_for(timeout=LONGEST * 1000)
        time.sleep(3)
        page.screenshot(path=IMAGES / "report.png")
        page.get_by_text("complete", exact=True).first.wait_for(timeout=LONGEST * 1000)
    with started(folder, "dashboard", "runs/mnist") as url:
        page = opened(browser, url, WIDE, dark=True)
        page.get_by_role("button", name="convicted").first.click()
        page.get_by_role("dialog").screenshot(path=IMAGES / "evidence.png")
        opened(browser, url, PHONE, scale=2).screenshot(path=IMAGES / "phone.png")


def many(browser: Browser, folder: Path) -> None:
    """The strip of a thousand workers, and runs side by side."""
    play = ["simulate", "--workers", "1000", "--rounds", "150", "--cheat", "5:always", "--keep", "thousand"]
    runs = [["train", "digits", "--run", f"runs/digits-{lr}", "--set", f"optimizer.lr={lr}"] for lr in LEARNING_RATES]
    for arguments in (play, *runs):
        subprocess.run([*PODLT, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with started(folder, "dashboard", "thousand") as url:
        page = opened(browser, url, WIDE)
        page.get_by_text("150 rounds").first.wait_for(timeout=LONGEST * 1000)
        page.locator("section.card", has=page.locator(".strip canvas")).first.screenshot(
            path=IMAGES / "thousand-workers.png"
        )
    with started(folder, "dashboard", "runs") as url:
        page = browser.new_context(viewport={"width": 1440, "height": 640}).new_page()
        page.goto(url)
        page.locator("tbody tr").nth(len(LEARNING_RATES) - 1).wait_for()
        page.locator(".u-legend, canvas").first.wait_for()
        page.screenshot(path=IMAGES / "runs.png")


def lending(browser: Browser, folder: Path) -> None:
    """What a lender sees."""
    asked = ["manager", "digits", "--run", "lent", "--port", "0", "--set", "training.workers=3"]
    asked += ["--set", "training.epochs=400"]
    with started(folder, *asked, said=re.compile(r"(invitation\.txt)")):
        invitation = folder / "lent" / "invitation.txt"
        worker = ["worker", str(invitation), "--identities", "3", "--folder", "mine", "--dashboard"]
        with started(folder, *worker) as url:
            page = opened(browser, url, (1280, 860), dark=True)
            page.get_by_text("did its first task").first.wait_for(timeout=LONGEST * 1000)
            time.sleep(10)
            page.screenshot(path=IMAGES / "worker.png")


def main(wanted: list[str]) -> None:
    """Takes those that are named: training, many, lending; all by default."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(prefix="podlt-pictures-") as name:
        path = os.environ.get("PODLT_CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for take in (training, many, lending):
            if not wanted or take.__name__ in wanted:
                take(browser, Path(name))


if __name__ == "__main__":
    main(sys.argv[1:])
