"""The documentation does what it says: every command that a page shows is executed, and prints what is shown.

A block of `console` holds commands with their output; `console background` one that goes on while the page does. Blocks
of `python file=NAME` are files that the page has its reader write. Blocks of `sh` are not executed: see NOT_EXECUTED.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from console_blocks import executed, first_difference, started, steps, wait_for
from near_hosts import audits_that_capture_once, hosts_in_threads

from podlt.errors import ExitCode

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<info>[^\n]*))?\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)

SHOWN = [page for page in PAGES if "```console" in page.read_text() and page.name != "cli.md"]
"""Pages with commands that are executed; those of the reference are in tests/cli/test_help_examples.py."""

NOT_EXECUTED = {
    "start/train.md": "installation",
    "start/lend.md": "installation",
    "start/check.md": "installation",
    "guide/workers.md": "other machines; the same on this one is in start/lend.md",
    "guide/verify.md": "a round that a reader finds in `podlt show`",
}
"""Pages with blocks of `sh` -> why nothing executes them."""

FAILING = {"podlt audit": (0, 1)}
"""Commands that may end with another code than 0: an audit may find an early fake in the model."""


def ids(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(DOCS)) for page in pages]


@contextmanager
def quick_runs() -> Iterator[None]:
    """Workers in threads, and programs that were captured before."""
    with hosts_in_threads(), audits_that_capture_once():
        yield


@pytest.mark.slow
@pytest.mark.parametrize("page", SHOWN, ids=ids(SHOWN))
def test_every_command_of_a_page_prints_what_is_shown(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    blocks = [*BLOCK.finditer(page.read_text())]
    for block in blocks:
        if (info := block["info"] or "").startswith("file="):
            (tmp_path / info.removeprefix("file=")).write_text(block["text"])
    with ExitStack() as stack:
        if not any(block["info"] == "background" for block in blocks):
            stack.enter_context(quick_runs())
        for block in blocks:
            if block["language"] != "console":
                continue
            for step in steps(block["text"]):
                if block["info"] == "background":
                    stack.enter_context(started(step.command, tmp_path))
                    wait_for(tmp_path / "runs/net/invitation.txt")
                    continue
                code, printed = executed(step.command, tmp_path)
                allowed = next((codes for start, codes in FAILING.items() if step.command.startswith(start)), (0,))
                assert code in allowed, f"{step.command}\n{printed}"
                assert first_difference(step.shown, printed) == "", f"{step.command}\n{printed}"


def test_blocks_that_are_not_executed_are_few_and_say_why() -> None:
    found = {str(page.relative_to(DOCS)) for page in PAGES if "```sh" in page.read_text()}
    assert found == NOT_EXECUTED.keys()


def test_doctests_of_the_pages_hold() -> None:
    tried = 0
    for page in PAGES:
        found = doctest.testfile(str(page), module_relative=False)
        assert found.failed == 0, page
        tried += found.attempted
    assert tried > 5


def test_every_page_is_in_a_table_of_contents() -> None:
    listed: set[Path] = {DOCS / "index.md"}
    for page in PAGES:
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if line and not line.startswith(":"):
                    listed |= {*page.parent.glob(f"{line}.md")}
    assert {*PAGES} - {DOCS / "reference" / "cli.md"} <= listed | {DOCS / "reference" / "cli.md"}


def test_every_link_of_a_page_leads_somewhere() -> None:
    for page in [*PAGES, *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", without_code(page.read_text())):
            there = (page.parent / target).exists() or target.endswith("reference/cli.md") or target == "cli.md"
            assert target.startswith("https:") or there, (page, target)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", BLOCK.sub("", text))


def test_the_pictures_are_those_that_the_code_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    for name, draw in import_module("pictures").PICTURES.items():
        assert (DOCS / "images" / name).read_text() == draw(), f"{name}: python docs/pictures.py"


def test_the_reference_of_the_command_line_has_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    reference = import_module("cli_reference")
    names = {" ".join(words) for words, _ in reference.leaves(reference.get_command(reference.build()))}
    assert {*re.findall(r"^### `podlt ([\w -]+)`$", reference.reference(), re.MULTILINE)} == names


def test_each_exit_code_has_a_meaning_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    table = import_module("cli_reference").reference().partition("## Exit codes")[2].partition("##")[0]
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)
    assert len({meaning for _, meaning in rows}) == len(rows) == len(ExitCode)


def test_the_readme_has_one_number_a_cell() -> None:
    table = (ROOT / "README.md").read_text().partition("## Figures")[2]
    cells = [row.split("|")[2].strip() for row in table.splitlines() if row.startswith("| ") and "---" not in row]
    assert len(cells) > 8
    assert all(re.fullmatch(r"[\d.,]+(?: %| s| MB)?", cell) for cell in cells[1:]), cells


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path]
    path = os.pathsep.join([str(ROOT / "src"), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
