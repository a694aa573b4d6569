"""A run's directory that somebody changed is reported, not repaired."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from small_runs import Trained, entries

import podlt.api
from podlt.crypto import digest
from podlt.errors import InvalidProofError, PodltError, StorageError, UsageError
from podlt.exact.conformance import VECTORS, total
from podlt.execution.conformance import arithmetic_digest
from podlt.manager.audit import audit
from podlt.manager.directory import RunDirectory
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.verify import verify


@pytest.fixture
def run(tmp_path: Path, cheated: Trained) -> Path:
    """A copy of a finished run."""
    shutil.copytree(cheated.result.run, tmp_path / "run")
    return tmp_path / "run"


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run, except what SQLite keeps beside the log."""
    files = {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}
    return {name: data for name, data in files.items() if not name.startswith(("log.db", "lock"))}


def last(folder: Path) -> Path:
    """The newest file of a folder."""
    return max(folder.iterdir())


def flip(path: Path) -> None:
    """Changes one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Replaces a text that a document has once."""

    def change(run: Path) -> None:
        text = (run / name).read_text()
        assert text.count(old) == 1
        (run / name).write_text(text.replace(old, new))

    return change


def other_secret(name: str) -> Callable[[Path], None]:
    """Replaces the last secret of a key file by another one of the right form."""

    def change(run: Path) -> None:
        document = json.loads((run / name).read_bytes())
        if "keys" in document:
            document["keys"][-1] = "ab" * 32
        else:
            document["key"] = "ab" * 32
        (run / name).write_text(json.dumps(document, separators=(",", ":"), sort_keys=True))

    return change


def other_momentum(run: Path) -> None:
    """Changes the optimiser's state in a checkpoint, of which the log says nothing, and nothing else."""
    path = last(run / "checkpoints")
    tensors, raw = load_file(path), path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    tensors["optimizer:first"][3] += 1
    save_file(tensors, path, metadata=header["__metadata__"])


def other_entry(run: Path) -> None:
    """Changes a byte of an entry."""
    with sqlite3.connect(run / "log.db") as log:
        ((body,),) = log.execute("select body from entries where number = 20").fetchall()
        log.execute("update entries set body = ? where number = 20", (body[:-1] + bytes([body[-1] ^ 1]),))
    log.close()


def no_last_entry(run: Path) -> None:
    """Takes the last entry away."""
    with sqlite3.connect(run / "log.db") as log:
        log.execute("delete from entries where number = (select max(number) from entries)")
    log.close()


CHANGES: dict[str, Callable[[Path], None]] = {
    "recipe: another seed": edit("recipe.json", '"seed":0', '"seed":1'),
    "recipe: an unknown field": edit("recipe.json", '"seed":0', '"seed":0,"speed":9'),
    "recipe: no document": lambda run: flip(run / "recipe.json"),
    "program": lambda run: flip(run / "program.json"),
    "an update": lambda run: flip(last(run / "updates")),
    "a checkpoint": lambda run: flip(last(run / "checkpoints")),
    "a checkpoint's optimiser": other_momentum,
    "a checkpoint's header": lambda run: last(run / "checkpoints").write_bytes(b"\xff" * 100) and None,  # type: ignore[func-returns-value]
    "an entry": other_entry,
    "an entry missing": no_last_entry,
    "the log": lambda run: (run / "log.db").write_bytes(b"not a database at all" * 100) and None,  # type: ignore[func-returns-value]
    "the model": lambda run: flip(run / "model.safetensors"),
}

NOT_IN_THE_LOG: dict[str, tuple[Callable[[Path], None], type[PodltError]]] = {
    "manager's key": (other_secret("manager.key"), UsageError),
    "manager's key: no document": (lambda run: (run / "manager.key").write_text("{}") and None, StorageError),  # type: ignore[func-returns-value]
    "a worker's key": (other_secret("workers.key"), UsageError),
    "a worker's key missing": (edit("workers.key", '"keys":["', '"keys":[],"kays":["'), StorageError),
    "settings": (edit("run.json", '"processes":0', '"processes":"all"'), StorageError),
    "settings: no document": (lambda run: (run / "run.json").write_text("{") and None, StorageError),  # type: ignore[func-returns-value]
}
"""Files of which the log says nothing: whoever changed them can repair them, and no proof fails."""


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_file_is_reported_and_left_as_it_is(run: Path, what: str) -> None:
    CHANGES[what](run)
    before = contents(run)
    with pytest.raises(InvalidProofError) as caught:
        podlt.api.resume(run)
    assert caught.value.exit_code == 1
    assert contents(run) == before


@pytest.mark.parametrize("what", NOT_IN_THE_LOG)
def test_a_changed_file_that_no_entry_binds_is_no_finding(run: Path, what: str) -> None:
    change, expected = NOT_IN_THE_LOG[what]
    change(run)
    before = contents(run)
    with pytest.raises(expected) as caught:
        podlt.api.resume(run)
    assert caught.value.exit_code != 1
    assert contents(run) == before


@pytest.mark.parametrize("name", ["updates", "checkpoints"])
def test_a_missing_file_is_named(run: Path, name: str) -> None:
    for path in (run / name).iterdir():
        path.unlink()
    with pytest.raises(StorageError, match=name):
        podlt.api.resume(run)


def test_a_finished_run_that_nobody_changed_is_left_as_it_is(run: Path, cheated: Trained) -> None:
    before = contents(run)
    assert podlt.api.resume(run).parameters == cheated.result.parameters
    assert contents(run) == before


@pytest.mark.parametrize("round", [0, 11, 28])
def test_an_audit_sees_any_changed_update(run: Path, round: int) -> None:
    flip(RunDirectory(run).update(round))
    assert verify(run, jobs=1).exit_code == 0  # the log itself is what it was
    report = audit(run, 0.01, seed=1)
    assert report.exit_code == 1
    assert f"round {round}: the file of its update" in report.finding(Claim.PARAMETERS).why


def test_a_second_manager_is_refused_while_the_first_works(run: Path) -> None:
    first = RunDirectory(run)
    first.lock()
    with pytest.raises(UsageError, match="another process works on this run"):
        podlt.api.resume(run)
    first.unlock()
    podlt.api.resume(run)


def test_an_audit_of_nothing_or_of_too_much_is_refused(run: Path) -> None:
    for fraction in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="fraction"):
            audit(run, fraction)
    with pytest.raises(PodltError):
        audit(run.parent, 0.5)


def test_secrets_are_for_their_owner_alone(run: Path) -> None:
    for name in ("manager.key", "workers.key"):
        assert (run / name).stat().st_mode & 0o077 == 0
        assert not any(secret in (run / "log.db").read_bytes() for secret in _secrets(run / name))


def _secrets(path: Path) -> list[bytes]:
    document = json.loads(path.read_bytes())
    texts = document.get("keys") or [document["key"]]  # the chain's first link is revealed in a run's last round
    return [bytes.fromhex(text) for text in texts]


def test_a_run_keeps_what_its_log_speaks_of(cheated: Trained) -> None:
    run = RunDirectory(cheated.result.run)
    rounds = [entry.round for entry in entries(run.path) if isinstance(entry, e.Apply)]
    assert sorted(path.name for path in run.updates.iterdir()) == [run.update(round).name for round in rounds]


def test_a_podlt_that_defines_the_arithmetic_otherwise_neither_goes_on_nor_audits(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlt.manager.resume.arithmetic_digest", lambda arithmetic: bytes(32))
    before = contents(run)
    monkeypatch.setattr("podlt.manager.audit.again.arithmetic_digest", lambda arithmetic: bytes(32))
    message = r"defines the arithmetic .* otherwise than the one that began the run"
    with pytest.raises(UsageError, match=message):
        podlt.api.resume(run)
    report = audit(run, 1.0)
    assert report.exit_code == 4 and re.search(message, report.finding(Claim.RESULTS).why)
    assert contents(run) == before
    assert verify(run, jobs=1).ok


def test_the_arithmetic_of_a_log_is_named_by_its_golden_vectors() -> None:
    exact = {arithmetic_digest(f"exact/{digits}") for digits in (1, 2, 3)}
    assert len(exact | {arithmetic_digest("stock")}) == 4
    golden = json.loads(resources.files("podlt.exact").joinpath(VECTORS).read_text())
    parts = (b"exact/3", bytes.fromhex(total(golden)))
    assert arithmetic_digest("exact/3") == digest("arithmetic/1", *parts)
