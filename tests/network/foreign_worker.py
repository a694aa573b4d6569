"""A worker that knows nothing of podlt but docs/WIRE.md and docs/SPEC.md: it holds that these texts are enough."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from blake3 import blake3
from msgspec import msgpack
from nacl.signing import SigningKey, VerifyKey
from standards import WebSocket, check_path, connect, request

Record = dict[str, Any]
# program, parameters, fields of the examples with their bytes, randomness -> update
Execute = Callable[[bytes, bytes, Sequence[tuple[Record, bytes]], bytes], bytes]
CONTROL, EVERYBODY, VERSION, HEARTBEAT = 0xFFFE, 0xFFFF, 7, 2.0
ITEM_BYTES = {"u8": 1, "f32": 4, "i64": 8, "i32": 4}


def u64(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "big") for number in numbers)


def digest(domain: str, *parts: bytes) -> bytes:  # SPEC 2.1
    name = f"podlt/{domain}".encode()
    return hashlib.sha256(bytes([len(name)]) + name + b"".join(u64(len(p)) + p for p in parts)).digest()


def decode(data: bytes) -> Any:  # SPEC 1.2
    record = msgpack.decode(data)
    assert msgpack.encode(record) == data, "not the canonical encoding"
    return record


def unpacked(data: bytes, size: int) -> bytes:  # WIRE, Writing
    words = (data[i : i + 4] for i in range((size + 127) // 128 * 4, len(data), 4))
    found = (next(words) if data[i // 8] >> i % 8 & 1 else bytes(4) for i in range(size // 4))
    return data if len(data) == size else b"".join(found)


def check(key: bytes, domain: str, message: bytes, signature: bytes) -> None:  # SPEC 2.2
    VerifyKey(key).verify(digest(domain, message), signature)


class ForeignWorker:
    def __init__(self, invitation: str, execute: Execute, arithmetic: str) -> None:
        body = invitation.strip().removeprefix("podlt1-")
        self.invitation = decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        self.manager, bare = self.invitation["manager"], msgpack.encode(self.invitation | {"signature": bytes(64)})
        check(self.manager, "invitation/1", bare, self.invitation["signature"])
        self.execute, self.arithmetic = execute, arithmetic
        self.key, self.process, self.host = SigningKey.generate(), os.urandom(8), self.invitation["servers"][0][8:]
        self.public, self.certificate = bytes(self.key.verify_key), self.invitation["certificate"]
        self.server = hashlib.sha256(self.certificate).digest()
        self.setup, self.done = Record(), dict[tuple[bytes, int], tuple[bytes, bytes, bytes, bytes]]()
        self.waiting, self.receipts, self.paid = list[bytes](), list[Any](), dict[int, int]()
        self.program = self.run = self.deal = self.parameters = b""
        self.number, self.index, self.seen, self.sent, self.credit, self.outcome = -1, -1, 0, 0, 0, ""

    def sign(self, domain: str, message: bytes) -> bytes:
        return self.key.sign(digest(domain, message)).signature

    def work(self) -> None:
        self.socket, beat = WebSocket(connect(self.host, self.certificate), self.host, "/session"), 0.0
        while not self.outcome:
            if time.monotonic() >= beat:
                beat = time.monotonic() + HEARTBEAT
                self.beat()
            if message := self.socket.next(beat):
                assert int.from_bytes(message[:2], "big") in (CONTROL, EVERYBODY, self.index)
                kind = (record := decode(message[2:])).pop("kind")
                assert kind not in ("login_refused", "refused", "dismissed"), record
                self.number, self.outcome = record.get("number", self.number), record.get("outcome", "")
                getattr(self, f"on_{kind}", lambda **_: None)(**record)
        self.send(self.index, "leave", reason="the run is over")
        self.send(CONTROL, "logout", index=self.index)
        self.socket.close()

    def send(self, number: int, kind: str, **fields: Any) -> None:
        self.waiting.append(number.to_bytes(2, "big") + msgpack.encode({"kind": kind} | fields))
        self.on_credit(self.credit)

    def on_credit(self, limit: int) -> None:
        self.credit = limit
        while self.waiting and self.sent + len(self.waiting[0]) <= self.credit:
            self.sent += len(self.waiting[0])
            self.socket.send(self.waiting.pop(0))

    def beat(self, joins: bool = False) -> None:
        if self.index >= 0 and not self.setup:
            self.send(self.index, "hello", version=VERSION)
        elif self.index >= 0 and (joins or self.number < 0):
            self.send(self.index, "join", run=self.run, process=self.process, arithmetic=self.arithmetic, differing="")
        elif self.index >= 0:
            self.send(self.index, "heartbeat", deal_id=self.deal, in_hand=[])

    def on_manager_hello(self, run: bytes) -> None:
        self.beat(joins=True)

    def on_challenge(self, version: int, nonce: bytes, credit: int) -> None:
        channel, asked = digest("channel/1", self.manager).hex()[:16], {"key": self.public}
        asked |= {"secret": self.invitation["secret"], "deposit": self.invitation["deposit"]}
        signed = msgpack.encode({"channel": channel, "server": self.server, "nonce": nonce} | asked)
        self.on_credit(credit)
        self.send(CONTROL, "login", **asked, signature=self.sign("login/2", signed))

    def on_logged_in(self, key: bytes, index: int) -> None:
        self.index = index
        self.beat()

    def on_setup(self, **setup: Any) -> None:
        bare, begin = {"kind": "setup"} | setup | {"signature": b""}, decode(setup["begin"])
        check(self.manager, "setup/2", msgpack.encode(bare), setup["signature"])
        assert (begin["manager"], begin["kind"], setup["version"]) == (self.manager, "begin/4", VERSION)
        self.run, self.setup = digest("run/4", msgpack.encode(begin | {"at": 0})), setup
        self.program = self.blob(setup["program"], setup["program_blob"], setup["program_size"])
        self.beat()

    def head(self, note: str) -> tuple[int, bytes]:  # SPEC 5.2
        if not note and not self.seen:  # the log is empty yet
            return 0, hashlib.sha256().digest()
        text, _, line = note.partition("\n\n")
        origin, size, root = text.split("\n")
        assert origin == f"podlt.run/{self.run.hex()}" and int(size) >= self.seen, "a shorter log, or another"
        VerifyKey(self.manager).verify(f"{text}\n".encode(), base64.b64decode(line.split()[2])[4:])
        self.seen = int(size)
        return self.seen, base64.b64decode(root)

    def on_offer(self, run: bytes, terms: Record, head: str) -> None:
        assert (run, (terms["seen"], terms["root"])) == (self.run, self.head(head))
        message = run + u64(terms["worker"], terms["deposit"], terms["seen"]) + terms["root"]
        signatures = self.sign("join/4", message + terms["operator"].encode()), self.sign("share/4", run)
        self.send(self.index, "signed", run=run, terms=terms, signatures=signatures)

    def on_parameters(self, digest: bytes, size: int, data: bytes, **_: Any) -> None:
        self.parameters = self.blob(data, digest, size)

    def on_task(self, deal_id: bytes, seat: int, task: Record, count: int, examples: bytes, **large: Any) -> None:
        if task["parameters"] != blake3(self.parameters).digest():
            return self.send(self.index, "get_parameters", digest=task["parameters"])
        if (deal_id, seat) not in self.done:
            examples = self.blob(b"", large["blob"], large["size"]) if any(large["blob"]) else examples
            self.done[deal_id, seat] = self.commit(task, count, unpacked(examples, large["size"]))
        (bound, signed, update, _), self.deal = self.done[deal_id, seat], deal_id
        made = {"commitment": bound, "signature": signed, "update": blake3(update).digest()}
        data = {"proof_seconds": 0.0, "compute_seconds": 0.0, "data": b"" if self.setup["updates_as_blobs"] else update}
        self.send(self.index, "done", deal_id=deal_id, seat=seat, **made, **data)

    def commit(self, task: Record, count: int, examples: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        fields, start = list[tuple[Record, bytes]](), 0
        for field in self.setup["fields"]:
            size = count * ITEM_BYTES[field["dtype"]] * math.prod(field["shape"])
            fields.append((field, examples[start : start + size]))
            start += size
        made = digest("shard/2", u64(count), *(blake3(values).digest() for _, values in fields))
        assert (task["run"], task["program"], task["shard"]) == (self.run, digest("program/1", self.program), made)
        update = self.execute(self.program, self.parameters, fields, task["randomness"])
        named = [task[name] for name in ("program", "parameters", "shard", "randomness")]
        of_task = digest("task/1", self.run, u64(task["round"]), *named)
        salt = digest("salt/1", bytes(self.key), of_task)[:16]  # the same whenever the task is executed again
        bound = digest("commitment/1", of_task, self.public, blake3(update).digest(), salt)
        return bound, self.sign("signed-commitment/1", bound), update, salt

    def on_open(self, deal_id: bytes, round: int, receipts: Sequence[Any]) -> None:
        opened = []
        for number, attempt, size, root, signature, index, path, commitment in receipts:
            check(self.manager, "receipt/1", self.run + u64(number, attempt, size) + root, signature)
            check_path(msgpack.encode(commitment), index, size, path, root)
            if made := self.done.get((deal_id, commitment[0])):
                assert (number, commitment[1:]) == (round, [self.number, *made[:2]]), "a receipt for another commitment"
                opened.append((commitment[0], self.number, blake3(made[2]).digest(), made[3]))
        self.receipts += receipts
        self.send(self.index, "openings", deal_id=deal_id, opened=opened)

    def on_upload(self, deal_id: bytes, seat: int) -> None:
        self.request("PUT", blake3(self.done[deal_id, seat][2]).digest(), self.done[deal_id, seat][2])

    def on_receipts(self, first: int, head: str, receipts: Sequence[Any]) -> None:
        size, root = self.head(head)
        for index, body, path in receipts:
            check_path(body, index, size, path, root)
            self.paid[index] = sum(t[2] for t in decode(body).get("transfers", ()) if t[:2] == ["earn", self.number])

    def blob(self, data: bytes, name: bytes, size: int) -> bytes:
        data = data or self.request("GET", name, None)
        assert (blake3(data).digest(), len(data)) == (name, size)
        return data

    def request(self, method: str, name: bytes, body: bytes | None) -> bytes:
        expires, purpose = time.time_ns() // 10**6 + 150_000, "read" if body is None else "write"
        token = {"purpose": purpose, "blob": name, "server": self.server, "expires": expires}
        signature, secure = self.sign("blob-pass/1", msgpack.encode(token)), connect(self.host, self.certificate)
        headers = {"Authorization": f"Podlt {self.public.hex()}.{expires}.{signature.hex()}"}
        return request(secure, self.host, method, f"/blobs/{name.hex()}", headers, body)
