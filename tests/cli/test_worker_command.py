"""`podlt worker` as its user sees it: what it says while it works, to people and to programs, and why it may not."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_calls import Podlt

from podlt.cli.worker_limits import Hours, WorkingTime, moment_of, size_of
from podlt.cli.worker_output import Watch, plain
from podlt.errors import UsageError
from podlt.worker import events as told
from podlt.worker.books import Earned
from podlt.worker.folder import lock, note_waiting, read_status


def test_every_event_is_one_line_for_people_and_for_programs() -> None:
    import msgspec

    key = "ab" * 32
    events = [
        told.KeyMade(file="/home/me/.podlt/worker.key", public_key=key),
        told.Connecting(servers=["tls://a:1", "wss://a:2"], manager="cd" * 32, public_keys=[key, key]),
        told.LinkUp(again=False),
        told.LinkDown(reason=""),
        told.Learned(run="ef" * 32, state=3 * 2**30, batch_size=512, arithmetic="exact/3"),
        told.RunTerms(
            run="ef" * 32,
            manager=key,
            preset="guarded",
            reward=3,
            examples=9,
            epochs=2,
            rounds=4,
            escrow=50,
            first_fault="suspend",
            entries=7,
        ),
        told.Signed(worker=7, public_key=key, deposit=40, entries=7),
        told.WorkerJoined(worker=7, public_key=key),
        told.Progress(doing="waiting for a task", connected=True, tasks=3, vested=10, pending=2, forfeited=0),
        told.LetGo(public_key=key, seconds=20, reason="was silent"),
        told.Refused(public_key=key, reason="revoked: its owner asked for it"),
        told.Failed(round=3, reason="no memory"),
        told.Stopped(reason=""),
        told.Leaving(reason="its time is over", seconds=60.0, pending=2, rounds=50),
        told.Ended(how="complete", reason="", seconds=3725.0, tasks=3, vested=12, pending=0, forfeited=1),
    ]
    for event in events:
        assert "\n" not in str(event) and json.loads(msgspec.json.encode(event))["event"] == event.name
    assert "10 credits vested, 2 pending" in str(events[8])
    assert str(events[-1]) == "the run is complete; 3 tasks done in 1 h 2 min, 12 credits vested, 1 forfeited"


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("[Errno 111] Connect call failed ('10.0.0.1', 4222)", "cannot be reached (is the manager running"),
        ("Cannot connect to host 10.0.0.1:443 ssl:<ssl.SSLContext object> [Connect call failed]", "cannot be reached"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate", "another certificate"),
        ("something new", "something new"),
    ],
)
def test_why_there_is_no_connection_is_said_in_words_for_people(why: str, said: str) -> None:
    assert said in plain(why)


@pytest.mark.parametrize(
    ("text", "expected"), [("512M", 2**29), ("8G", 2**33), ("1.5GiB", 3 * 2**29), ("700000000", 700_000_000)]
)
def test_sizes_are_read_as_people_write_them(text: str, expected: int) -> None:
    assert size_of("--memory", text) == expected


def test_hours_may_go_past_midnight() -> None:
    night, day, always = Hours.parse("22-06"), Hours.parse("8:30-17"), Hours.parse("")
    at = [datetime(2026, 1, 31, hour, 30) for hour in (5, 6, 8, 16, 17, 22)]
    assert [night.has(now) for now in at] == [True, False, False, False, False, True]
    assert [day.has(now) for now in at] == [False, False, True, True, False, False]
    assert all(map(always.has, at))
    for wrong in ("22", "25-3", "8-8", "night"):
        with pytest.raises(UsageError, match="--hours"):
            Hours.parse(wrong)


def test_who_waits_says_for_what_and_its_status_says_so_too(tmp_path: Path) -> None:
    start = (datetime.now().hour + 2) % 24
    leaving, said = WorkingTime(None, Hours.parse(f"{start}-{(start + 1) % 24}")), list[str]()
    rounds = iter(["pause", "stop"])

    def note(doing: str) -> None:
        note_waiting(tmp_path, doing, "cpu")
        status, running = read_status(tmp_path)
        assert running and status.doing == doing
        leaving.press(next(rounds))

    leaving.wait(lambda event: said.append(str(event)), note)
    assert f"waiting until {start:02}:00" in said[0] and said[1:] == ["paused by its owner ..."]
    held = lock(tmp_path)  # another worker's
    note_waiting(tmp_path, "something else", "cpu")
    os.close(held)
    assert read_status(tmp_path)[0].doing == "paused by its owner"


def test_a_page_has_the_last_figures_of_a_worker_that_left() -> None:
    books = SimpleNamespace(totals=lambda: (3, 40, 0), status=SimpleNamespace(workers={"k": Earned(tasks=7)}))
    session, link = SimpleNamespace(books=books, doing="ended: left"), SimpleNamespace(connected=False)
    shown = Page()
    found = Watch(session, link, lambda event: None, 0.0, shown).ended("left", "paused by its owner")  # type: ignore[arg-type]
    assert found.vested == 40 and [event.vested for event in shown.events] == [40]
    assert shown.said[0]["workers"]["k"]["tasks"] == 7


class Page:
    """What a worker's page hears."""

    def __init__(self) -> None:
        self.events, self.said = list[Any](), list[dict[str, Any]]()

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    def say(self, event: dict[str, Any]) -> None:
        self.said.append(event)


def test_a_time_to_leave_is_a_clock_a_date_or_a_span() -> None:
    now = datetime(2026, 1, 31, 18, 0)
    assert moment_of("18:30", now) == datetime(2026, 1, 31, 18, 30).timestamp()
    assert moment_of("17:30", now) == datetime(2026, 2, 1, 17, 30).timestamp()
    assert moment_of("2h", now) == datetime(2026, 1, 31, 20, 0).timestamp()
    with pytest.raises(UsageError, match="--until"):
        moment_of("tomorrow", now)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("no-such-file",),
            "no-such-file: no such file is here; expected an invitation: its code (HOST:PORT/...)",
        ),
        (("odlt1-" + "A" * 600,), "expected an invitation: its code"),
        (("podlt1-abc",), "damaged, or not copied completely"),
        (("example.org:4222/abc",), "invitation code of 3 characters after example.org:4222/"),
        (("podlt1-abc", "--memory", "lots"), "expected a size such as 512M or 8G"),
    ],
)
def test_what_is_no_invitation_is_said_at_once(
    podlt: Podlt, arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = podlt("worker", *arguments, "--folder", tmp_path)
    assert done.code == 2 and said in done.err and "Traceback" not in done.err


@pytest.mark.slow
def test_a_worker_tells_people_and_programs_what_it_does_and_who_is_not_let_in_hears_why(tmp_path: Path) -> None:
    from stage import Stage, write_recipe

    from podlt.access import invitation as inv
    from podlt.access.registry import Registry
    from podlt.manager.directory import RunDirectory

    recipe = write_recipe(tmp_path / "recipe.toml", epochs=90, workers=4)
    with Stage(tmp_path, recipe, silence_timeout=30) as stage:
        stage.start_manager()
        log = tmp_path / "b.log"
        stage.start_worker("a", "--identities", 2, "--memory", "1G", "--until", "2h")
        stage.start_worker("b", "--identities", 2, "--json", "--log-file", log)
        stage.until_round(1)
        register, key = Registry(stage.run), RunDirectory.existing(stage.run).manager_key()
        used = inv.write(register.invite(key, uses=1, now=time.time_ns() // 10**6))
        assert register.admit(b"k" * 32, inv.read(used).name, time.time_ns() // 10**6)
        (stage.run / "invitation.txt").write_text(used)
        stage.start_worker("late", "--quiet")
        assert stage.workers.pop("late").end(60) == 3
        state = stage.end()
        text, lines = stage.workers["a"].text, stage.workers["b"].text.splitlines()
    assert state.closed is not None
    for part in (
        "made a new key",
        "connecting to https://",
        "terms of run " + state.run.hex()[:16],
        "signed to join",
        "joined as",
    ):
        assert part in text, part
    assert "credits vested" in text and "leaves at" in text and "the run is complete" in text
    events = [json.loads(line) for line in lines]
    names = [event["event"] for event in events]
    assert names[0] == "key_made" and names[-1] == "ended" and names.count("joined") == 2
    assert {"invited", "connected", "learned", "progress"} <= set(names)
    assert names.index("terms") < names.index("signed") < names.index("joined")
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one["event"] for one in logged if one["event"] != "waiting"] == names
    earned = sum(state.ledger.accounts[event["worker"]].vested for event in events if event["event"] == "joined")
    assert events[-1]["vested"] + events[-1]["pending"] == earned > 0
    late = (tmp_path / "late.txt").read_text()
    assert "error: this run does not let you work" in late and "used already" in late and "hint" not in late


@pytest.mark.slow
def test_a_worker_that_wants_more_than_the_run_pays_sees_the_terms_and_signs_nothing(tmp_path: Path) -> None:
    from stage import Stage, write_recipe

    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml")) as stage:
        stage.start_manager()
        stage.start_worker("a", "--least-reward", 2)
        stage.start_worker("b", "--least-reward", 2, "--json")
        assert stage.workers["a"].end(90) == 2 and stage.workers["b"].end(90) == 2
        text, lines = stage.workers["a"].text, stage.workers["b"].text.splitlines()
    for part in ("1 credit an example", "a log that anybody may read", "did not join: it pays 1 credit an example"):
        assert part in text, part
    assert "signed to join" not in text and "nothing was signed" in text and "Traceback" not in text
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert events[-1]["event"] == "ended" and events[-1]["how"] == "declined"
    assert not {"signed", "joined"} & {event["event"] for event in events}


@pytest.mark.slow
def test_a_program_that_does_not_fit_into_the_memory_given_is_refused_with_what_is_left(tmp_path: Path) -> None:
    from stage import Stage, write_recipe

    recipe = write_recipe(tmp_path / "recipe.toml", workers=4, hidden=600_000)
    with Stage(tmp_path, recipe, silence_timeout=30) as stage:
        stage.start_manager()
        stage.start_worker("a", "--memory", "600M")
        assert stage.workers["a"].end(90) == 3
        assert "needs more memory than the" in stage.workers["a"].text and "of --memory" in stage.workers["a"].text


@pytest.mark.slow
def test_a_manager_that_is_stopped_before_anybody_came_says_how_to_go_on_and_invites_to_the_same_place(
    tmp_path: Path,
) -> None:
    from stage import Stage, write_recipe

    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml")) as stage:
        stage.start_manager()
        stage.until(lambda: len(stage.events("invited")) == 1)
        stage.manager.send(signal.SIGINT)
        assert stage.manager.end() == 130
        assert f"resume with: podlt manager --resume {stage.run}" in stage.manager.text
        stage.start_manager()
        stage.until(lambda: len(stage.events("invited")) == 2)
        first, again = stage.events("invited")
        assert first == again


def test_an_owners_buttons_pause_resume_and_stop_a_worker() -> None:
    leaving = WorkingTime(None, Hours.parse(""))
    assert leaving() == "" and not leaving.stopping
    leaving.press("pause")
    assert leaving() == "paused by its owner" and leaving.comes_back and not leaving.stopping
    leaving.press("resume")
    assert leaving() == ""
    leaving.press("pause")
    leaving.press("stop")
    assert leaving() == "stopped by its owner" and leaving.stopping and not leaving.comes_back
