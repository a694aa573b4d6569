"""The page as a server gives it, file by file, and as a report, which is one file with its data inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from podlt.dashboard import checker_page

STATIC = Path(__file__).with_name("static")

STYLES = ("vendor/uPlot.min.css", "theme.css", "layout.css", "parts.css")
SCRIPTS = (
    "vendor/uPlot.iife.min.js",
    "dom.js",
    "fold.js",
    "charts.js",
    "strip.js",
    "status.js",
    "happenings.js",
    "evidence.js",
    "curves.js",
    "overview.js",
    "workers.js",
    "claims.js",
    "lender.js",
    "runs.js",
    "app.js",
)
"""In the order in which they are loaded: each knows those before it."""

KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}

CHECKER_SCRIPT, CHECKER_STYLE = "checker.js", "verify/verify.css"
"""What verifies a bundle in the browser: many scripts, which a page loads as one."""

POLICY = (
    "default-src 'none'; {scripts}; {styles}; img-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'"
)
SERVED_POLICY = POLICY.format(scripts="script-src 'self'", styles="style-src 'self'") + "; frame-ancestors 'none'"


def _names() -> tuple[list[str], list[str]]:
    """The styles and scripts, in order."""
    return [*STYLES, CHECKER_STYLE], [*SCRIPTS[:-1], CHECKER_SCRIPT, SCRIPTS[-1]]


@cache
def files() -> Mapping[str, tuple[str, bytes]]:
    """Name -> content type and bytes of each file that the page loads."""
    styles, scripts = _names()
    return {name: (KINDS[Path(name).suffix], _text(name).encode()) for name in (*styles, *scripts)}


def served_page() -> bytes:
    """The page that loads its parts and its data from the server that gave it."""
    styles, scripts = _names()
    head = "".join(f'<link rel="stylesheet" href="static/{name}">' for name in styles)
    tail = "".join(f'<script src="static/{name}"></script>' for name in scripts)
    return _html("podlt", head, tail).encode()


def report_page(name: str, messages: Iterable[Any]) -> str:
    """The page with its data inside: loads nothing from anywhere.

    Args:
        name: what the run is called.
        messages: as a stream gives them.
    """
    styles, scripts = _names()
    style = "\n".join(_text(each) for each in styles)
    script = "\n".join(_text(each) for each in scripts)
    data = msgspec.json.encode({"kind": "run", "messages": list(messages)}).decode().replace("<", "\\u003c")
    policy = POLICY.format(scripts=f"script-src {_digest(script)}", styles=f"style-src {_digest(style)}")
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{style}</style>'
    tail = f'<script type="application/json" id="data">{data}</script><script>{script}</script>'
    return _html(name, head, tail)


def _text(name: str) -> str:
    """A file of ours, as it may stand between tags."""
    paths = checker_page.scripts() if name == CHECKER_SCRIPT else [STATIC / name]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    return text.replace("</script", "<\\/script").replace("</style", "<\\/style")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _html(title: str, head: str, tail: str) -> str:
    body = (STATIC / "body.html").read_text(encoding="utf-8")
    plain = title.replace("&", "&amp;").replace("<", "&lt;")
    icon = "data:image/svg+xml," + _ICON
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'
        f'<title>{plain}</title><link rel="icon" href="{icon}">{head}</head><body>{body}{tail}</body></html>\n'
    )


_ICON = (
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%230072b2' "
    "d='M1 1h6v6H1z'/%3E%3Cpath fill='%23b8c4d2' d='M9 1h6v6H9zM1 9h6v6H1z'/%3E%3Cpath fill='%23d55e00' "
    "d='M9 9h6v6H9z'/%3E%3C/svg%3E"
)
