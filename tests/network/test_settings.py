"""What is not told when a run goes on is as it was, so that the command of the hint is enough."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podlt.errors import StorageError, UsageError
from podlt.manager.serving import NetworkOptions, remote_machines
from podlt.network import workplace
from podlt.network.server import open_server
from podlt.network.settings import FILE, NetworkSettings, load_settings, save_settings


class Started:
    """A manager that says how it was started: the way of large blobs ("none" without a server), the silence timeout."""

    def __init__(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._run = run
        run.mkdir()
        monkeypatch.setattr(workplace, "expected", lambda arithmetic: None)
        monkeypatch.setattr(workplace, "_served", lambda job, arithmetic: None)
        monkeypatch.setattr(workplace, "NetworkEngine", lambda *args, **how: how)
        monkeypatch.setattr(workplace, "BlobServer", lambda *args, **how: SimpleNamespace(**how, start=lambda: None))
        monkeypatch.setattr(
            open_server,
            "OpenServer",
            lambda *args, **how: SimpleNamespace(connect=lambda job: None, line="", urls=[""]),
        )

    def __call__(self, blobs: str = "", silence_timeout: float | None = None) -> tuple[str, float]:
        options = NetworkOptions(listen="127.0.0.1", blobs=blobs, silence_timeout=silence_timeout)
        job: Any = SimpleNamespace(directory=self._run, program=SimpleNamespace(arithmetic=""))
        with remote_machines(options, lambda event: None).ready(1) as begin:
            how: Any = begin(job)
        server = how["large"].server
        return server.bucket if server is not None else "none", how["timing"].silence


def test_what_is_not_told_at_resume_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Started(tmp_path / "run", monkeypatch)
    assert start() == ("", 15)
    assert start("none", 60) == ("none", 60)
    assert start() == start() == ("none", 60)
    assert start("s3://bucket/a") == start() == ("s3://bucket/a", 60)
    assert start("https", 20) == start() == ("", 20)


def test_options_that_are_refused_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Started(tmp_path / "run", monkeypatch)
    start("none", 60)

    def refuse(*args: object, **how: object) -> None:
        raise UsageError("no such store")

    with monkeypatch.context() as refusing:
        refusing.setattr(workplace, "BlobServer", refuse)
        with pytest.raises(UsageError):
            start("s3://nowhere", 30)
    assert start() == ("none", 60)


def test_the_port_is_kept_beside_the_way_and_alone_in_runs_of_before(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == NetworkSettings()
    (tmp_path / FILE).write_text('{"port": 4223}\n')
    assert load_settings(tmp_path) == NetworkSettings(4223)
    save_settings(tmp_path, blobs="none", silence_timeout=60.0)
    save_settings(tmp_path, port=4224)
    assert load_settings(tmp_path) == NetworkSettings(4224, "none", 60.0)


@pytest.mark.parametrize("text", ["", "[]", '{"port": 70000}', '{"blobs": 1}', '{"silence_timeout": -1}'])
def test_a_file_that_was_changed_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(StorageError, match=r"blobs.json: malformed"):
        load_settings(tmp_path)
