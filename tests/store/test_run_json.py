"""run.json: sections that do not know of each other, and the only list of a run's file names."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from podlt.errors import StorageError
from podlt.store import run_names
from podlt.store.run_json import read_section, write_section

SOURCE = Path(__file__).parents[2] / "src" / "podlt"


class Facts(msgspec.Struct):
    port: int = 0


def test_a_section_is_written_and_the_others_stay(tmp_path: Path) -> None:
    assert read_section(tmp_path, "network", Facts) is None
    write_section(tmp_path, "network", Facts(4))
    write_section(tmp_path, "address", Facts(5))
    write_section(tmp_path, "network", Facts(6))
    assert read_section(tmp_path, "network", Facts) == Facts(6) and read_section(tmp_path, "best", Facts) is None
    write_section(tmp_path, "network", None)
    assert read_section(tmp_path, "network", Facts) is None and read_section(tmp_path, "address", Facts) == Facts(5)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"network":1}', '{"network":{"port":"x"}}'])
def test_a_file_that_was_changed_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / run_names.RUN).write_text(text)
    with pytest.raises(StorageError, match=r"run\.json: .*malformed"):
        read_section(tmp_path, "network", Facts)


def test_no_other_module_spells_the_name_of_a_runs_file() -> None:
    texts = {value for name, value in vars(run_names).items() if name.isupper() and isinstance(value, str)}
    own = {text for text in texts if "." in text}
    found = {
        f"{path.relative_to(SOURCE)}: {name}"
        for path in SOURCE.rglob("*.py")
        if path.name not in ("run_names.py", "recipe.py") and path.parts[-2] not in ("bench", "transformers")
        for name in own
        if re.search(rf"[\"']{re.escape(name)}[\"'](?!:)", path.read_text(encoding="utf-8"))
    }
    assert not found
