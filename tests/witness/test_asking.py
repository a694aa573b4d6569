"""A witness over HTTP, who asks it while a run goes on, and who demands what it signed."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from witnessed_logs import Log, manager_key

from podlt.cli.app import run as podlt
from podlt.crypto import SigningKey, digest
from podlt.errors import UsageError
from podlt.events import Event, Witnessed, WitnessFailed
from podlt.log.notes import WitnessKey, cosignature_line, parse_checkpoint
from podlt.log.notes import cosign as sign
from podlt.log.tree_head import Head, sign_head
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.store.bundle import write_bundle
from podlt.verify import verify
from podlt.witness.asker import WitnessAsker
from podlt.witness.client import WitnessClient, WitnessError
from podlt.witness.server import THREADS, WitnessServer
from podlt.witness.state import WitnessState
from podlt.witness.witness import Witness

NOW = 1_800_000_000
AT_ONCE = {"pause": 0.001, "retry": 0.001}
"""No second is waited for."""


@pytest.fixture
def server(witness: Witness) -> Iterator[WitnessServer]:
    with WitnessServer(witness, "127.0.0.1", 0, lambda: NOW) as running:
        yield running


@pytest.fixture
def client(server: WitnessServer, witness: Witness) -> WitnessClient:
    return WitnessClient(witness.public, server.url)


@pytest.fixture
def copy(log: Log, tmp_path: Path) -> Path:
    """The run, to be changed."""
    return Path(shutil.copytree(log.run, tmp_path / "run"))


def claim(run: Path, *keys: WitnessKey) -> Finding:
    return verify(run, jobs=1, witnesses=keys).finding(Claim.WITNESSES)


def asked(client: WitnessClient, log: Log, size: int) -> None:
    head, _ = parse_checkpoint(log.notes[size])
    client.key.cosigned_at(head, client.cosign(log.notes[size], head, log.tree.consistency_proof, log.bodies[0]))


def nowhere() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def fed(asker: WitnessAsker, log: Log) -> None:
    """Publishes a whole log, head by head."""
    old = 0
    for size in log.sizes:
        asker.publish(old, log.bodies[old:size], log.notes[size])
        old = size


# -- client and server -----------------------------------------------------------------------------------------------


def test_a_run_introduces_itself_and_has_each_head_cosigned(client: WitnessClient, log: Log) -> None:
    for size in log.sizes:
        asked(client, log, size)
        assert client.known == size


def test_who_does_not_know_what_the_witness_saw_is_told_and_goes_on_from_there(
    client: WitnessClient, server: WitnessServer, log: Log
) -> None:
    asked(client, log, log.sizes[2])
    forgetful = WitnessClient(client.key, server.url)
    asked(forgetful, log, log.sizes[4])


def test_a_shorter_log_and_another_one_are_conflicts(client: WitnessClient, server: WitnessServer, log: Log) -> None:
    asked(client, log, log.sizes[3])
    with pytest.raises(WitnessError, match="the log was cut") as short:
        asked(WitnessClient(client.key, server.url), log, log.sizes[1])
    assert short.value.conflict
    origin = parse_checkpoint(log.notes[log.sizes[0]])[0].origin
    for size in (log.sizes[3], log.sizes[4]):
        other = Head(origin, size, digest("other/1"))
        with pytest.raises(WitnessError, match="another log of this run") as fork:
            client.cosign(sign_head(other, manager_key(1)), other, log.tree.consistency_proof, log.bodies[0])
        assert fork.value.conflict


def test_a_cosignature_of_another_key_than_was_named_is_none(server: WitnessServer, log: Log) -> None:
    stranger = WitnessClient(WitnessKey("w.example/1", SigningKey(digest("test-other/2")).public), server.url)
    with pytest.raises(WitnessError, match="without a cosignature by the key"):
        asked(stranger, log, log.sizes[0])


def test_a_witness_that_is_away_is_an_error_and_no_conflict(witness: Witness, log: Log) -> None:
    with pytest.raises(WitnessError, match="cannot be reached") as away:
        asked(WitnessClient(witness.public, nowhere()), log, log.sizes[0])
    assert not away.value.conflict


def test_a_host_that_is_no_name_cannot_be_reached(witness: Witness, log: Log) -> None:
    with pytest.raises(WitnessError, match="cannot be reached"):
        asked(WitnessClient(witness.public, f"http://{'x' * 70}.example"), log, log.sizes[0])


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://x:99999", "http://x?y"])
def test_what_is_no_url_is_refused(witness: Witness, url: str) -> None:
    with pytest.raises(UsageError, match="expected http"):
        WitnessClient(witness.public, url)


def answer(server: WitnessServer, method: str, path: str, body: bytes | None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request(method, path, body, headers)
    found = connection.getresponse()
    text = found.read().decode()
    connection.close()
    return found.status, text


def test_the_server_says_who_it_is_and_refuses_what_it_does_not_serve(server: WitnessServer, witness: Witness) -> None:
    assert answer(server, "GET", "/", None) == (200, f"a witness (c2sp.org/tlog-witness)\n{witness.public.text()}\n")
    assert answer(server, "GET", "/x", None)[0] == 404
    assert answer(server, "POST", "/x", b"")[0] == 404
    assert answer(server, "POST", "/add-checkpoint", b"x" * 20_000)[0] == 413
    assert answer(server, "POST", "/add-checkpoint", b"x")[0] == 400
    chunked = answer(server, "POST", "/add-checkpoint", None, **{"Transfer-Encoding": "chunked", "Content-Length": "x"})
    assert chunked[0] == 411
    assert answer(server, "PUT", "/add-checkpoint", b"")[0] == 501


def test_silent_strangers_have_few_places_and_the_witness_answers_once_they_go(server: WitnessServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(THREADS + 4)]
    for connection in silent:
        connection.close()
    for _ in range(100):
        try:
            assert answer(server, "GET", "/", None)[0] == 200
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
    pytest.fail("no answer")


# -- asking while a run goes on --------------------------------------------------------------------------------------


def test_the_last_head_of_a_run_is_cosigned_by_each_witness_when_it_ends(
    client: WitnessClient, log: Log, copy: Path, tmp_path: Path
) -> None:
    other = Witness(
        "w.example/2", SigningKey(digest("test-witness/3")), WitnessState(tmp_path / "2"), most=5, open=True
    )
    with WitnessServer(other, "127.0.0.1", 0, lambda: NOW) as second:
        asker = WitnessAsker([client, WitnessClient(other.public, second.url)], copy / "cosignatures", **AT_ONCE)
        fed(asker, log)
        events: list[Event] = []
        asker.finish(events.append, 20.0)
        asker.close()
    assert {type(event) for event in events} == {Witnessed}
    found = claim(copy, client.key, other.public)
    assert found.outcome is Outcome.HOLDS and f"all {log.sizes[-1]} entries" in found.figure
    write_bundle(copy, tmp_path / "run.podlt")
    assert claim(tmp_path / "run.podlt", client.key).outcome is Outcome.HOLDS


def test_a_resumed_run_has_its_log_taken_first(client: WitnessClient, log: Log, tmp_path: Path) -> None:
    asker, half = WitnessAsker([client], tmp_path / "cosignatures", **AT_ONCE), log.sizes[3]
    asker.load((i, log.tree._root(i, i + 1), log.bodies[i]) for i in range(half))
    asker.publish(half, log.bodies[half : log.sizes[4]], log.notes[log.sizes[4]])
    asker.finish(print, 20.0)
    asker.close()
    assert client.known == log.sizes[4]


def test_a_witness_that_is_away_holds_nothing_up_and_is_said_once(witness: Witness, log: Log, tmp_path: Path) -> None:
    asker = WitnessAsker([WitnessClient(witness.public, nowhere())], tmp_path / "cosignatures", **AT_ONCE)
    fed(asker, log)
    events: list[Event] = []
    while not events:
        asker.tell(events.append)
    asker.finish(events.append, 0.05)
    asker.close()
    reasons = [event.reason for event in events if isinstance(event, WitnessFailed)]
    assert "cannot be reached" in reasons[0] and "podlt witness ask" in reasons[-1]
    assert len(reasons) == 2 and not (tmp_path / "cosignatures").exists()


def test_a_witness_that_comes_back_is_asked_again(witness: Witness, log: Log, tmp_path: Path) -> None:
    url = nowhere()
    client = WitnessClient(witness.public, url)
    asker = WitnessAsker([client], tmp_path / "cosignatures", **AT_ONCE)
    fed(asker, log)
    events: list[Event] = []
    while not events:
        asker.tell(events.append)
    with WitnessServer(witness, "127.0.0.1", int(url.rpartition(":")[2]), lambda: NOW):
        asker.finish(events.append, 20.0)
        asker.close()
    assert isinstance(events[0], WitnessFailed) and client.known == log.sizes[-1]


def test_who_saw_another_log_is_named_and_not_asked_again(client: WitnessClient, log: Log, tmp_path: Path) -> None:
    asked(client, log, log.sizes[-1])
    asker = WitnessAsker([WitnessClient(client.key, client_url(client))], tmp_path / "cosignatures", **AT_ONCE)
    asker.publish(0, log.bodies[: log.sizes[0]], log.notes[log.sizes[0]])
    events: list[Event] = []
    asker.finish(events.append, 20.0)
    asker.close()
    (event,) = events
    assert isinstance(event, WitnessFailed) and event.conflict and "the log was cut" in event.reason


def client_url(client: WitnessClient) -> str:
    return f"http://{client._host}:{client._port}"


def test_a_run_without_witnesses_asks_nobody(log: Log, tmp_path: Path) -> None:
    asker = WitnessAsker([], tmp_path / "cosignatures")
    fed(asker, log)
    events: list[Event] = []
    asker.finish(events.append, 20.0)
    asker.close()
    assert events == [] and threading.active_count() < 50


# -- demanding -------------------------------------------------------------------------------------------------------

KEY = SigningKey(digest("test-witness/4"))
DEMANDED = WitnessKey("w.example/4", KEY.public)


def signed(run: Path, log: Log, size: int, root: bytes | None = None) -> None:
    """Writes a cosignature of `DEMANDED` beside a run."""
    origin = parse_checkpoint(log.notes[log.sizes[0]])[0].origin
    head = Head(origin, size, log.tree.root(size) if root is None else root)
    with (run / "cosignatures").open("a") as file:
        file.write(cosignature_line(head, sign(head, NOW, DEMANDED.name, KEY)) + "\n")


def test_the_claim_has_three_outcomes(log: Log, copy: Path) -> None:
    found = claim(copy)
    assert (found.outcome, found.asked) == (Outcome.NOT_CHECKED, False)
    found = claim(copy, DEMANDED)
    assert (found.outcome, found.asked) == (Outcome.NOT_CHECKED, True) and "no cosignature" in found.why
    signed(copy, log, log.sizes[1])
    found = claim(copy, DEMANDED)
    assert found.outcome is Outcome.NOT_CHECKED
    assert found.why == f"w.example/4 saw {log.sizes[1]} of {log.sizes[-1]} entries"
    signed(copy, log, log.sizes[-1])
    assert claim(copy, DEMANDED).outcome is Outcome.HOLDS
    assert verify(copy, jobs=1, witnesses=[DEMANDED]).exit_code == verify(copy, jobs=1).exit_code == 0


def test_another_log_that_a_witness_saw_fails_it_at_any_size(log: Log, copy: Path) -> None:
    signed(copy, log, log.sizes[-1])
    between = log.sizes[2] + 1
    assert between not in log.notes
    signed(copy, log, between, digest("other/1"))
    result = verify(copy, jobs=1, witnesses=[DEMANDED])
    assert result.exit_code == 1 and result.failure is not None and result.failure.step == Claim.WITNESSES
    assert "saw another log of this run" in result.finding(Claim.WITNESSES).why
    assert verify(copy, jobs=1).exit_code == 0  # nobody asked


def test_a_longer_log_that_a_witness_saw_fails_it(log: Log, copy: Path) -> None:
    signed(copy, log, log.sizes[-1] + 3, digest("later/1"))
    assert "it was cut" in claim(copy, DEMANDED).why


def test_a_cosignature_that_does_not_hold_counts_for_nothing(log: Log, copy: Path) -> None:
    signed(copy, log, log.sizes[-1])
    text = (copy / "cosignatures").read_text()
    (copy / "cosignatures").write_text(text.replace(f"{log.sizes[-1]} ", f"{log.sizes[-1] + 1} ", 1))
    assert "no cosignature" in claim(copy, DEMANDED).why


# -- the commands ----------------------------------------------------------------------------------------------------


def test_a_cron_job_cosigns_and_a_reader_demands_it(
    log: Log, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--state", str(tmp_path / "w")]
    assert podlt(["witness", "cosign", str(copy), "--out", str(copy / "cosignatures"), *own]) == 0
    key = str(tmp_path / "w" / "witness.key.pub")
    assert podlt(["verify", str(copy), "--witness", key]) == 0
    assert "holds" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("28"))
    assert podlt(["witness", "list", *own, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["logs"][0]["size"] == log.sizes[-1]
    assert podlt(["witness", "cosign", str(copy), "--name", "another", *own]) == 2
    assert podlt(["verify", str(copy), "--witness", "nonsense"]) == 2


def test_a_cosigned_head_is_a_note_of_c2sp_and_can_be_kept(
    log: Log, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed(copy, log, log.sizes[1])
    signed(copy, log, log.sizes[-1])
    assert podlt(["head", str(copy), "--cosigned"]) == 0
    note = capsys.readouterr().out
    head, (own, cosignature) = parse_checkpoint(note)
    assert (own.name, head.size) == (head.origin, log.sizes[-1])
    assert DEMANDED.cosigned_at(head, cosignature) == NOW
    (tmp_path / "kept").write_text(note)
    assert podlt(["verify", str(copy), "--head", str(tmp_path / "kept")]) == 0
    (tmp_path / "kept").write_text(f"{note}more\n")
    assert podlt(["verify", str(copy), "--head", str(tmp_path / "kept")]) == 2


def test_a_log_that_was_cut_is_not_cosigned(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--state", str(tmp_path / "w")]
    assert podlt(["witness", "cosign", str(copy), *own]) == 0
    with sqlite3.connect(copy / "log.db") as database:
        last = database.execute("SELECT max(size) FROM heads").fetchone()[0]
        database.execute("DELETE FROM heads WHERE size = ?", (last,))
        size = database.execute("SELECT max(size) FROM heads").fetchone()[0]
        database.execute("DELETE FROM entries WHERE number >= ?", (size,))
    database.close()
    assert podlt(["witness", "cosign", str(copy), *own]) == 1
    assert "it was cut" in capsys.readouterr().err


def test_a_run_asks_later_whom_it_could_not_reach(
    client: WitnessClient, server: WitnessServer, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    witness = f"{client.key.text()}={server.url}"
    assert podlt(["witness", "ask", str(copy), "--witness", witness]) == 0
    assert claim(copy, client.key).outcome is Outcome.HOLDS
    away = f"{client.key.text()}={nowhere()}"
    assert podlt(["witness", "ask", str(copy), "--witness", away]) == 4
    assert "cannot be reached" in capsys.readouterr().err
    assert podlt(["witness", "ask", str(copy)]) == 2


@pytest.mark.slow
def test_a_witness_that_was_killed_goes_on_from_what_it_saw(copy: Path, tmp_path: Path) -> None:
    """`podlt witness serve` in a process of its own."""
    command = [sys.executable, "-c", "from podlt.cli import main; main()", "witness", "serve"]
    command += ["--state", str(tmp_path / "w"), "--listen", nowhere().rpartition(":")[2]]
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5)]
            key, url = (line.partition('"')[2].partition('"')[0] for line in lines[3:5])
            assert podlt(["witness", "ask", str(copy), "--witness", f"{key}={url}"]) == 0
        finally:
            process.kill()
            process.wait()
    assert len((copy / "cosignatures").read_text().splitlines()) == 2
    assert podlt(["verify", str(copy), "--witness", str(tmp_path / "w" / "witness.key.pub")]) == 0
