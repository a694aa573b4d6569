"""A worker's key file, and the line that keeps it elsewhere."""

from __future__ import annotations

import os
import stat
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.access import worker_key
from podlt.crypto import SigningKey
from podlt.errors import StorageError, UsageError

SEEDS = st.binary(min_size=32, max_size=32)


def test_a_key_is_made_at_first_use_for_its_owner_alone_and_is_the_same_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "worker.key"
    old = os.umask(0)
    try:
        first = worker_key.load_or_create_key(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert worker_key.load_or_create_key(path).public == first.public
    assert [file.name for file in path.parent.iterdir()] == ["worker.key"]


def test_two_workers_that_begin_at_once_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: worker_key.load_or_create_key(tmp_path / "worker.key").public, range(32)))
    assert len(set(made)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_could_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "worker.key"
    worker_key.load_or_create_key(path)
    path.chmod(mode)
    with pytest.raises(UsageError, match=f"mode {mode:04o}"):
        worker_key.load_or_create_key(path)


def test_a_file_that_is_no_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "worker.key"
    good = worker_key.backup(SigningKey(bytes(32)))
    path.write_text(good[:-1])
    path.chmod(0o600)
    with pytest.raises(UsageError, match="not a key file") as caught:
        worker_key.load_key(path)
    assert good[20:30] not in str(caught.value)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "worker.key"
    first = worker_key.load_or_create_key(path)
    with pytest.raises(UsageError, match="there is a key already"):
        worker_key.save_key(path, SigningKey(bytes(32)))
    assert worker_key.load_key(path).public == first.public


def test_a_folder_that_cannot_be_made_is_an_error_of_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        worker_key.load_or_create_key(tmp_path / "file" / "worker.key")


def test_identities_are_the_same_each_time_and_all_different(tmp_path: Path) -> None:
    path = tmp_path / "worker.key"
    many = [key.public for key in worker_key.load_or_create_keys(path, 5)]
    assert len(set(many)) == 5
    assert [key.public for key in worker_key.load_or_create_keys(path, 3)] == many[:3]
    assert many[0] == worker_key.load_key(path).public


@given(SEEDS)
def test_what_was_backed_up_can_be_restored_in_capitals_and_over_several_lines(seed: bytes) -> None:
    line = worker_key.backup(SigningKey(seed))
    assert worker_key.restore(line).seed() == seed
    assert worker_key.restore("  " + line.upper().replace("-", "-\n ") + "\n").seed() == seed


@given(SEEDS, st.data())
def test_a_slip_of_the_pen_is_noticed(seed: bytes, data: st.DataObject) -> None:
    line = worker_key.backup(SigningKey(seed))
    start = len(worker_key.PREFIX) + 1
    at = data.draw(st.integers(start, len(line) - 1).filter(lambda i: line[i] != "-"))
    letter = data.draw(st.sampled_from(string.ascii_lowercase + string.digits).filter(lambda c: c != line[at]))
    slip = line[:at] + letter + line[at + 1 :]
    with pytest.raises(UsageError) as caught:
        worker_key.restore(slip)
    assert slip[start : start + 20] not in str(caught.value)


@given(st.text(max_size=100))
def test_any_other_text_is_no_key(text: str) -> None:
    for candidate in (text, worker_key.PREFIX + text):
        with pytest.raises(UsageError):
            worker_key.restore(candidate)
