"""Verification of a run's log: the numbered steps of docs/SPEC.md, section 6, by anyone, without PyTorch.

One pass: the entries between two tree heads are taken together; they must be in their form and in the tree, the head
must be the manager's, and then the rule book (`RunState.apply`) must allow each of them. Signatures are independent of
each other and cost the most, so they are checked by other processes meanwhile.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from podlt import crypto
from podlt.canonical import MAX_RECORD
from podlt.errors import InvalidProofError, PodltError
from podlt.log.checkpoint import Head, open_head, origin_of
from podlt.log.merkle import Tree, leaf_hash
from podlt.protocol import entries as e
from podlt.protocol.rules import RunState
from podlt.protocol.signatures import Claim, claims
from podlt.protocol.steps import Step
from podlt.signature_pool import SignaturePool
from podlt.store.files import read_whole
from podlt.store.run_log import open_run_log

Progress = Callable[[int, int], None]
"""Called now and then with the number of entries that were read, and of those that there are."""


class LogSource(Protocol):
    """Where entries and heads come from: a `LogStore`, or a log in memory."""

    def entries(self, first: int = 0) -> Iterable[tuple[int, bytes, bytes]]:
        """Number, leaf hash and bytes of each entry from `first` on."""

    def heads(self) -> list[tuple[int, str]]:
        """Size and signed note of each tree head, ascending by size."""


class StepReport(msgspec.Struct, frozen=True):
    """What a step came to; `passed` is None when a failure elsewhere ended it early, `figure` says what was seen."""

    step: Step
    passed: bool | None
    figure: str


class Verification(msgspec.Struct, frozen=True):
    """What verifying a log came to.

    Args:
        steps: one report a step, in order; failure: the first thing that is wrong, or None; state: the run after the
            last good entry; head: the last tree head that was checked; finished: whether the log ends with a close.
    """

    steps: list[StepReport]
    failure: InvalidProofError | None
    state: RunState
    head: Head | None
    finished: bool

    @property
    def ok(self) -> bool:
        """Whether everything holds, as far as the log goes."""
        return self.failure is None


def verify(
    directory: Path,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    manager_key: bytes | None = None,
    trusted_head: str | None = None,
) -> Verification:
    """Verifies the run in a directory: its log, its recipe and its program.

    Args:
        jobs: how many processes check signatures (the machine's cores by default); progress: see `Progress`;
        manager_key: the manager that is expected; trusted_head: a signed tree head that somebody kept.

    Raises:
        StorageError: there is no log, or it cannot be read; NewerFormatError: a newer program wrote it, and what this
        one can check of it holds.
    """
    recipe, program = _document(directory / "recipe.json"), _document(directory / "program.json")
    try:
        log = open_run_log(directory, readonly=True)
    except InvalidProofError as error:
        unreadable = InvalidProofError(error.reason, step=Step.FORM, expected=error.expected, actual=error.actual)
        return _Verifier(recipe, program, None, None, None).result(unreadable)
    try:
        return verify_log(
            log,
            recipe,
            program,
            jobs=jobs,
            progress=progress,
            manager_key=manager_key,
            trusted_head=trusted_head,
        )
    finally:
        log.close()


def verify_log(
    source: LogSource,
    recipe: bytes | None,
    program: bytes | None,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    manager_key: bytes | None = None,
    trusted_head: str | None = None,
) -> Verification:
    """Verifies a log against the bytes of its recipe and program (None: missing). Arguments and errors as `verify`."""
    verifier = _Verifier(recipe, program, manager_key, trusted_head, progress)
    with SignaturePool(jobs or multiprocessing.cpu_count()) as pool:
        failure: PodltError | None = None
        try:
            verifier.read(source, pool)
        except (InvalidProofError, e.NewerFormatError) as error:
            failure = error
        # A signature that fails belongs to an entry that was read before; the earliest entry is the one to name.
        failure = pool.first_failure() or failure
        if isinstance(failure, e.NewerFormatError):
            raise failure
        assert failure is None or isinstance(failure, InvalidProofError)
        return verifier.result(failure)


class _Verifier:
    """The pass over a log."""

    def __init__(
        self,
        recipe: bytes | None,
        program: bytes | None,
        manager_key: bytes | None,
        trusted_head: str | None,
        progress: Progress | None,
    ) -> None:
        self._documents = {"recipe": recipe, "program": program}
        self._expected_manager = manager_key
        self._trusted_note = trusted_head
        self._trusted: Head | None = None
        self._manager = b""
        self._origin = ""
        self._progress = progress
        self.state = RunState()
        self.tree = Tree()
        self.head: Head | None = None
        self.counts: Counter[str] = Counter()

    def read(self, source: LogSource, pool: SignaturePool) -> None:
        """Reads the whole log.

        Raises:
            InvalidProofError: the first thing that is wrong, but for signatures: those are the pool's.
        """
        rows = iter(source.entries())
        heads: deque[tuple[int, str]] = deque(source.heads())
        if not heads:
            raise InvalidProofError("the log has no tree head", step=Step.HEADS)
        while heads:
            size, note = heads.popleft()
            self._batch(rows, size, note, pool)
            if self._progress is not None:
                self._progress(self.tree.size, heads[-1][0] if heads else size)
            if not heads:  # the manager may have written more meanwhile
                heads.extend(head for head in source.heads() if head[0] > size)
        extra = next(rows, None)
        if extra is not None:
            raise InvalidProofError("covered by no tree head", entry=extra[0], step=Step.HEADS)
        self._end()

    def result(self, failure: InvalidProofError | None) -> Verification:
        """The report."""
        whole = True if failure is None else None
        failed = None if failure is None else failure.step
        reports = [StepReport(step, False if step == failed else whole, self._figure(step)) for step in Step]
        return Verification(reports, failure, self.state, self.head, self.state.closed is not None)

    # -- one batch: the entries between two heads --------------------------------------------------------------------

    def _batch(self, rows: Iterator[tuple[int, bytes, bytes]], size: int, note: str, pool: SignaturePool) -> None:
        first = self.tree.size
        if size <= first:
            raise InvalidProofError("tree heads out of order", step=Step.HEADS, expected=first + 1, actual=size)
        entries = []
        for number in range(first, size):
            entries.append(_decode(self._leaf(rows), number))
            if number == 0:
                self._begin(entries[0])
            self._check_trusted()
        self._check_head(first, size, note)
        for entry in entries:
            pool.add(self._claims(entry))
            self.state.apply(entry)
            self._count(entry)

    def _leaf(self, rows: Iterator[tuple[int, bytes, bytes]]) -> bytes:
        """The next entry's bytes, which must be those that its stored hash was made of."""
        expected = self.tree.size
        try:
            row = next(rows, None)
        except InvalidProofError as error:
            raise InvalidProofError(error.reason, entry=error.entry, step=Step.FORM) from None
        if row is None or row[0] != expected:
            raise InvalidProofError("the entry is missing", entry=expected, step=Step.FORM)
        _, leaf, body = row
        found = leaf_hash(body)
        if found != leaf:
            raise InvalidProofError(
                "the entry is not the one that was logged", entry=expected, step=Step.TREE, expected=leaf, actual=found
            )
        self.tree.append(leaf)
        return body

    def _check_trusted(self) -> None:
        trusted = self._trusted
        if trusted is not None and trusted.size == self.tree.size and trusted.root != self.tree.root():
            raise InvalidProofError(
                f"the log is not the one of the trusted head of {trusted.size} entries",
                step=Step.TREE,
                expected=trusted.root,
                actual=self.tree.root(),
            )

    def _begin(self, entry: e.AnyEntry) -> None:
        """What must hold before the first head can be checked: who the manager is."""
        if not isinstance(entry, e.Begin):
            raise InvalidProofError("the first entry must be begin", entry=0, step=Step.PROGRESS)
        expected, self._manager = self._expected_manager, entry.manager
        if expected not in (None, entry.manager):
            message = "the run is another manager's"
            raise InvalidProofError(message, entry=0, step=Step.HEADS, expected=expected, actual=entry.manager)
        self._origin = origin_of(e.identity(entry))
        if self._trusted_note is not None:
            self._trusted = self._open_head(self._trusted_note, "the trusted head")
        for name, raw in self._documents.items():
            expected = getattr(entry, name)
            if raw is None:
                raise InvalidProofError(f"{name}.json is missing", entry=0, step=Step.DOCUMENTS)
            found = crypto.digest(f"{name}/1", raw)
            if found != expected:
                message = f"{name}.json is not the run's"
                raise InvalidProofError(message, entry=0, step=Step.DOCUMENTS, expected=expected, actual=found)

    def _check_head(self, first: int, size: int, note: str) -> None:
        head = self._open_head(note, f"the tree head over {size} entries")
        if head.size != size:
            raise InvalidProofError("tree head of another size", step=Step.HEADS, expected=size, actual=head.size)
        if head.root != self.tree.root():
            message = f"entries {first} to {size - 1} are not those of the tree head over {size}"
            raise InvalidProofError(message, step=Step.TREE, expected=head.root, actual=self.tree.root())
        self.head = head
        self.counts["heads"] += 1

    def _open_head(self, note: str, name: str) -> Head:
        try:
            return open_head(note, self._manager, self._origin)
        except InvalidProofError as error:
            message = f"{name}: {error.reason}"
            raise InvalidProofError(message, step=Step.HEADS, expected=error.expected, actual=error.actual) from None

    # -- what the rules do not say -----------------------------------------------------------------------------------

    def _claims(self, entry: e.AnyEntry) -> list[Claim]:
        found = claims(self.state, entry)
        self.counts["signatures"] += len(found)
        return found

    def _count(self, entry: e.AnyEntry) -> None:
        self.counts[e.kind_of(type(entry))] += 1
        if isinstance(entry, e.Reveal):
            self.counts["openings"] += len(entry.openings)
        elif isinstance(entry, e.Verdict):
            self.counts[entry.outcome] += 1
            self.counts["evicted"] += len(entry.evicted)
        elif isinstance(entry, e.Pay | e.Return):
            self.counts["transfers"] += len(entry.transfers)

    def _end(self) -> None:
        trusted = self._trusted
        if trusted is not None and trusted.size > self.tree.size:
            message = "the log was cut: the trusted head is over more entries"
            raise InvalidProofError(message, step=Step.TREE, expected=trusted.size, actual=self.tree.size)
        if self.state.ledger.total() != 0:
            message = "the accounts do not sum to zero"
            raise InvalidProofError(message, step=Step.PAYMENTS, expected=0, actual=self.state.ledger.total())

    def _figure(self, step: Step) -> str:
        n, state = self.counts, self.state
        if step == Step.OUTCOME:
            return (
                "the run goes on" if state.closed is None else f"{state.closed.outcome} {state.closed.reason}".strip()
            )
        if step == Step.VERDICTS:
            return (
                f"{n['agree']} proofs, {n['vote']} votes, {n['referee']} by the manager's own execution; "
                f"{n['evicted']} evicted"
            )
        taken = f", {state.ledger.taken} in deposits" if state.ledger.taken else ""
        figures = {
            Step.FORM: f"{self.tree.size} entries",
            Step.TREE: f"root {self.tree.root().hex()[:16]} over {self.tree.size} entries",
            Step.HEADS: f"{n['heads']} tree heads",
            Step.DOCUMENTS: "2 documents",
            Step.SIGNATURES: f"{n['signatures']} signatures",
            Step.PROGRESS: f"{state.round} rounds, {state.epoch} epochs, {len(state.workers)} workers",
            Step.DRAWS: f"{n['reveal']} draws, {n['redeal']} tasks dealt again",
            Step.OPENINGS: f"{n['openings']} openings",
            Step.PAYMENTS: f"{n['transfers']} transfers, {-state.ledger.treasury} credits owed or paid{taken}",
        }
        return figures[step]


def _decode(body: bytes, number: int) -> e.AnyEntry:
    try:
        return e.decode(body)
    except InvalidProofError as error:
        raise InvalidProofError(error.reason, entry=number, step=Step.FORM) from None
    except e.NewerFormatError as error:
        raise e.NewerFormatError(f"entry {number}: {error}") from None


def _document(path: Path) -> bytes | None:
    return read_whole(path, MAX_RECORD) if path.is_file() else None
