"""docs/WIRE.md names every message, with its fields in the order in which they are encoded."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec
import pytest

from podlt.access.invitation import Invitation
from podlt.data.field import Field
from podlt.protocol.messages import JoinTerms, Task
from podlt.wire import control
from podlt.wire import messages as m

TEXT = (Path(__file__).parents[2] / "docs" / "WIRE.md").read_text()


def tables(header: str) -> list[dict[str, list[str]]]:
    """Each table with this header: what is named in the first column -> the names in the column `fields`."""
    found = []
    for block in re.findall(rf"^{re.escape(header)}.*\n\| ---.*\n((?:\|.*\n)+)", TEXT, re.M):
        rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in block.splitlines()]
        at = [cell.strip() for cell in header.strip("| ").split("|")].index("fields")
        found.append({row[0].strip("` "): re.findall(r"`(\w+)`", without_types(row[at])) for row in rows})
    return found


def without_types(cell: str) -> str:
    """The cell without what stands in brackets."""
    while (shorter := re.sub(r"\([^()]*\)", "", cell)) != cell:
        cell = shorter
    return cell


def fields(*structs: type[msgspec.Struct]) -> dict[str, list[str]]:
    return {str(struct.__struct_config__.tag): list(struct.__struct_encode_fields__) for struct in structs}


@pytest.mark.parametrize(("number", "union"), [(0, m.Up), (1, m.Down)], ids=["up", "down"])
def test_the_text_has_every_message_and_its_fields_in_order(number: int, union: object) -> None:
    assert tables("| kind | fields |")[number] == fields(*typing.get_args(union))


def test_the_text_has_every_record_of_a_connection_and_its_fields_in_order() -> None:
    both = typing.get_args(control.FromServer) + typing.get_args(control.FromClient)
    assert tables("| kind | from | fields |") == [fields(*both)]


def test_the_text_has_the_records_within_messages_and_their_fields_in_order() -> None:
    expected = {"invitation": Invitation, "terms": JoinTerms, "task": Task, "field": Field}
    found: dict[str, list[str]] = {}
    for table in tables("| record | fields |"):
        found |= table
    assert found == {name: list(struct.__struct_encode_fields__) for name, struct in expected.items()}


def test_the_text_names_the_versions() -> None:
    assert f"The version of these messages is {m.VERSION}." in TEXT
    assert f"`version` ({control.VERSION})" in TEXT
