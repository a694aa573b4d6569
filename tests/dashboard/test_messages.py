"""What the page gets of a run: the same that the log's history says, shortly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from growing import CHEATERS, advance, growing_run
from hypothesis import given
from hypothesis import strategies as st

from podlt.dashboard import recorder
from podlt.dashboard.recorder import DIGITS, Message, packed
from podlt.dashboard.source import FiguresFile, RunSource, read_messages
from podlt.dashboard.stream import MessageStream
from podlt.dashboard.watching import TrainingWatch
from podlt.report.history import read_history
from podlt.store.run_files import open_run_files


def unpacked(found: Message) -> dict[int, int]:
    digits = {worker: DIGITS.index(digit) for worker, digit in enumerate(found["s"])}
    amounts = {worker: found["p"][digit - 1] for worker, digit in digits.items() if digit}
    return amounts | found.get("x", {})


@given(st.dictionaries(st.integers(0, 300), st.integers(0, 10**12)))
def test_packed_amounts_are_those_that_went_in(amounts: dict[int, int]) -> None:
    assert unpacked(packed(amounts)) == {worker: amount for worker, amount in amounts.items() if amount}


def test_the_messages_come_to_what_the_history_says(finished: Path) -> None:
    messages, history = read_messages(finished), read_history(finished)
    rounds = [message for message in messages if message["t"] == "round"]
    assert [one["loss"] for one in rounds] == [row.loss for row in history.rounds]
    assert [one["agree"] for one in rounds] == [len(row.agreed) for row in history.rounds]
    assert [[who for who, _ in one.get("out", [])] for one in rounds] == [row.convicted for row in history.rounds]
    accounts: Counter[tuple[str, int]] = Counter()
    for message in messages:
        for kind in ("earn", "vest", "forfeit"):
            for worker, amount in unpacked(message[kind]).items() if kind in message else ():
                accounts[kind, worker] += amount
    for worker, account in history.state.ledger.accounts.items():
        earned, vested, lost = (accounts[kind, worker] for kind in ("earn", "vest", "forfeit"))
        assert (account.vested, account.forfeited, account.pending) == (vested, lost, earned - vested - lost)
    assert rounds[-1]["tr"] == history.state.ledger.treasury or messages[-1]["t"] == "close"


def test_a_cell_says_what_its_worker_was(finished: Path) -> None:
    rounds = [message for message in read_messages(finished) if message["t"] == "round"]
    for one in rounds:
        convicted = [who for who, _ in one.get("out", [])]
        assert [who for who, cell in enumerate(one["cells"]) if cell == recorder.CONVICTED] == convicted
        assert sum(cell in "ucokx" for cell in one["cells"]) == one["tasks"] == one["w"]
    assert {who for one in rounds for who, _ in one.get("out", [])} == set(CHEATERS)


def test_evidence_names_the_result_that_differs(finished: Path) -> None:
    disputes = [found for message in read_messages(finished) for found in message.get("dis", [])]
    assert disputes
    for one in disputes:
        assert all(answer[4] != one["acc"] for answer in one["ans"] if answer[0] in one["con"])


def test_a_run_that_grows_is_taken_once_entry_by_entry(tmp_path: Path) -> None:
    run, stream = tmp_path / "run", MessageStream()
    source = RunSource(run, stream)
    with growing_run(run) as world, open_run_files(run) as files:
        log = files.log()
        for _ in range(3):
            advance(world, run, 4)
            source.take(log, files)
            source.take(log, files)
        log.close()
    whole = [message for message in read_messages(run) if message["t"] not in ("header", "disk", "caught_up")]
    number, found, _ = stream.after(0, 0, 0.0)
    assert number == len(found) == len(whole)


def test_half_a_line_of_figures_waits_for_its_end(tmp_path: Path) -> None:
    path, figures = tmp_path / "rounds.jsonl", FiguresFile()
    line = b'{"round":0,"seconds":1.0,"compute":0.5,"proof":0.1,"faked":[],"applied":[]}\n'
    path.write_bytes(line + line[:20])
    assert len(figures.read(path.open("rb"))) == 1
    path.write_bytes(line + line)
    assert len(figures.read(path.open("rb"))) == 1
    assert figures.read(path.open("rb")) == [] == figures.read(None)


def test_a_reader_gets_what_came_after_what_it_has() -> None:
    stream = MessageStream()
    stream.add([{"t": "a"}, {"t": "b"}])
    stream.show("phase", what="training")
    number, messages, newest = stream.after(1, 0, 0.0)
    assert (number, messages) == (2, [b'{"t":"b"}']) and list(newest) == ["phase"]
    version = newest["phase"][0]
    stream.show("phase", what="training")
    assert stream.after(2, version, 0.0) == (2, [], {})
    stream.close()
    assert stream.after(2, version, 60.0) == (2, [], {}) and stream.closed


@pytest.mark.parametrize("name", ["log.db", "recipe.json"])
def test_a_log_that_breaks_the_rules_is_said_on_the_page(tmp_path: Path, name: str) -> None:
    run, stream = tmp_path / "run", MessageStream()
    with growing_run(run) as world:
        advance(world, run, 2)
    (run / name).write_bytes(b"SQLite format 3\0" + bytes(200))
    source = RunSource(run, stream)
    source.start()
    source.stop()
    _, _, newest = stream.after(0, 0, 0.0)
    assert ("broken" in newest) == (name == "log.db")


def test_several_tasks_of_a_fast_worker_are_counted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with growing_run(run) as world:
        advance(world, run, 2)
        world.manager.share({0: 1})
        advance(world, run, 6)
    messages = read_messages(run)
    (shares,) = [message for message in messages if message["t"] == "shares"]
    assert shares["lv"] == [[0, 1]]
    rounds = [message for message in messages if message["t"] == "round"]
    assert "jobs" not in rounds[0] and unpacked(rounds[-1]["jobs"])[0] == 2
    assert sum(unpacked(rounds[-1]["jobs"]).values()) == rounds[-1]["tasks"]


def test_what_checking_came_to_is_on_the_page_of_the_process_that_trained_and_checked() -> None:
    stream = MessageStream()
    watch = TrainingWatch(stream, lambda path: RunSource(path, stream))
    watch.take({"event": "checking", "by": "podlt verify"})
    assert claims_in(stream) == {"t": "claims", "state": "running", "by": "podlt verify", "rows": [], "at": 0}
    row = [1, "a claim", "its log", "holds", "3 entries", "", "", "verify"]
    watch.take({"event": "checked", "by": "podlt verify", "rows": [row]})
    assert (claims_in(stream)["state"], claims_in(stream)["rows"]) == ("verified", [row])
    watch.take({"event": "checking", "by": "podlt audit"})
    assert claims_in(stream) == claims_in(stream) | {"state": "running", "by": "podlt audit", "rows": [row]}


def claims_in(stream: MessageStream) -> dict[str, Any]:
    newest = stream.after(0, 0, 0.0)[2]
    found: dict[str, Any] = msgspec.json.decode(newest["claims"][1])
    return found
