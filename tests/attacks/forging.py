"""A simulated run whose manager edits the log that it wrote, and signs all tree heads anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from podlt.canonical import encode
from podlt.crypto import SigningKey
from podlt.log.merkle import EMPTY_ROOT, Tree, leaf_hash
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import JoinTerms, TreeSize
from podlt.protocol.rules import RunState
from podlt.protocol.worker import Worker
from podlt.sim.world import MemoryLog, World
from podlt.verify import Verification, verify_log
from podlt.verify.documents import Documents

Bodies = list[bytes]
Make = Callable[[], Bodies]


class Forgery(msgspec.Struct, frozen=True):
    """One edit.

    Attributes:
        what: the manager did, for the document.
        make: gives the entries' bytes as they are to be.
        claims: of `verify` that fail; none if it accepts the log.
        tells: what tells where `verify` does not.
    """

    what: str
    make: Make
    claims: tuple[Claim, ...] = ()
    tells: str = ""


class ForgedRun:
    """A run as it was, and ways to edit its log.

    Args:
        world: has everybody's keys.
        log: what it wrote.
    """

    def __init__(self, world: World, log: MemoryLog) -> None:
        self.world, self.log = world, log
        self.bodies: Bodies = [body for _, _, body in log.entries()]
        self.entries: list[e.AnyEntry] = [e.decode(body) for body in self.bodies]
        self.documents = Documents(world.recipe, world.program)
        first = self.entries[0]
        assert isinstance(first, e.Begin)
        self.begin = first

    def signed(self, bodies: Bodies) -> MemoryLog:
        """A log of these entries, with tree heads where the honest run has them and over all."""
        sizes = {size for size, _ in self.log.heads() if size < len(bodies)} | {len(bodies)}
        log, tree, start = MemoryLog(), Tree(), 0
        try:
            first = e.decode(bodies[0])
        except Exception:
            first = self.begin
        origin = origin_of(e.identity(first if isinstance(first, e.Begin) else self.begin))
        for size in sorted(sizes):
            batch, at = bodies[start:size], start
            for body in batch:
                tree.append(leaf_hash(body))
            log.append(at, batch, sign_head(Head(origin, size, tree.root()), self.world.key))
            start = size
        return log

    def verified(self, bodies: Bodies) -> Verification:
        """What `verify` says of a forged log."""
        return verify_log(self.signed(bodies), self.documents, jobs=1)

    # -- editing -----------------------------------------------------------------------------------------------------

    def places(self, kind: type[e.Entry], holds: Callable[[Any], bool] = lambda entry: True) -> list[int]:
        """Where the entries of a kind are, of which something holds."""
        return [i for i, entry in enumerate(self.entries) if isinstance(entry, kind) and holds(entry)]

    def place(self, kind: type[e.Entry], nth: int = 0) -> int:
        """Where the n-th entry of a kind is, from the end if it is below 0."""
        return self.places(kind)[nth]

    def edited(self, at: int, /, **fields: Any) -> Make:
        """The log with some fields of an entry replaced."""
        return self.with_body(at, lambda body: encode(msgspec.structs.replace(self.entries[at], **fields)))

    def with_body(self, at: int, change: Callable[[bytes], bytes]) -> Make:
        return lambda: [*self.bodies[:at], change(self.bodies[at]), *self.bodies[at + 1 :]]

    def without(self, start: int, stop: int) -> Make:
        return lambda: self.bodies[:start] + self.bodies[stop:]

    def inserted(self, at: int, *entries: e.Entry | bytes) -> Make:
        found = [entry if isinstance(entry, bytes) else encode(entry) for entry in entries]
        return lambda: self.bodies[:at] + found + self.bodies[at:]

    def cut(self, at: int, *entries: e.Entry) -> Make:
        return lambda: self.bodies[:at] + [encode(entry) for entry in entries]

    def swapped(self, at: int) -> Make:
        return lambda: [*self.bodies[:at], self.bodies[at + 1], self.bodies[at], *self.bodies[at + 2 :]]

    def document(self, at: int, change: Callable[[dict[str, Any]], Any]) -> Make:
        """The log with an entry that is encoded from another map."""

        def encoded(body: bytes) -> bytes:
            found = msgspec.msgpack.decode(body)
            return msgspec.msgpack.encode(change(found) or found)

        return self.with_body(at, encoded)

    def transfers(self, at: int, change: Callable[[list[e.Transfer]], list[e.Transfer]]) -> Make:
        entry = self.entries[at]
        assert isinstance(entry, e.Pay | e.Release)
        return self.edited(at, transfers=change(list(entry.transfers)))

    def joining(
        self, worker: int, key: SigningKey, at: int, *, seen: TreeSize | None = None, operator: str = ""
    ) -> e.Join:
        """A worker joins between rounds, on terms that it signed; it saw no head unless one is given."""
        head = seen or TreeSize(0, EMPTY_ROOT)
        terms = JoinTerms(worker, 0, head.size, head.root, operator)
        given = Worker(worker, key, e.identity(self.begin)).join(terms)
        return e.Join(
            at=self.entries[at].at,
            worker=worker,
            key=key.public,
            operator=operator,
            deposit=0,
            seen=head.size,
            root=head.root,
            signature=given.terms,
            share=given.share,
        )

    # -- looking -----------------------------------------------------------------------------------------------------

    def head_over(self, size: int) -> TreeSize:
        """What a head over so many entries says."""
        tree = Tree()
        for body in self.bodies[:size]:
            tree.append(leaf_hash(body))
        return TreeSize(size, tree.root())

    def last_head(self, at: int) -> TreeSize:
        """The last head that was there before an entry."""
        return self.head_over(max(size for size, _ in self.log.heads() if size <= at))

    def state_before(self, at: int) -> RunState:
        """The run before an entry."""
        state = RunState()
        for entry in self.entries[:at]:
            state.apply(entry)
        return state
