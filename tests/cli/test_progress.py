"""What a run shows while it goes on."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from rich.console import Console
from rich.progress import Progress

from podlt.cli.run_output import listener
from podlt.manager import events as ev
from podlt.manager.events import metrics_text
from podlt.progress.terminal import EVERY, Bar, PlainLines, RecentRounds, progress_bar


def round_done(number: int, *, loss: float = 1.0, seconds: float = 0.5) -> ev.RoundDone:
    """A round of 100 examples, of ten."""
    return ev.RoundDone(
        round=number, rounds=10, epoch=0, loss=loss, examples=100, seconds=seconds, workers=9, checked=1
    )


STARTED = ev.Started(
    run="ab", path="runs/x", workers=10, processes=2, parameters=1234, examples=1000, epochs=1, rounds=10, resumed=False
)
CONVICTED = ev.Convicted(worker=3, round=1, outcome="referee", reason="differ", forfeited=42, status="suspended")


def test_plain_lines_come_every_few_seconds_and_news_at_once() -> None:
    now = [0.0]
    lines: list[str] = []
    listen = PlainLines(lines.append, lambda: now[0])
    listen(STARTED)
    listen(round_done(0))
    assert len(lines) == 1 and "1,234 parameters" in lines[0]
    listen(CONVICTED)
    assert "worker 3 suspended" in lines[-1] and "[" not in lines[-1]
    now[0] = EVERY
    listen(round_done(1, loss=3.0))
    listen(round_done(2))
    assert len(lines) == 3
    assert lines[-1] == "2/10 rounds  epoch 1  loss 2.0000  200 examples/s  9 workers  1 convicted  4 s left"


def test_a_long_preparation_is_named_once() -> None:
    lines: list[str] = []
    listen = PlainLines(lines.append, lambda: 0.0)
    for done in range(3):
        listen(ev.Preparing(what="fetching", done=done, total=3))
    assert lines == ["fetching ..."]


def test_the_bar_says_loss_speed_workers_and_convictions() -> None:
    out = io.StringIO()
    with Progress("{task.description} {task.fields[facts]}", console=Console(file=out, width=120)) as bar:
        task = bar.add_task("", total=None, facts="")
        listen = Bar(bar, task)
        for event in (STARTED, round_done(0), CONVICTED, round_done(1)):
            listen(event)
        shown = bar.tasks[0]
        assert (shown.completed, shown.total) == (2, 10)
        assert shown.fields["facts"] == "loss 1.0000  200 examples/s  9 workers  1 convicted"
    assert "worker 3 suspended" in out.getvalue()


def test_a_wait_is_named_each_time_and_its_end_is_no_line_of_its_own() -> None:
    lines: list[str] = []
    listen = PlainLines(lines.append, lambda: 0.0)
    waiting = ev.Waiting(workers=2, wanted=3)
    for event in (waiting, waiting, ev.Gathered(workers=3), waiting):
        listen(event)
    assert lines == ["waiting for workers: 2 of 3 are there ..."] * 2


def test_the_bar_says_that_a_wait_is_over() -> None:
    with Progress("{task.description}", console=Console(file=io.StringIO())) as bar:
        listen = Bar(bar, bar.add_task("", total=None, facts=""))
        for event in (STARTED, round_done(0), ev.Waiting(workers=2, wanted=3), ev.Gathered(workers=3)):
            listen(event)
        assert bar.tasks[0].description == "3 workers there"
        assert (bar.tasks[0].completed, bar.tasks[0].total) == (1, 10)


def test_a_step_of_unknown_length_has_no_time_that_is_left() -> None:
    with Progress("{task.description} {task.fields[left]}", console=Console(file=io.StringIO())) as bar:
        listen = Bar(bar, bar.add_task("", total=None, facts="", left=""))
        listen(ev.Preparing(what="reading", done=3, total=4))
        assert bar.tasks[0].total == 4
        listen(ev.Preparing(what="capturing", done=0, total=0))
        assert bar.tasks[0].total is None and bar.tasks[0].fields["left"] == ""
        listen(round_done(1))
        assert bar.tasks[0].fields["left"] == "0:00:04 left"


@pytest.mark.parametrize("width", [50, 60, 80, 100, 120, 140])
def test_the_round_is_never_what_a_narrow_terminal_leaves_out(width: int) -> None:
    out = io.StringIO()
    with progress_bar(Console(file=out, width=width, force_terminal=True)) as listen:
        listen(STARTED)
        listen(round_done(1))
    assert "epoch 1, 2/10 rounds" in out.getvalue() and "4 left" in out.getvalue()


def test_it_is_said_once_that_nothing_is_compared_any_more() -> None:
    lines: list[str] = []
    listen = PlainLines(lines.append, lambda: 0.0)
    listen(STARTED)
    for number, workers in enumerate((2, 2, 1, 1)):
        listen(msgspec.structs.replace(round_done(number), workers=workers))
    assert [line for line in lines if "nothing is compared" in line] == [
        "round 2: one worker is left: nothing is compared with another's until more are there"
    ]
    listen = PlainLines(alone := [], lambda: 0.0)  # a run of one worker says so before it begins
    listen(msgspec.structs.replace(round_done(0), workers=1))
    assert alone == []


def test_json_is_one_document_a_line_and_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet, as_json in ((False, True), (True, False)):
        with listener(quiet=quiet, as_json=as_json) as listen:
            for event in (STARTED, CONVICTED, round_done(0), ev.Finished(rounds=1, seconds=2.0)):
                listen(event)
        out = capsys.readouterr().out
        if quiet:
            assert out == ""
        else:
            kinds = [json.loads(line)["event"] for line in out.splitlines()]
            assert kinds == ["started", "convicted", "round", "finished"]


def test_the_speed_is_that_of_the_last_rounds() -> None:
    recent = RecentRounds()
    assert recent.speed == 0.0
    for number in range(100):
        recent.add(round_done(number, seconds=9.0 if number < 80 else 0.25))
    assert recent.speed == pytest.approx(400)
    assert recent.left(8) == pytest.approx(2.0)


def test_figures_on_the_test_set_begin_with_the_accuracy() -> None:
    assert metrics_text({"loss": 0.5, "auc": 0.94, "accuracy": 0.971}) == "accuracy 97.10%, auc 0.9400, loss 0.5000"
