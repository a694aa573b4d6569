"""`podlt doctor`: each need is found to be met or not, and what is not met names its cure."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from podlt.cli import main
from podlt.doctor import examine as examining
from podlt.doctor import machine, network, packages
from podlt.doctor.diagnosis import Condition, Diagnosis, Purpose, Role
from podlt.doctor.examine import examine, exit_code
from podlt.errors import UsageError


@pytest.fixture
def asked(tmp_path: Path) -> Purpose:
    """A machine that is to train."""
    return Purpose(Role.TRAIN, tmp_path, tmp_path / "home", tmp_path / "cache")


def in_role(asked: Purpose, role: Role, **others: object) -> Purpose:
    values = {name: getattr(asked, name) for name in asked.__struct_fields__}
    return Purpose(**{**values, "role": role, **others})  # type: ignore[arg-type]


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["doctor", *argv])
    captured = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, captured.out, captured.err


def test_this_machine_is_ready_for_every_role_but_for_its_firewall(capsys: pytest.CaptureFixture[str]) -> None:
    for role in Role:
        code, out, _ = call(capsys, "--for", role, "--no-arithmetic")
        assert code == 0 and f"ready to {'check a run' if role is Role.CHECK else ''}" in out
        assert "fail" not in out


def test_json_has_each_need_with_its_fix(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--for", "manager", "--no-arithmetic", "--json")
    document = json.loads(out)
    assert (code, document["for"], document["exit"]) == (0, "manager", 0)
    needs = {each["need"] for each in document["found"]}
    assert {
        "Python",
        "packages: network",
        "memory",
        "disk: runs",
        "write: cache",
        "open files",
        "clock",
        "port",
    } <= needs
    assert all({"need", "health", "found", "fix"} <= each.keys() for each in document["found"])


@pytest.mark.slow
def test_the_golden_vectors_are_computed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "--for", "worker")
    assert code == 0 and "the bits of every other machine" in out
    assert err == "checking: arithmetic (compiled at its first use here: a minute or two of processor time) ...\n"


def test_what_is_no_role_or_place_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "--for", "miner")
    assert code == 2 and "expected one of train, manager, worker, check" in err
    code, _, err = call(capsys, "--for", "worker", "--to", "nowhere")
    assert code == 2 and "expected an invitation" in err


def test_packages_that_lack_or_are_too_old_are_named_with_their_extra(
    asked: Purpose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_is_there", lambda module: module not in ("torch", "cryptography"))
    found = {each.need: each for each in packages.extras(in_role(asked, Role.WORKER))}
    assert (
        found["packages: train"].health is Condition.FAIL and "not installed: torch" in found["packages: train"].found
    )
    assert "'.[network]'" in found["packages: train"].fix  # which brings training along
    found = {each.need: each for each in packages.extras(in_role(asked, Role.CHECK))}
    assert (
        found["packages: train"].health is Condition.WARN and "podlt audit does not" in found["packages: train"].found
    )
    monkeypatch.undo()
    monkeypatch.setattr(packages, "_version", lambda module: "1.0" if module == "torch" else "99")
    train = packages.extras(asked)[0]
    assert train.health is Condition.FAIL and "torch is 1.0, and podlt needs" in train.found


@pytest.mark.parametrize(
    ("version", "bounds", "lies_within"),
    [
        ("2.13.0+cpu", "<3,>=2.13", True),
        ("2.13", ">=2.13.0", True),
        ("2.9.1", ">=2.13,<3", False),
        ("3.0", ">=2.13,<3", False),
        ("2.60.0", "==2.60.0", True),
        ("1", "", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, bounds: str, lies_within: bool) -> None:
    assert packages.within(version, bounds) is lies_within


def test_little_memory_disk_and_shared_memory_fail_or_warn(asked: Purpose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_bytes", lambda: 2 * machine.GIB)
    assert machine.memory(asked)[0].health is Condition.WARN
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20))
    assert {each.health for each in machine.disk(asked)} == {Condition.FAIL}
    shared = machine.shared_memory(asked, asked.folder)[0]
    assert shared.health is Condition.WARN and "--shm-size" in shared.fix
    assert machine.shared_memory(in_role(asked, Role.CHECK)) == []


def test_what_the_system_says_of_memory_is_read(tmp_path: Path) -> None:
    facts = tmp_path / "meminfo"
    facts.write_text("MemTotal: 10 kB\nMemAvailable:    3 kB\n")
    assert machine.available_bytes(facts) == 3 * 1024
    assert machine.available_bytes(tmp_path / "absent") > 2**20


def test_few_open_files_are_for_the_manager_to_mend(asked: Purpose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 1_024))
    found = machine.open_files(in_role(asked, Role.MANAGER))[0]
    assert found.health is Condition.WARN and "65536" in found.fix
    assert machine.open_files(asked) == []


def test_a_clock_before_the_installation_is_wrong(asked: Purpose) -> None:
    assert machine.clock(asked, now=0.0)[0].health is Condition.FAIL
    assert machine.clock(asked)[0].health is Condition.OK


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_found_as_a_user(asked: Purpose) -> None:
    asked.folder.chmod(0o500)
    assert machine.write_access(asked)[0].health is Condition.FAIL


def test_a_folder_that_cannot_be_written_fails_with_the_option_that_names_another(
    asked: Purpose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "NamedTemporaryFile", refuse)
    found = machine.write_access(asked)[0]
    assert (found.health, found.need) == (Condition.FAIL, "write: runs") and "--run DIR" in found.fix


def test_a_port_that_is_taken_fails_and_one_that_is_free_is_to_be_opened(asked: Purpose) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = network.ports(in_role(asked, Role.MANAGER, port=port))[0]
        assert found.health is Condition.FAIL and f"sport = :{port}" in found.fix
        worker = in_role(asked, Role.WORKER, to=("127.0.0.1", port))
        assert network.ports(worker)[0].health is Condition.OK
    found = network.ports(in_role(asked, Role.MANAGER, port=port))[0]
    assert found.health is Condition.OK and f"open TCP {port}" in found.fix
    found = network.ports(worker)[0]
    assert found.health is Condition.FAIL and "not reached" in found.found


def test_a_place_is_a_host_with_a_port_or_an_invitation() -> None:
    assert network.place_of("train.example.org:443") == ("train.example.org", 443)
    assert network.place_of("[::1]:4222") == ("::1", 4222)
    with pytest.raises(UsageError):
        network.place_of("podlt1-spoiled")


def test_what_fails_decides_over_the_exit_code() -> None:
    fine = Diagnosis("memory", Condition.WARN, "3 GiB")
    mend = Diagnosis("disk", Condition.FAIL, "full", "free some")
    other = Diagnosis("arithmetic", Condition.FAIL, "3 operations differ", is_finding=True)
    assert [exit_code([fine]), exit_code([fine, mend]), exit_code([mend, other])] == [0, 2, 1]


def test_without_pytorch_what_needs_it_is_not_tried(asked: Purpose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_is_there", lambda module: module != "torch")
    names: list[str] = []
    found = [*examine(in_role(asked, Role.CHECK), names.append)]
    assert not examining.NEEDS_PYTORCH & {*names}
    assert exit_code(found) == 0  # podlt verify needs none
