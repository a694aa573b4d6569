"""The page of operations is what the tables say."""

from __future__ import annotations

from podlt.exact.operations.row import Family
from podlt.program import operation_page
from podlt.program.operation_page import FAMILIES, PAGE, page
from podlt.program.operations import STOCK


def test_the_page_is_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"write it anew: python -m {operation_page.__name__}"


def test_every_operation_is_on_the_page() -> None:
    assert set(FAMILIES) == set(Family)
    text = page()
    assert [name for name in STOCK if f"`{name.partition('.')[0]}`" not in text] == []
