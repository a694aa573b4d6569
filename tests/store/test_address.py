"""Addresses of databases: what is taken, what is shown, and where a stranger's directory cannot send us."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.canonical import to_json
from podlt.errors import StorageError, UsageError
from podlt.store import address
from podlt.store.run_log import has_log, open_run_log, store_of

RUN = "ab" * 16


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=6).map(lambda text: f"S3CR3T{text}"))
def test_no_message_and_no_address_that_is_kept_shows_the_password(password: str) -> None:
    try:
        url = address.parse(f"postgresql://me:{password}@host/runs")
    except UsageError as error:
        assert "S3CR3T" not in str(error)
        return
    if url.password is not None and "S3CR3T" in url.password:  # else it was written without its %XX
        assert "S3CR3T" not in address.shown(url) and "S3CR3T" not in address.database(url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "runs",
        "mysql://me@host/runs",
        "postgresql+asyncpg://me@host/runs",
        "postgresql://me@host",
        "postgresql://me@host:port/runs",
        "postgresql://me@host/runs?password=S3CR3T",
        "postgresql://me@host/runs?sslpassword=S3CR3T",
        "postgresql://me@host/runs?service=elsewhere",
        "postgresql://me@host/runs?options=-csearch_path=x",
        "sqlite:///runs.db",
    ],
)
def test_what_is_no_address_of_a_server_is_refused_for_a_run(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        address.for_new_run(text)
    assert "S3CR3T" not in str(caught.value)


def test_each_new_run_has_a_name_of_its_own_in_what_is_kept() -> None:
    one, two = (address.for_new_run("postgresql://me:S3CR3T@localhost/runs?sslmode=disable") for _ in range(2))
    assert one != two and "S3CR3T" not in one + two
    assert address.database(address.parse(one)) == "postgresql://me@localhost/runs?sslmode=disable"
    assert address.run_name(address.parse(one)) != address.run_name(address.parse(two))
    for wrong in ("", "x" * 32, "ab", "AB" * 16):
        with pytest.raises(UsageError, match="names no run"):
            address.run_name(address.parse(f"postgresql://me@localhost/runs?podlt_run={wrong}"))


def settings(run: Path, store: object) -> Path:
    (run / "run.json").write_bytes(to_json({"settings": {"base": "", "store": store}}))
    return run


@pytest.mark.parametrize(
    "where",
    [
        "postgresql://me@db.example.invalid/runs?",
        "postgresql://me@/runs?host=db.example.invalid&",
        "postgresql://me@localhost/runs?host=db.example.invalid&",
        "postgresql://me@/runs?host=localhost&host=db.example.invalid&",
        "postgresql://me@/runs?host=localhost,db.example.invalid&",
    ],
)
def test_a_directory_cannot_send_us_to_a_host_that_nobody_named(tmp_path: Path, where: str) -> None:
    run = settings(tmp_path, f"{where}podlt_run={RUN}")
    with pytest.raises(UsageError, match=r"untrusted host.*never given on this account"):
        open_run_log(run, readonly=True)


def test_a_host_that_was_named_once_is_followed_later(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = address.for_new_run("postgresql://me:S3CR3T@db.example.invalid/runs")
    address.introduce("postgresql://me@db.example.invalid/others")
    assert (home / ".podlt" / "stores").read_text() == "db.example.invalid\n"
    address.require_known(address.parse(kept))
    (home / ".podlt" / "stores").unlink()
    with pytest.raises(UsageError):
        address.require_known(address.parse(kept))
    monkeypatch.setenv("PODLT_STORE", "postgresql://me:0TH3R@db.example.invalid/runs")
    monkeypatch.setattr(address, "_passwords", {})
    address.require_known(address.parse(kept))
    assert address.with_password(address.parse(kept)).password == "0TH3R"


def test_a_directory_cannot_name_a_file_as_its_log(tmp_path: Path) -> None:
    victim = tmp_path / "victim.db"
    victim.write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="unsupported store"):
        open_run_log(settings(tmp_path, f"sqlite:///{victim}"), create=True)
    assert victim.read_bytes() == b"somebody's"


@pytest.mark.parametrize("store", ["", None, 7, ["postgresql://me@localhost/runs"]])
def test_without_an_address_the_log_is_in_the_directory(tmp_path: Path, store: object) -> None:
    run = settings(tmp_path, store)
    assert store_of(run) == "" and not has_log(run)
    with pytest.raises(StorageError, match="no such log"):
        open_run_log(run)
    open_run_log(run, create=True).close()
    assert has_log(run)


def test_a_log_in_the_directory_is_the_one_whatever_the_settings_say(tmp_path: Path) -> None:
    open_run_log(tmp_path, create=True).close()
    settings(tmp_path, f"postgresql://me@db.example.invalid/runs?podlt_run={RUN}")
    open_run_log(tmp_path, readonly=True).close()
    (tmp_path / "run.json").write_bytes(b"{ malformed")
    open_run_log(tmp_path, readonly=True).close()
