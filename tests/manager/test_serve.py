"""`podlt.serve` from a script: workers in processes of their own join by its invitation."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from near_hosts import hosts_in_threads
from small_runs import CLASSIC, seeded, tiny_recipe

import podlt
from podlt.manager import events as ev
from podlt.manager.serving import NetworkOptions

PODLT = (sys.executable, "-c", "from podlt.cli import main; main()")


class Worker:
    """A listener that starts a `podlt worker` of three identities as soon as it may join; the same again at a resume.

    Args:
        folder: of its keys and receipts.
        stop_after: stops the run after so many rounds, as Ctrl-C does; None for never.
    """

    def __init__(self, folder: Path, stop_after: int | None = None) -> None:
        self._folder, self.stop_after = folder, stop_after
        self.process: subprocess.Popen[bytes] | None = None
        self.events: list[ev.Event] = []

    def __call__(self, event: ev.Event) -> None:
        self.events.append(event)
        if isinstance(event, ev.Invited) and self.process is None:
            options = ("--identities", "3", "--folder", str(self._folder), "--quiet")
            self.process = subprocess.Popen([*PODLT, "worker", event.invitation, *options])
        if isinstance(event, ev.RoundDone) and event.round == self.stop_after:
            raise KeyboardInterrupt

    def end(self) -> int:
        assert self.process is not None
        return self.process.wait(60)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path / "worker")
    yield worker
    if worker.process is not None and worker.process.poll() is None:
        worker.process.kill()
        worker.process.wait()


@pytest.mark.slow
def test_a_served_run_has_the_bits_of_one_on_this_machine_and_is_resumed_with_its_workers(
    tmp_path: Path, worker: Worker
) -> None:
    here = podlt.train(tiny_recipe(), run=tmp_path / "here", processes=1, entropy=seeded(1))
    worker.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        podlt.serve(
            tiny_recipe(),
            run=tmp_path / "there",
            name="127.0.0.1",
            listen="127.0.0.1",
            listener=worker,
            entropy=seeded(1),
        )
    worker.stop_after = None
    there = podlt.resume(tmp_path / "there", listener=worker)
    assert worker.end() == 0
    assert there.parameters == here.parameters and there.metrics == here.metrics and not there.evicted
    first, again = (event for event in worker.events if isinstance(event, ev.Invited))
    assert first == again and first.path == str(tmp_path / "there")
    assert first.invitation == (tmp_path / "there" / "invitation.txt").read_text().strip()
    assert podlt.verify(there.run).ok


def test_who_listens_to_nothing_is_printed_the_command_by_which_workers_join(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from podlt.api import print_invitation

    print_invitation(ev.Preparing(what="fetching"))
    print_invitation(ev.Invited(invitation="podlt1-abc", server="https://x:1", path="runs/x", file="invitation.txt"))
    assert capsys.readouterr().out == "podlt worker podlt1-abc\n"


def test_a_run_of_own_machines_takes_no_address(tmp_path: Path) -> None:
    with hosts_in_threads():
        result = podlt.train(tiny_recipe(), run=tmp_path / "run")
    with pytest.raises(podlt.UsageError, match="resume it with podlt train --resume"):
        podlt.resume(result.run, network=NetworkOptions(port=4222))


@pytest.mark.parametrize("option", ["port"])
def test_a_port_that_is_taken_is_refused_before_anything_is_made(option: str, tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(podlt.UsageError, match=f"--{option.replace('_', '-')} {port}: another program"):
            podlt.serve(tiny_recipe(), run=tmp_path / "run", **{option: port})  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pay_to": "anna"}, "--pay-to is for --open"),
        ({"workers": 2}, "training.workers: expected at least 3"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_made(
    options: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(podlt.UsageError, match=said):
        podlt.serve(tiny_recipe(protocol=CLASSIC), run=tmp_path / "run", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
