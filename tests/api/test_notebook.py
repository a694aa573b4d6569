"""What a notebook and a script show while a run goes on."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from podlt.manager import events as ev
from podlt.progress.choice import notebook_display, shown_progress
from podlt.progress.notebook import EVERY, NotebookPanel
from podlt.progress.terminal import PlainLines
from podlt.run_start import Audience

CONVICTED = ev.Convicted(worker=3, round=1, outcome="referee", reason="differ", forfeited=42, status="suspended")


def round_done(number: int) -> ev.RoundDone:
    """A round of ten."""
    return ev.RoundDone(round=number, rounds=10, epoch=0, loss=0.5, examples=100, seconds=0.5, workers=9, checked=1)


class Cell:
    """A notebook's cell: the outputs that were made in it, and what they show now."""

    def __init__(self) -> None:
        self.outputs: list[str] = []
        self.changes = 0

    def __call__(self, value: Any) -> Cell:
        self.outputs.append(value._repr_html_())
        return self

    def update(self, value: Any) -> None:
        self.outputs[-1] = value._repr_html_()
        self.changes += 1


def test_a_panel_is_one_output_that_changes_now_and_then() -> None:
    cell, now = Cell(), [0.0]
    panel = NotebookPanel(cell, lambda: now[0])
    panel(ev.Preparing(what="reading <x>", done=1, total=2))
    assert "reading &lt;x&gt;" in cell.outputs[0] and "width:50.0%" in cell.outputs[0]
    panel(round_done(0))
    panel(CONVICTED)
    assert cell.changes == 0
    now[0] = EVERY
    panel(round_done(1))
    assert cell.changes == 1 and len(cell.outputs) == 1
    for part in ("epoch 1, round 2/10", "loss 0.5000", "9 workers  1 convicted", "worker 3 suspended", "4 s left"):
        assert part in cell.outputs[0], part
    panel(ev.Finished(rounds=10, seconds=3.0))
    assert "done in 3.0 s" in cell.outputs[0]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """A notebook, by its looks."""
    cell = Cell()
    display = SimpleNamespace(display=lambda value, display_id: cell(value))
    module = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()), display=display)
    monkeypatch.setitem(sys.modules, "IPython", module)
    return cell


def test_a_notebook_gets_a_panel_unless_it_is_told_not_to(kernel: Cell) -> None:
    with shown_progress(None) as shown:
        assert isinstance(shown, NotebookPanel)
        shown(round_done(0))
    assert len(kernel.outputs) == 1
    with shown_progress(False) as shown:
        assert shown is None


def test_a_shell_without_a_kernel_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert notebook_display() is None


def test_a_script_is_silent_unless_it_asks_for_lines() -> None:
    with shown_progress(None) as shown:
        assert shown is None
    with shown_progress(True) as shown:
        assert isinstance(shown, PlainLines)


def test_whoever_listens_gets_no_progress_unless_it_asks(kernel: Cell) -> None:
    heard: list[ev.Event] = []
    with Audience(listener=heard.append).following() as (listen, _):
        listen(CONVICTED)
    assert heard == [CONVICTED] and not kernel.outputs
    with Audience(listener=heard.append, progress=True).following() as (listen, _):
        listen(CONVICTED)
    assert len(heard) == 2 and len(kernel.outputs) == 1


def test_whoever_says_nothing_hears_what_is_printed_without_progress() -> None:
    heard: list[ev.Event] = []
    with Audience(silent=heard.append).following() as (listen, _):
        listen(CONVICTED)
    assert heard == [CONVICTED]
