"""`podlt workers` and `podlt key`: what an operator and a worker's owner can say and see."""

from __future__ import annotations

import io
import json
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_calls import Podlt

from podlt.access import invitation_code
from podlt.access.certificate import load_or_create
from podlt.access.invitation import name_of, read
from podlt.access.policy import Admitted, Refusal
from podlt.access.registry import Registry
from podlt.crypto import SigningKey
from podlt.events import WorkerFigures, WorkersSeen
from podlt.manager.directory import RunDirectory
from podlt.network.client.link import ClientLink
from podlt.network.server.open_server import OpenServer
from podlt.remote.worker_figures import WorkerFiguresFile
from podlt.report.history import read_history
from podlt.store.run_names import SERVER

KEY = SigningKey(b"k" * 32)
HEX = KEY.public.hex()


@pytest.fixture
def invited(run: Path) -> Path:
    """A run that workers can be invited to."""
    return prepared(run)


def prepared(run: Path) -> Path:
    """Gives a run keys, and a place where its server is said to be."""
    directory = RunDirectory.existing(run)
    directory.make_keys(0, lambda size: b"s" * size)
    (run / SERVER).mkdir()
    Registry(run).set_place(["https://127.0.0.1:1"], load_or_create(run / SERVER))
    return run


def admit(run: Path, line: str, key: SigningKey = KEY, now: int = 0) -> Admitted | Refusal:
    return Registry(run).admit(key.public, read(line).name, now or time.time_ns() // 10**6)


def test_an_invitation_is_one_line_that_lets_in_as_many_as_it_says(podlt: Podlt, invited: Path) -> None:
    line = podlt("workers", "invite", invited, "--uses", 2, "--expires", "7d", "--note", "lab", "--whole").out
    assert line.count("\n") == 1 and read(line).servers == ["https://127.0.0.1:1"]
    assert read(line).manager == RunDirectory.existing(invited).manager_key().public
    for number, expected in ((1, Admitted), (2, Admitted), (3, Refusal)):
        assert isinstance(admit(invited, line, SigningKey(bytes([number]) * 32)), expected)
    week = 7 * 86_400_000
    document = json.loads(podlt("workers", "list", invited, "--json").out)
    (shown,) = document["invitations"]
    assert (shown["used"], shown["uses"], shown["status"], shown["note"]) == (2, 2, "used up", "lab")
    assert 0 < shown["expires"] - time.time_ns() // 10**6 <= week
    assert read(line).secret.hex() not in json.dumps(document)


def test_an_invitation_is_printed_as_a_code_for_the_same(podlt: Podlt, invited: Path) -> None:
    code = invitation_code.read(podlt("workers", "invite", invited).out)
    both = json.loads(podlt("workers", "invite", invited, "--json").out)
    assert (code.host, code.port) == ("127.0.0.1", 1)
    assert invitation_code.read(both["code"]).secret == read(both["invitation"]).secret != code.secret
    assert name_of(code.secret) in Registry(invited).state.invitations


def test_an_invitation_names_an_operator_whose_workers_are_counted_and_limited(podlt: Podlt, invited: Path) -> None:
    first = podlt("workers", "invite", invited, "--uses", 2, "--operator", " lab 3 ", "--whole").out
    other = json.loads(podlt("workers", "invite", invited, "--json", "--whole").out)
    assert other["operator"] == "invitation-2"
    podlt("workers", "limit", invited, 1)
    admit(invited, first), admit(invited, other["invitation"], SigningKey(b"o" * 32))
    assert isinstance(admit(invited, first, SigningKey(b"p" * 32)), Refusal)
    document = json.loads(podlt("workers", "list", invited, "--json").out)
    assert document["operators"] == {"invitation-2": 1, "lab 3": 1} and document["most_identities"] == 1
    assert {row["key"]: row["operator"] for row in document["workers"]}[HEX] == "lab 3"
    text = podlt("workers", "list", invited).out
    assert "lab 3" in text and "at most 1 workers of one operator" in text
    podlt("workers", "limit", invited)
    assert isinstance(admit(invited, first, SigningKey(b"p" * 32)), Admitted)
    for name in ("x" * 101, "a\nb"):
        outcome = podlt("workers", "invite", invited, "--operator", name)
        assert outcome.code == 2 and "printable" in outcome.err


def test_an_invitation_is_ended_by_its_name(podlt: Podlt, invited: Path) -> None:
    made = json.loads(podlt("workers", "invite", invited, "--json", "--whole").out)
    assert podlt("workers", "revoke", invited, made["name"]).code == 0
    assert isinstance(admit(invited, made["invitation"]), Refusal)
    assert "revoked" in podlt("workers", "list", invited).out


def test_the_list_knows_the_log_and_who_was_let_in_and_what_was_said_of_them(podlt: Podlt, invited: Path) -> None:
    line = podlt("workers", "invite", invited, "--whole").out
    admit(invited, line)
    rows = {row["key"]: row for row in json.loads(podlt("workers", "list", invited, "--json").out)["workers"]}
    for number, worker in read_history(invited).state.workers.items():
        row = rows[worker.key.hex()]
        assert (row["worker"], row["status"], row["connected"]) == (number, worker.status, False)
    assert (rows[HEX]["worker"], rows[HEX]["access"]) == (None, "invitation")
    assert podlt("workers", "revoke", invited, HEX[:8], "--reason", "[red]its owner asked").code == 0
    out = podlt("workers", "list", invited)
    assert "[red]its owner asked" in out.out and "server does not run" in out.out


def test_the_list_says_how_a_worker_does_and_what_share_it_has(podlt: Podlt, invited: Path) -> None:
    key = read_history(invited).state.workers[1].key.hex()
    (invited / SERVER).mkdir(exist_ok=True)
    figures = {"tasks": 5, "seconds": 0.25, "examples_per_second": 80.0, "late": 3, "unopened": 1, "wrong": 0}
    seen = WorkerFigures(worker=1, key=key, received=1, sent=1, silent=0.0, **figures)  # type: ignore[arg-type]
    WorkerFiguresFile(invited, lambda event: None)(WorkersSeen(workers=[seen]))
    rows = {row["key"]: row for row in json.loads(podlt("workers", "list", invited, "--json").out)["workers"]}
    assert rows[key]["share"] == 1.0 and rows[key]["task_seconds"] == 0.25
    assert {name: rows[key][name] for name in ("late", "unopened", "wrong")} == {"late": 3, "unopened": 1, "wrong": 0}
    assert all(row["late"] is None for other, row in rows.items() if other != key)
    assert "0.25 s" in podlt("workers", "list", invited).out


def test_a_worker_is_named_by_number_key_or_the_beginning_of_a_key(podlt: Podlt, invited: Path) -> None:
    key = read_history(invited).state.workers[3].key.hex()
    for name in ("3", key, key[:10]):
        assert json.loads(podlt("workers", "pause", invited, name, "--json").out)["key"] == key
        assert json.loads(podlt("workers", "resume", invited, name, "--json").out)["key"] == key
    for name in ("999", key[:5], "zzzzzzzzzz"):
        outcome = podlt("workers", "pause", invited, name)
        assert outcome.code == 2 and "no worker of this run" in outcome.err


def test_pausing_without_a_name_pauses_everybody(podlt: Podlt, invited: Path) -> None:
    line = podlt("workers", "invite", invited, "--whole").out
    podlt("workers", "pause", invited)
    paused = admit(invited, line)
    assert isinstance(paused, Refusal) and paused.seconds
    podlt("workers", "resume", invited)
    assert isinstance(admit(invited, line), Admitted)


def test_an_allowed_key_comes_by_the_address_alone_and_a_revoked_one_does_not(podlt: Podlt, invited: Path) -> None:
    address = podlt("workers", "invite", invited, "--address", "--whole").out
    assert isinstance(admit(invited, address), Refusal)
    podlt("workers", "allow", invited, HEX, "--note", "a friend")
    assert isinstance(admit(invited, address), Admitted)
    podlt("workers", "revoke", invited, HEX)
    assert isinstance(admit(invited, address), Refusal)
    outcome = podlt("workers", "allow", invited, HEX[:10])
    assert outcome.code == 2 and "64 hexadecimal digits" in outcome.err


def test_a_run_can_be_opened_for_a_deposit_and_closed(podlt: Podlt, invited: Path) -> None:
    podlt("workers", "open", invited, "--deposit", 500)
    address = read(podlt("workers", "invite", invited, "--address", "--whole").out)
    assert address.deposit == 500
    assert isinstance(Registry(invited).admit(KEY.public, "", 0, 500), Refusal)
    podlt("workers", "deposit", invited, HEX, 499)
    assert isinstance(Registry(invited).admit(KEY.public, "", 0, 500), Refusal)
    assert "500 credits" in podlt("workers", "deposit", invited, HEX, 1, "--reference", "the rest").out
    assert isinstance(Registry(invited).admit(KEY.public, "", 0, 500), Admitted)
    assert isinstance(Registry(invited).admit(KEY.public, "", 0, 499), Refusal)
    podlt("workers", "open", invited, "--close")
    assert isinstance(Registry(invited).admit(KEY.public, "", 0, 500), Refusal)


def test_a_deposit_is_recorded_listed_and_paid_back_once(podlt: Podlt, invited: Path) -> None:
    podlt("workers", "open", invited, "--deposit", 70, "--to", "the cashier")
    podlt("workers", "deposit", invited, HEX, 70, "--reference", "transfer 17")
    document = json.loads(podlt("workers", "list", invited, "--json").out)
    assert document["payee"] == "the cashier" and document["deposit"] == 70
    assert {row["key"]: row["deposit"] for row in document["workers"]}[HEX] == 70
    assert "deposit 70" in podlt("workers", "list", invited).out
    found = json.loads(podlt("workers", "return", invited, HEX[:12], "--json").out)
    assert found == {"key": HEX, "held": 0, "returned": 70}
    outcome = podlt("workers", "return", invited, HEX)
    assert outcome.code == 2 and "no deposit is held" in outcome.err
    assert isinstance(Registry(invited).admit(KEY.public, "", 0, 70), Refusal)


def test_the_deposit_of_who_was_evicted_is_not_paid_back(podlt: Podlt, classic: Path, tmp_path: Path) -> None:
    invited = prepared(Path(shutil.copytree(classic, tmp_path / "run")))
    state = read_history(invited).state
    key = next(worker.key.hex() for worker in state.workers.values() if worker.status == "evicted")
    podlt("workers", "deposit", invited, key, 5)
    outcome = podlt("workers", "return", invited, key)
    assert outcome.code == 2 and "evicted" in outcome.err


def test_what_cannot_be_done_is_an_error_of_usage(podlt: Podlt, invited: Path, tmp_path: Path) -> None:
    for argv in (
        ("invite", invited, "--expires", "soon"),
        ("invite", invited, "--expires", "0d"),
        ("list", tmp_path / "nowhere"),
    ):
        assert podlt("workers", *argv).code == 2, argv


# -- with a server ---------------------------------------------------------------------------------------------------


@pytest.fixture
def live(invited: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run whose server works; it looks often who may stay."""
    monkeypatch.setattr("podlt.network.server.manager_link.LOOK_SECONDS", 0.2)
    job: Any = SimpleNamespace(directory=invited, key=RunDirectory.existing(invited).manager_key(), workers=3)
    link = OpenServer("127.0.0.1", 0, ["127.0.0.1"]).connect(job)
    yield invited
    link.close()


def test_a_running_manager_notices_what_the_command_line_says(podlt: Podlt, live: Path) -> None:
    link = ClientLink(read(podlt("workers", "invite", live, "--whole").out), [KEY])
    link.start()
    try:
        while not link.connected:
            time.sleep(0.02)
        document = json.loads(podlt("workers", "list", live, "--json").out)
        row = next(row for row in document["workers"] if row["key"] == HEX)
        assert document["server"] == "running" and row["connected"] and row["address"] == "127.0.0.1"
        assert podlt("workers", "revoke", live, HEX[:12], "--reason", "enough").code == 0
        while link.connected:
            time.sleep(0.02)
    finally:
        link.close()
    document = json.loads(podlt("workers", "list", live, "--json").out)
    row = next(row for row in document["workers"] if row["key"] == HEX)
    assert (row["access"], row["note"], row["connected"]) == ("revoked", "enough", False)


# -- the worker's own key --------------------------------------------------------------------------------------------


def test_a_key_is_shown_backed_up_and_restored(podlt: Podlt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from podlt.access.worker_key import load_or_create_key

    first, second = tmp_path / "first.key", tmp_path / "second.key"
    public = load_or_create_key(first).public.hex()
    assert podlt("key", "show", "--key", first).out.split() == [public]
    many = json.loads(podlt("key", "show", "--key", first, "--identities", 3, "--json").out)["keys"]
    assert many[0] == public and len(set(many)) == 3
    backup = podlt("key", "backup", "--key", first)
    assert "secret" in backup.err and public not in backup.out
    (tmp_path / "line.txt").write_text(backup.out)
    assert podlt("key", "restore", tmp_path / "line.txt", "--key", second).code == 0
    assert podlt("key", "show", "--key", second).out.split() == [public]
    assert stat.S_IMODE(second.stat().st_mode) == 0o600
    monkeypatch.setattr("sys.stdin", io.StringIO(backup.out))
    assert podlt("key", "restore", "--key", tmp_path / "third.key").code == 0
    again = podlt("key", "restore", tmp_path / "line.txt", "--key", second)
    assert again.code == 2 and "there is a key already" in again.err


def test_a_key_that_is_not_there_is_not_made_by_looking(podlt: Podlt, tmp_path: Path) -> None:
    for command in ("show", "backup"):
        assert podlt("key", command, "--key", tmp_path / "none.key").code == 2
    assert not (tmp_path / "none.key").exists()
