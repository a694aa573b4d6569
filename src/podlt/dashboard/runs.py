"""A folder of runs, side by side: the figures of each, worked out once for each state of its log."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Executor
from contextlib import suppress
from pathlib import Path
from typing import Any

from podlt.dashboard.claims import show_claims
from podlt.dashboard.header import what_is_trained
from podlt.dashboard.source import RunSource, size_on_disk
from podlt.dashboard.stream import MessageStream
from podlt.errors import PodltError
from podlt.report.figures import read_figures
from podlt.report.history import read_history
from podlt.report.summary import summary_of
from podlt.store.run_files import open_run_files
from podlt.store.run_log import has_log
from podlt.store.run_names import LOG, LOG_PARTS

LOOK_SECONDS = 3.0
MOST_RUNS = 500
SUFFIX = ".podlt"


def runs_in(folder: Path) -> dict[str, Path]:
    """The runs of a folder by name: directories that have a log, and bundles."""
    found = {}
    for path in sorted(folder.iterdir()):
        if (path.is_dir() and has_log(path)) or (path.is_file() and path.suffix == SUFFIX):
            found[path.name] = path
    return dict(list(found.items())[:MOST_RUNS])


class RunFolder:
    """The runs of a folder, followed by a thread; and each run that somebody looks at, by another.

    Args:
        folder: that has them.
        work: works their figures out, and verifies.
    """

    def __init__(self, folder: Path, work: Executor) -> None:
        self._folder, self._list, self._work = folder, MessageStream(), work
        self._opened: dict[str, tuple[MessageStream, RunSource]] = {}
        self._known: dict[str, tuple[object, dict[str, Any]]] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look, name="podlt-dashboard-runs", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._list.show("header", name=self._folder.resolve().name, path=str(self._folder))
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stop.set()
        self._thread.join()
        for _, source in self._opened.values():
            source.stop()

    def stream(self, name: str) -> MessageStream | None:
        """The stream of a run, which is followed from now on; of the list for ""."""
        if not name:
            return self._list
        with self._lock:
            if name not in self._opened and name in (runs := runs_in(self._folder)):
                stream = MessageStream()
                source = RunSource(runs[name], stream)
                show_claims(source, runs[name], stream, self._work)
                source.start()
                self._opened[name] = stream, source
            return self._opened[name][0] if name in self._opened else None

    def _look(self) -> None:
        with suppress(RuntimeError, CancelledError):  # the dashboard ends
            self._look_again()

    def _look_again(self) -> None:
        while True:
            for name, path in runs_in(self._folder).items():
                if self._stop.is_set():
                    return
                state = _state(path)
                if self._known.get(name, (None, {}))[0] != state:
                    self._known[name] = state, self._work.submit(row_of, name, path).result()
                    self._show()
            self._show()
            if self._stop.wait(LOOK_SECONDS):
                return

    def _show(self) -> None:
        self._list.show("runs", rows=[row for _, (_, row) in sorted(self._known.items())])


def _state(path: Path) -> object:
    """Differs when there is something new of a run."""
    try:
        log = path / LOG if path.is_dir() else path
        files = [log, *(log.with_name(name) for name in LOG_PARTS)]
        return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    except OSError:
        return None


def row_of(name: str, path: Path) -> dict[str, Any]:
    """A run's figures, for the list; what is wrong with it where it cannot be read."""
    try:
        with open_run_files(path) as files:
            trained = what_is_trained(files)
        history, figures = read_history(path), read_figures(path)
    except PodltError as error:
        return {"name": name, "error": str(error)}
    summary = summary_of(history, figures)
    return {
        "name": name,
        "status": summary.status,
        "model": trained["facts"].get("Model", ""),
        "data": trained["facts"].get("Data", ""),
        "parameters": trained["parameters"],
        "epochs": [summary.epochs, history.state.epochs],
        "rounds": summary.rounds,
        "workers": [summary.left, summary.workers],
        "metrics": summary.metrics,
        "loss": history.rounds[-1].loss if history.rounds else None,
        "speed": summary.examples_per_second,
        "convicted": len(summary.convicted),
        "spare": summary.spare_share,
        "disk": size_on_disk(path),
        "started": history.started,
        "ended": history.ended,
        "series": [[one.epoch + 1, one.metrics] for one in history.measured],
    }
