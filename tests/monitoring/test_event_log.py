"""The log that programs read: one event a line, and no secret in any."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.errors import StorageError, UsageError
from podlt.manager import events as ev
from podlt.monitoring.logs import EVERY, HIDDEN, EventLog, event_log, hidden
from podlt.monitoring.setup import Monitoring, monitored

RUN = "ab" * 32
STARTED = ev.Started(
    run=RUN, path="runs/x", workers=10, processes=2, parameters=1234, examples=1000, epochs=1, rounds=10, resumed=False
)
INVITATION = "podlt1-AbC_d-9eF0"
KEY = "podlt-key-1-mfrg-gzdf-mztw"


def done(number: int, loss: float = 1.0) -> ev.RoundDone:
    return ev.RoundDone(round=number, rounds=10, epoch=0, loss=loss, examples=100, seconds=0.5, workers=9, checked=1)


def lines(path: Path, write: Callable[[EventLog], object], format: str = "json") -> list[str]:
    with event_log(format, path) as log:
        write(log)
    return path.read_text().splitlines()


def documents(path: Path, write: Callable[[EventLog], object]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(path, write)]


def test_an_event_is_a_line_with_its_run_round_and_worker(tmp_path: Path) -> None:
    def write(log: EventLog) -> None:
        log(ev.Preparing(what="fetching"))
        log(STARTED)
        log(ev.Convicted(worker=3, round=1, outcome="referee", reason="differ", forfeited=42, status="suspended"))

    first, started, convicted = documents(tmp_path / "log", write)
    assert "run" not in first and (first["event"], first["level"]) == ("preparing", "info")
    assert (started["event"], started["run"], started["workers"]) == ("started", RUN, 10)
    assert list(convicted)[:6] == ["time", "level", "event", "run", "round", "worker"]
    assert (convicted["level"], convicted["round"], convicted["worker"], convicted["run"]) == ("warning", 1, 3, RUN)
    assert convicted["time"].endswith("Z")


def test_what_is_said_again_is_written_when_it_changes_and_rounds_once_a_second() -> None:
    now, said = [0.0], []
    log = EventLog(lambda level, name, fields: said.append((name, dict(fields))), lambda: now[0])
    for workers in (1, 1, 2, 2, 2):
        log(ev.Waiting(workers=workers, wanted=3))
    for count in range(5):
        log(ev.Preparing(what="fetching", done=count))
    assert [name for name, _ in said] == ["waiting", "waiting", "preparing"]
    said.clear()
    for event in (ev.Waiting(workers=2, wanted=3), ev.Gathered(workers=3), ev.Waiting(workers=2, wanted=3)):
        log(event)
    assert [name for name, _ in said] == ["waiting", "gathered", "waiting"]
    said.clear()
    for number in range(5):
        log(done(number))
    now[0] += EVERY
    log(done(5))
    log(done(9))  # the last one, at once
    assert [(f["round"], f["rounds_unsaid"]) for _, f in said] == [(0, 0), (5, 4), (9, 0)]


def test_who_is_connected_is_written_when_it_changes_and_each_rounds_parameters_never() -> None:
    said: list[int] = []
    log = EventLog(lambda level, name, fields: said.append(fields["workers"]))
    for workers, received in ((1, 10), (1, 20), (2, 30), (2, 40), (0, 50)):
        log(ev.Connected(workers=workers, received=received, sent=received))
        log(ev.Published(size=100, way="message"))
    assert said == [1, 2, 0]


def test_no_field_and_no_text_shows_a_secret(tmp_path: Path) -> None:
    def write(log: EventLog) -> None:
        log(ev.Invited(invitation=INVITATION, server="https://example.org:4222", path="runs/x", file="invitation.txt"))
        log(ev.Withdrawn(worker=1, round=2, reason=f"it said {INVITATION}, {KEY}"))
        log.say("connecting", password="correct horse", url="postgresql://anna:s3cret@db/x", options={"token": "t0ken"})
        log.failed(StorageError("postgresql://anna:s3/cr@t@db/x: password=hunter2 is wrong"))
        logging.getLogger("obstore").warning("cannot connect to %s", "https://me:s3cret@example.org:4222")
        logging.getLogger("obstore").warning("nor to s3://t0ken@example.org")
        try:
            raise RuntimeError(f"bad key {KEY}")
        except RuntimeError as error:
            log.failed(error)

    for format in ("json", "text"):
        text = "\n".join(lines(tmp_path / format, write, format))
        for secret in (INVITATION, KEY, "gzdf", "correct horse", "s3cret", "s3/cr", "t@db", "t0ken", "hunter2"):
            assert secret not in text, secret
        assert HIDDEN in text and "Traceback" in text and "https://example.org:4222" in text


def test_text_of_strangers_neither_ends_a_line_nor_steers_a_terminal(tmp_path: Path) -> None:
    evil = 'x\n{"event": "finished"}\r\x1b[2J\u202e\x00" y=1'
    for format in ("json", "text"):
        written = lines(tmp_path / format, lambda log: log(ev.Withdrawn(worker=1, round=2, reason=evil)), format)
        assert len(written) == 1
        assert not set("\r\x1b\u202e\x00") & set(written[0]), format
    assert json.loads((tmp_path / "json").read_text())["event"] == "withdrawn"
    assert 'y=1"' in (tmp_path / "text").read_text()


@given(st.text(max_size=200))
def test_any_reason_is_one_line_of_json(tmp_path_factory: pytest.TempPathFactory, reason: str) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    (document,) = documents(path, lambda log: log(ev.Withdrawn(worker=1, round=2, reason=reason)))
    assert document["worker"] == 1
    if reason.isprintable() and "=" not in reason and "://" not in reason:
        assert document["reason"] == reason


@given(st.from_regex(r"[a-z]{1,8}://[a-z]{0,5}:[^\s]{1,20}@[a-z.]{1,10}", fullmatch=True))
def test_a_password_in_a_url_is_never_shown(url: str) -> None:
    secret = url.split("://", 1)[1].split(":", 1)[1].rsplit("@", 1)[0]
    assert f":{secret}@" not in hidden(f"cannot reach {url} now")


def test_what_json_has_no_number_for_is_a_text(tmp_path: Path) -> None:
    def write(log: EventLog) -> None:
        log(ev.Measured(epoch=0, metrics={"auc": float("nan"), "loss": float("inf"), "accuracy": 0.5}))

    (text,) = lines(tmp_path / "log", write)
    found = json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
    assert found["metrics"] == {"auc": "nan", "loss": "inf", "accuracy": 0.5}


def test_a_key_in_the_log_is_the_public_one_and_says_so(tmp_path: Path) -> None:
    (found,) = documents(tmp_path / "log", lambda log: log(ev.Joined(worker=4, key="cd" * 32, again=False, workers=5)))
    assert found["public_key"] == "cd" * 32 and "key" not in found


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with event_log("json", path) as log:
        log(STARTED)
        path.rename(tmp_path / "log.1")
        log(done(0))
    assert json.loads((tmp_path / "log.1").read_text())["event"] == "started"
    assert json.loads(path.read_text())["event"] == "round"


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = list(logging.getLogger().handlers)
    lines(tmp_path / "log", lambda log: log(STARTED))
    assert logging.getLogger().handlers == before


def test_wrong_options_are_refused_before_anything_begins(tmp_path: Path) -> None:
    wrong = {
        "expected one of json, text": Monitoring(log_format="xml"),
        "cannot be written": Monitoring(log_file=tmp_path / "no" / "log"),
        "expected \\[HOST:\\]PORT": Monitoring(metrics="nowhere"),
    }
    for message, asked in wrong.items():
        with pytest.raises(UsageError, match=message), monitored(asked):
            pytest.fail("it began")


@pytest.mark.parametrize(
    ("module", "asked"),
    [("structlog", Monitoring(log_format="json")), ("prometheus_client", Monitoring(metrics="0"))],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    module: str, asked: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlt.monitoring.setup.find_spec", lambda name: None if name == module else object())
    with pytest.raises(UsageError, match=rf"{module}.*pip install '\.\[operations\]'"), monitored(asked):
        pytest.fail("it began")


def test_how_a_run_ended_is_written_and_raised(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with pytest.raises(StorageError), monitored(Monitoring(log_file=path)) as (listen, _):
        listen(STARTED)
        raise StorageError("disk is full")
    with pytest.raises(KeyboardInterrupt), monitored(Monitoring(log_file=path)):
        raise KeyboardInterrupt
    _, failed, interrupted = [json.loads(line) for line in path.read_text().splitlines()]
    assert (failed["event"], failed["level"], failed["exit_code"]) == ("failed", "error", 3)
    assert (failed["message"], failed["run"]) == ("disk is full", RUN)
    assert interrupted["error"] == "interrupted"
