"""The page that verifies a bundle in the browser, as one file: to be hosted anywhere, mailed, or opened from a disk.

Its Content-Security-Policy allows the page's own script and style, by their digests, and nothing else: whatever is in a
bundle, no request leaves. The dashboard shows the same checker in a tab.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from podlt.store.files import write_whole

FOLDER = Path(__file__).with_name("static") / "verify"
LOADER = "_loader.js"
"""Defines what all other scripts begin with; their own order is of no meaning."""

BODY_STYLE = """
:root { color-scheme: light dark; --ink: #17202b; --paper: #f4f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --paper: #0e1217; } }
body { margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem) 3rem; max-width: 70rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.1rem; margin: .2rem 0; } h2 { font-size: 1.5rem; margin: .2rem 0; }
"""
START = 'podltVerify.mount(document.getElementById("checker"));'
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; worker-src blob:; base-uri 'none'; "
    "form-action 'none'"
)


def scripts() -> list[Path]:
    """The checker's scripts, in an order in which they can be loaded."""
    others = sorted(path for path in FOLDER.glob("*.js") if path.name != LOADER)
    return [FOLDER / LOADER, *others]


def checker_page() -> str:
    """The page, whole."""
    script = "\n".join([*(path.read_text("utf-8") for path in scripts()), START])
    style = BODY_STYLE + (FOLDER / "verify.css").read_text("utf-8")
    assert "</script" not in script and "</style" not in style, "would end the element that it stands in"
    page = (FOLDER / "verify.html").read_text("utf-8")
    policy = POLICY.format(script=_source(script), style=_source(style))
    for name, text in (("%POLICY%", policy), ("%STYLE%", style), ("%SCRIPT%", script)):
        page = page.replace(name, text, 1)
    return page


def write_checker_page(path: Path) -> None:
    """Writes the page, whole or not at all.

    Raises:
        StorageError: it could not be written.
    """
    write_whole(path, checker_page().encode())


def _source(text: str) -> str:
    """How a policy names a script or style that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
