"""docs/ARCHITECTURE.md is the tree, and docs/GLOSSARY.md names what the code calls things."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "podlt"
DOCUMENT = ROOT / "docs" / "ARCHITECTURE.md"
COLUMN = 24


def tree(folder: Path = PACKAGE, depth: int = 0) -> Iterator[str]:
    """A package as lines: what it says of itself, its modules, its packages."""
    name = "  " * depth + folder.name + "/"
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    yield f"{name:<{COLUMN}}# {said.splitlines()[0]}"
    modules = " ".join(sorted(path.stem for path in folder.glob("*.py") if path.name != "__init__.py"))
    yield from textwrap.wrap(modules, 110, initial_indent=" " * COLUMN, subsequent_indent=" " * COLUMN)
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield from tree(inner, depth + 1)


DEFINED = re.compile(r"\b(?:class|def) (\w+)|\b(\w+)(?:: | = )")
"""Classes and functions; fields, arguments and variables. A parser would find the same in ten times the time."""


def defined_names() -> set[str]:
    """The identifiers that the code defines."""
    return {name for path in PACKAGE.rglob("*.py") for pair in DEFINED.findall(path.read_text()) for name in pair}


def test_the_tree_in_the_document_is_the_tree_on_the_disk(golden: Callable[[Path, str], None]) -> None:
    before, rest = DOCUMENT.read_text().split("```text\n", 1)
    after = rest.split("\n```\n", 1)[1]
    golden(DOCUMENT, "\n".join([f"{before}```text", *tree(), f"```\n{after}"]))


def test_every_word_of_the_glossary_has_an_identifier_that_the_code_defines() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", (ROOT / "docs" / "GLOSSARY.md").read_text(), re.MULTILINE)
    words = [word for word, _ in rows[1:] if word != "---"]
    assert len(words) > 60 and len(set(words)) == len(words)
    named = {name for word, identifiers in rows[1:] if word != "---" for name in re.findall(r"`(\w+)`", identifiers)}
    assert all("`" in identifiers for word, identifiers in rows[1:] if word != "---")
    assert named <= defined_names(), named - defined_names()


def test_the_license_is_named_in_the_package_and_lies_beside_it() -> None:
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
    assert "Apache License" in (ROOT / "LICENSE").read_text()
