"""How the process of a command ends: with all that is to be done at its end, and without taking modules down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ENDING = """
import atexit, sys, threading, time, types
from pathlib import Path
from podlt import cli
from podlt.cli import app

folder = Path(sys.argv.pop())

class Part:
    def __del__(self):
        (folder / "module").touch()

def command(argv):
    sys.modules["large"] = large = types.ModuleType("large")
    large.part = Part()
    atexit.register((folder / "registered").touch)
    threading.Thread(target=lambda: (time.sleep(0.3), (folder / "thread").touch())).start()
    print("x" * 100_000)
    print("to people", file=sys.stderr)
    return 4

app.run = command
cli.main(*given)
"""


def ended(given: str, folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    code = f"given = {given}\n{ENDING}"
    return subprocess.run([sys.executable, "-c", code, str(folder)], text=True, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


def test_a_command_ends_after_its_threads_and_what_was_registered_but_takes_no_module_down(tmp_path: Path) -> None:
    done = ended("()", tmp_path, stdout=subprocess.PIPE)
    assert done.returncode == 4 and done.stdout == "x" * 100_000 + "\n" and done.stderr == "to people\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["registered", "thread"]


def test_who_calls_it_with_arguments_keeps_the_process(tmp_path: Path) -> None:
    done = ended("([],)", tmp_path, stdout=subprocess.PIPE)
    assert done.returncode == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["module", "registered", "thread"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_did_not_arrive_is_no_success(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = ended("()", tmp_path, stdout=full)
    assert done.returncode not in (0, 4) and "No space left on device" in done.stderr
