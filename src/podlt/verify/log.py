"""The pass over a run's log: each entry in its form, in the tree, under a signed head, and allowed by the rules."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from podlt.errors import InvalidProofError, NotCheckedError, UsageError
from podlt.log.merkle import EMPTY_ROOT, Tree, leaf_hash
from podlt.log.tree_head import Head, is_origin, open_head, origin_of
from podlt.protocol import entries as e
from podlt.protocol.claims import Checked, Claim, Finding, Outcome
from podlt.protocol.rules import RunState
from podlt.protocol.signatures import SignatureCheck, signature_checks
from podlt.signature_pool import SignaturePool
from podlt.verify.cosigned import NOBODY, Cosigned, SeenHeads
from podlt.verify.documents import Documents, check_terms
from podlt.verify.figures import figure_of

Progress = Callable[[int, int], None]
"""Called now and then with the number of entries that were read, and of those that there are."""


class LogSource(Protocol):
    """Where entries and heads come from: a `LogStore`, a bundle, or a log in memory."""

    def entries(self, first: int = 0) -> Iterable[tuple[int, bytes, bytes]]:
        """Number, leaf hash and bytes of each entry from `first` on."""

    def heads(self, above: int = 0) -> list[tuple[int, str]]:
        """Size and signed note of each tree head over more than so many entries, ascending by size."""


class Verification(Checked, frozen=True):
    """What verifying a log came to.

    Attributes:
        findings: one for each claim, in order, those of `audit` included.
        failure: the first thing that is wrong, or None.
        state: the run after the last good entry.
        head: the last tree head that was checked, as a signed note, or "".
        counts: what was looked at.
        documents: recipe and program, as far as they were there.
    """

    failure: InvalidProofError | None
    state: RunState
    head: str
    counts: Counter[str]
    documents: Documents


class LogVerifier:
    """The pass over a log.

    Args:
        documents: recipe and program, as far as they are there.
        manager_key: the manager that is expected, or None.
        trusted_head: a signed tree head of before, which the log must contain, or None.
        progress: called after each tree head.
        cosigned: the witnesses that are demanded, and what is there of cosignatures.
    """

    def __init__(
        self,
        documents: Documents,
        manager_key: bytes | None,
        trusted_head: str | None,
        progress: Progress | None,
        cosigned: Cosigned = NOBODY,
    ) -> None:
        self._documents = documents
        self._expected_manager = manager_key
        self._trusted_note = trusted_head
        self._trusted: Head | None = None
        self._manager = b""
        self._origin = ""
        self._progress = progress
        self._cosigned, self._seen = cosigned, SeenHeads()
        self._roots = {0: EMPTY_ROOT}
        self._found: dict[Claim, Finding] = {}
        self.state = RunState()
        self.tree = Tree()
        self.head = ""
        self.counts: Counter[str] = Counter()

    def read(self, source: LogSource, pool: SignaturePool) -> None:
        """Reads the whole log.

        Raises:
            InvalidProofError: the first thing that is wrong, but for signatures: those are the pool's.
            NotCheckedError: a newer podlt wrote it.
            UsageError: what is to be trusted is no tree head.
        """
        rows = iter(source.entries())
        heads: deque[tuple[int, str]] = deque(source.heads())
        if not heads:
            raise InvalidProofError("the log has no tree head", step=Claim.HEADS)
        while heads:
            size, note = heads.popleft()
            self._batch(rows, size, note, pool)
            if self._progress is not None:
                self._progress(self.tree.size, heads[-1][0] if heads else size)
            if not heads:  # the manager may have written more meanwhile
                heads.extend(source.heads(above=size))
        extra = next(rows, None)
        if extra is not None:
            raise InvalidProofError("covered by no tree head", entry=extra[0], step=Claim.HEADS)
        self._end()

    def result(self, failure: InvalidProofError | None) -> Verification:
        """The report: every claim has a finding. What is wrong with the log's container is wrong with its form."""
        if failure is not None and not failure.step:
            failure = in_form(failure)
        findings = [self._finding(claim, failure) for claim in Claim]
        failure = failure or first_failure(findings)
        return Verification(findings, failure, self.state, self.head, self.counts, self._documents)

    def _finding(self, claim: Claim, failure: InvalidProofError | None) -> Finding:
        if failure is not None and failure.step == claim:
            figure = "" if claim is Claim.CONTINUITY else self._figure(claim)  # which says that it holds
            return Finding(claim, Outcome.FAILS, figure, why=str(failure))
        if claim in self._found:
            return self._found[claim]
        if claim.command == "audit":
            return Finding(claim, Outcome.NOT_CHECKED, why="needs PyTorch and the data", remedy=_AUDIT, asked=False)
        if claim is Claim.MANAGER and self._expected_manager is None:
            why = "no key was given"
            return Finding(claim, Outcome.NOT_CHECKED, self._figure(claim), why, "--manager-key HEX", asked=False)
        if claim is Claim.CONTINUITY and self._trusted_note is None:
            why = "no head was given: another log may have been shown to others"
            return Finding(claim, Outcome.NOT_CHECKED, "", why, "--head FILE", asked=False)
        if claim is Claim.WITNESSES:
            return self._seen.finding(self._documents.witnesses, self.tree.size, log_holds=failure is None)
        if claim is Claim.MODEL:
            return Finding(claim, Outcome.NOT_CHECKED, why="only the log was given")
        if failure is not None:
            return Finding(claim, Outcome.NOT_CHECKED, self._figure(claim), why="the log was not read to its end")
        return Finding(claim, Outcome.HOLDS, self._figure(claim))

    # -- one batch: the entries between two heads --------------------------------------------------------------------

    def _batch(self, rows: Iterator[tuple[int, bytes, bytes]], size: int, note: str, pool: SignaturePool) -> None:
        first = self.tree.size
        if size <= first:
            raise InvalidProofError("tree heads out of order", step=Claim.HEADS, expected=first + 1, actual=size)
        entries = []
        for number in range(first, size):
            entries.append(_decode(self._leaf(rows), number))
            if number == 0:
                self._begin(entries[0])
            self._check_trusted()
            self._seen.reach(self.tree)
        self._check_head(first, size, note)
        for entry in entries:
            pool.add(self._signatures(entry))
            self._count(entry)
            if isinstance(entry, e.Shares):
                self._check_shares()
            self.state.apply(entry)

    def _leaf(self, rows: Iterator[tuple[int, bytes, bytes]]) -> bytes:
        """The next entry's bytes, which must be those that its stored hash was made of."""
        expected = self.tree.size
        try:
            row = next(rows, None)
        except InvalidProofError as error:
            raise InvalidProofError(error.reason, entry=error.entry, step=Claim.FORM) from None
        if row is None or row[0] != expected:
            raise InvalidProofError("the entry is missing", entry=expected, step=Claim.FORM)
        _, leaf, body = row
        found = leaf_hash(body)
        if found != leaf:
            raise InvalidProofError(
                "the entry is not the one that was logged", entry=expected, step=Claim.TREE, expected=leaf, actual=found
            )
        self.tree.append(leaf)
        return body

    def _check_trusted(self) -> None:
        trusted = self._trusted
        if trusted is not None and trusted.size == self.tree.size and trusted.root != self.tree.root():
            raise InvalidProofError(
                f"the log is not the one of the head that you kept, over {trusted.size} entries",
                step=Claim.CONTINUITY,
                expected=trusted.root,
                actual=self.tree.root(),
            )

    def _begin(self, entry: e.AnyEntry) -> None:
        """What must hold before the first head can be checked: who the manager is, and what it promised."""
        if not isinstance(entry, e.Begin):
            raise InvalidProofError("the first entry must be begin", entry=0, step=Claim.PROGRESS)
        expected, self._manager = self._expected_manager, entry.manager
        if expected not in (None, entry.manager):
            message = "the run is another manager's"
            raise InvalidProofError(message, entry=0, step=Claim.MANAGER, expected=expected, actual=entry.manager)
        self._origin = origin_of(e.identity(entry))
        self._seen = self._cosigned.over(self._origin)
        if self._trusted_note is not None:
            self._trusted = self._open_trusted(self._trusted_note)
        self._found[Claim.DOCUMENTS] = self._documents.check(entry)
        self._found[Claim.TERMS] = check_terms(self._documents, entry)

    def _open_trusted(self, note: str) -> Head:
        try:
            return open_head(note, self._manager, self._origin)
        except InvalidProofError as error:
            if error.reason == "checkpoint of another log" and is_origin(error.actual):
                message = "the head that you kept is another run's"
                found = InvalidProofError(message, step=Claim.CONTINUITY, expected=error.actual, actual=error.expected)
                raise found from None
            raise UsageError(f"trusted head (--head): not a signed tree head of this run: {error}") from None

    def _check_head(self, first: int, size: int, note: str) -> None:
        try:
            head = open_head(note, self._manager, self._origin)
        except InvalidProofError as error:
            message = f"the tree head over {size} entries: {error.reason}"
            found = InvalidProofError(message, step=Claim.HEADS, expected=error.expected, actual=error.actual)
            raise found from None
        if head.size != size:
            raise InvalidProofError("tree head of another size", step=Claim.HEADS, expected=size, actual=head.size)
        if head.root != self.tree.root():
            message = f"entries {first} to {size - 1} are not those of the tree head over {size}"
            raise InvalidProofError(message, step=Claim.TREE, expected=head.root, actual=self.tree.root())
        self.head = note
        self._roots[size] = head.root
        self.counts["heads"] += 1

    # -- what the rules do not say -----------------------------------------------------------------------------------

    def _signatures(self, entry: e.AnyEntry) -> list[SignatureCheck]:
        if isinstance(entry, e.Join) and self._roots.get(entry.seen) != entry.root:
            message = f"worker {entry.worker} signed a tree head that this log does not have"
            raise InvalidProofError(message, entry=self.state.index, step=Claim.SIGNATURES)
        found = signature_checks(self.state, entry)
        self.counts["signatures"] += len(found)
        return found

    def _check_shares(self) -> None:
        if self._found[Claim.TERMS].outcome is Outcome.HOLDS and self._documents.gives_equal_shares:
            message = "workers get other levels, and the recipe gives them equal shares"
            raise InvalidProofError(message, entry=self.state.index, step=Claim.TERMS)

    def _count(self, entry: e.AnyEntry) -> None:
        """Counts what the summary shows; `self.state` is the run before the entry."""
        self.counts[e.kind_of(type(entry))] += 1
        round = self.state.current
        if isinstance(entry, e.Withdraw):
            self.counts["rescued"] += round is not None and entry.worker in round.bound
        elif isinstance(entry, e.Open):
            self.counts["shards"] += len(entry.shards)
        elif isinstance(entry, e.Reveal):
            self.counts["openings"] += len(entry.openings)
        elif isinstance(entry, e.Verdict):
            self.counts[entry.outcome] += 1
            self.counts["convicted"] += len(entry.convicted)
        elif isinstance(entry, e.Pay | e.Release):
            self.counts["transfers"] += len(entry.transfers)

    def _end(self) -> None:
        trusted = self._trusted
        if trusted is not None and trusted.size > self.tree.size:
            message = "the log was cut: the head that you kept is over more entries"
            raise InvalidProofError(message, step=Claim.CONTINUITY, expected=trusted.size, actual=self.tree.size)
        if self.state.ledger.total() != 0:
            message = "the accounts do not sum to zero"
            raise InvalidProofError(message, step=Claim.PAYMENTS, expected=0, actual=self.state.ledger.total())

    def _figure(self, claim: Claim) -> str:
        return figure_of(claim, self.state, self.tree, self.counts)


_AUDIT = "podlt audit RUN --fraction 1"


def _decode(body: bytes, number: int) -> e.AnyEntry:
    try:
        return e.decode(body)
    except InvalidProofError as error:
        raise InvalidProofError(
            error.reason, entry=number, step=Claim.FORM, expected=error.expected, actual=error.actual
        ) from None
    except NotCheckedError as error:
        if number:  # a log is of one format: its first entry says which
            raise InvalidProofError(f"an entry of another format: {error}", entry=number, step=Claim.FORM) from None
        raise


def first_failure(findings: Iterable[Finding]) -> InvalidProofError | None:
    """The first claim that fails, as an error; those of documents and terms are about the first entry."""
    for finding in findings:
        if finding.outcome is Outcome.FAILS:
            entry = 0 if finding.claim in (Claim.DOCUMENTS, Claim.TERMS) else None
            return InvalidProofError(finding.why, entry=entry, step=finding.claim)
    return None


def in_form(error: InvalidProofError) -> InvalidProofError:
    """The same failure, as one of the log's form."""
    return InvalidProofError(
        error.reason, entry=error.entry, step=Claim.FORM, expected=error.expected, actual=error.actual
    )
