"""What is not told when a run goes on is as it was, so that the command of the hint is enough."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podlt.errors import StorageError, UsageError
from podlt.network.http import RouteTable
from podlt.network.link import WebHost
from podlt.network.settings import NetworkSettings, load_settings, save_settings
from podlt.remote import workplace
from podlt.remote.workplace import RemoteMachines
from podlt.store.run_names import RUN


class Started:
    """A manager that says how it was started: the way of large parameters, the silence timeout."""

    def __init__(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._run = run
        run.mkdir()
        monkeypatch.setattr(workplace, "expected", lambda arithmetic: None)
        monkeypatch.setattr(workplace, "_served", lambda job, arithmetic: None)
        monkeypatch.setattr(workplace, "NetworkEngine", lambda *args, **how: how)

    def __call__(self, bucket: str = "", silence_timeout: float | None = None) -> tuple[str, float]:
        link: Any = SimpleNamespace(web=WebHost(RouteTable(), [], bytes(32)), close=lambda: None)
        place = RemoteMachines(lambda job: link, silence_timeout, bucket=bucket)
        job: Any = SimpleNamespace(directory=self._run, program=SimpleNamespace(arithmetic=""))
        with place.ready(1) as begin:
            how: Any = begin(job)
        bucket_of = how["large"].server._bucket
        return bucket_of.url if bucket_of is not None else "", how["timing"].silence


def test_what_is_not_told_at_resume_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Started(tmp_path / "run", monkeypatch)
    assert start() == ("", 15)
    assert start("memory:///", 60) == start() == start() == ("memory:///", 60)
    assert start("https", 20) == start() == ("", 20)


def test_options_that_are_refused_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Started(tmp_path / "run", monkeypatch)
    start("memory:///", 60)
    with pytest.raises(UsageError, match="is no URL of an object store"):
        start("none", 30)
    assert start() == ("memory:///", 60)


def test_what_is_kept_is_changed_one_by_one(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == NetworkSettings()
    save_settings(tmp_path, blobs="https", silence_timeout=60.0)
    save_settings(tmp_path, server_port=4224)
    assert load_settings(tmp_path) == NetworkSettings("https", 60.0, server_port=4224)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"server_port":70000}', '{"blobs":1}', '{"silence_timeout":-1}', '{"late_seconds":-1}']
)
def test_a_file_that_was_changed_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / RUN).write_text(f'{{"network":{text}}}' if ":" in text else text)
    with pytest.raises(StorageError, match=r"run.json: .*malformed"):
        load_settings(tmp_path)
