"""Prometheus metrics of a run: what its log comes to, and how it goes now. docs/OPERATIONS.md lists them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from podlt.manager import events as ev
from podlt.monitoring.log_totals import LogFollower, LogTotals, ProcessorSeconds

BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
STATUSES = ("active", "withdrawn", "suspended", "evicted")
OUTCOMES = ("vote", "referee")
_TRAFFIC = (
    ("podlt_received_bytes", "From workers, by their connections"),
    ("podlt_sent_bytes", "To workers, by their connections"),
)
_OF_WORKERS = (
    ("podlt_worker_task_seconds", "What a task takes a worker of late, from dealing to the whole update", "seconds"),
    ("podlt_worker_examples_per_second", "Examples of a worker a second of its tasks", "examples_per_second"),
    ("podlt_worker_tasks", "Tasks of a worker since it came", "tasks"),
    ("podlt_worker_late", "Tasks of a worker that were late, and dealt to somebody else as well, or again", "late"),
    ("podlt_worker_unopened", "Commitments that a worker did not open in time", "unopened"),
    ("podlt_worker_wrong", "Messages or uploads of a worker that were malformed, or not as committed to", "wrong"),
    ("podlt_worker_received_bytes", "From a worker", "received"),
    ("podlt_worker_silent_seconds", "Since anything came from a worker", "silent"),
)


class Metrics:
    """A listener that keeps a run's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._follower: LogFollower | None = None
        self._build = Gauge(
            "podlt_build_info", "Always 1: the versions, and the run", ["version", "python", "run"], registry=registry
        )
        self._build.labels(version("podlt"), platform.python_version(), "").set(1)
        self._seconds = Histogram(
            "podlt_round_seconds", "From a round's opening to its payment", registry=registry, buckets=BUCKETS
        )
        self._last = Gauge("podlt_last_round_timestamp_seconds", "When the last round was done", registry=registry)
        self._number = Gauge("podlt_round", "Number of the last round that was done", registry=registry)
        self._expected = Gauge("podlt_rounds_expected", "How many there will be, if nobody leaves", registry=registry)
        self._wanted = Gauge(
            "podlt_workers_awaited", "How many workers are wanted where too few are there, else 0", registry=registry
        )
        self._connected = Gauge("podlt_workers_connected", "How many workers are connected", registry=registry)
        self._traffic = (0, 0)
        self._published = Counter(
            "podlt_published_bytes",
            "Parameters as they were published, once, however many fetched them",
            ["way"],
            registry=registry,
        )
        self._replaced = Counter(
            "podlt_processes_replaced", "Worker processes of this machine that died", registry=registry
        )
        self._workers: list[ev.WorkerFigures] = []
        self._held_up = Counter(
            "podlt_rounds_held_up", "Rounds that waited for one worker alone", ["worker"], registry=registry
        )
        self._handlers: ev.Handlers = {
            ev.WorkersSeen: self._see,
            ev.HeldUp: lambda event: self._held_up.labels(str(event.worker)).inc(),
            ev.Started: self._started,
            ev.RoundDone: self._round,
            ev.Waiting: lambda event: self._wanted.set(event.wanted),
            ev.Gathered: lambda event: self._wanted.set(0),
            ev.Connected: self._count,
            ev.Published: lambda event: self._published.labels(event.way).inc(event.size),
            ev.Replaced: lambda event: self._replaced.inc(),
        }
        registry.register(self)

    def __call__(self, event: ev.Event) -> None:
        """Takes an event."""
        ev.handle(self._handlers, event)

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self.registry)

    def close(self) -> None:
        """Closes the log that is followed."""
        if self._follower is not None:
            self._follower.close()

    def collect(self) -> Iterator[Metric]:
        """What the log comes to; prometheus_client calls it when it is asked, so that nobody reads it in vain."""
        for name, text, field in _OF_WORKERS:
            family = GaugeMetricFamily(name, text, labels=["worker"])
            for one in self._workers:
                family.add_metric([str(one.worker)], getattr(one, field))
            yield family
        for (name, text), total in zip(_TRAFFIC, self._traffic, strict=True):
            yield CounterMetricFamily(name, text, value=total)
        if self._follower is None:
            return
        whole = self._follower.catch_up()
        yield GaugeMetricFamily("podlt_log_read", "Whether the log was read to its end just now", value=float(whole))
        yield from _of_totals(self._follower.totals)
        yield from _of_processors(self._follower.spent)

    def _round(self, event: ev.RoundDone) -> None:
        self._seconds.observe(event.seconds)
        self._number.set(event.round)
        self._expected.set(event.rounds)
        self._last.set_to_current_time()
        self._wanted.set(0)

    def _see(self, event: ev.WorkersSeen) -> None:
        self._workers = event.workers

    def _count(self, event: ev.Connected) -> None:
        self._connected.set(event.workers)
        self._traffic = (event.received, event.sent)

    def _started(self, event: ev.Started) -> None:
        self._build.clear()
        self._build.labels(version("podlt"), platform.python_version(), event.run).set(1)
        self._expected.set(event.rounds)
        self._wanted.set(0)
        self.close()
        self._follower = LogFollower(Path(event.path).absolute())


def _of_totals(totals: LogTotals) -> Iterator[Metric]:
    for name, text, total in (
        ("rounds", "Rounds that trained, since the run began", totals.rounds),
        ("examples", "Examples that were trained on, over all epochs", totals.examples),
        ("withdrawals", "Workers that went without fraud", totals.withdrawals),
        ("returns", "Workers that came back after a withdrawal or a suspension", totals.returns),
        ("redeals", "Tasks that were dealt again", totals.redeals),
        ("share_changes", "How often workers got other shares of the rounds", totals.share_changes),
        ("agreements", "Shards whose results were all the same", totals.agreements),
        ("executions", "Shards that the manager executed itself", totals.executions),
        ("clipped", "Updates that were scaled down before they were averaged", totals.clipped),
        ("log_entries", "Entries of the log that are on the disk", totals.entries),
    ):
        yield CounterMetricFamily(f"podlt_{name}", text, value=total)
    yield GaugeMetricFamily("podlt_epoch", "The epoch of the last round, from 0", value=totals.epoch)
    yield GaugeMetricFamily("podlt_run_stopped", "1 after the log was closed", value=float(bool(totals.closed)))
    if totals.loss is not None:
        yield GaugeMetricFamily("podlt_loss", "Training loss of the last round", value=totals.loss)
    figures = GaugeMetricFamily("podlt_test_figure", "On the test set, by the last epoch", labels=["name"])
    for name, value in totals.figures.items():  # one that is not finite any more is not there
        figures.add_metric([name], value)
    yield figures
    levels = GaugeMetricFamily("podlt_worker_level", "Speed of a worker, in steps of two", labels=["worker"])
    for worker, level in totals.levels.items():
        levels.add_metric([str(worker)], level)
    yield levels
    workers = GaugeMetricFamily("podlt_workers", "Workers by what became of them", labels=["status"])
    found = list(totals.workers.values())
    for status in STATUSES:
        workers.add_metric([status], found.count(status))
    yield workers
    convictions = CounterMetricFamily("podlt_convictions", "Convictions by the verdict's outcome", labels=["outcome"])
    for outcome in OUTCOMES:
        convictions.add_metric([outcome], totals.convictions.get(outcome, 0))
    yield convictions
    credits = GaugeMetricFamily("podlt_credits", "Credits of all workers", labels=["state"])
    for state in ("pending", "vested", "forfeited", "deposits", "returned", "seized"):
        credits.add_metric([state], getattr(totals, state))
    yield credits


def _of_processors(spent: ProcessorSeconds) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "podlt_proof_seconds", "Hashes, signatures, comparisons; summed over processes and threads", value=spent.proof
    )
    yield CounterMetricFamily(
        "podlt_compute_seconds", "Executing tasks; summed over processes and threads", value=spent.compute
    )
