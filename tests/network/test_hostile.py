"""Clients that mean harm, against a real server and gate: the manager and the other workers go on."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from gate_runs import CHANNEL, MANAGER, GateRun, Raw, down, enter, eventually, gate_run, run, up, worker_key

from podlt.crypto import SigningKey
from podlt.network.nats import login
from podlt.network.nats.configuration import MOST_PAYLOAD, MOST_SUBSCRIPTIONS
from podlt.network.nats.refusals import MOST_CONNECTIONS, MOST_STRANGERS
from podlt.network.nats.server import PID

VICTIM, HOSTILE = worker_key(1), worker_key(666)


class Others:
    """The manager's link and an honest worker, who must not notice anything."""

    def __init__(self, key: SigningKey, link: Any, worker: Any) -> None:
        self.key, self.link, self.worker = key, link, worker

    @classmethod
    async def begin(cls, stands: GateRun, key: SigningKey = VICTIM) -> Others:
        others = cls(key, await stands.link(), await enter(stands.invite(), key))
        others.up = await others.link.subscribe(up(key))
        others.down = await others.worker.subscribe(down(key))
        await others.link.flush()
        await others.worker.flush()
        return others

    async def go_on(self) -> None:
        """A message each way arrives."""
        said = os.urandom(8)
        await self.worker.publish(up(self.key), said)
        assert (await self.up.next_msg(30)).data == said
        await self.link.publish(down(self.key), said)
        assert (await self.down.next_msg(30)).data == said

    async def end(self) -> None:
        await self.worker.close()
        await self.link.close()


def memory(stands: GateRun) -> int:
    """Bytes that the server has resident."""
    number = (stands.run / "nats" / PID).read_text()
    return int(Path(f"/proc/{number}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fresh() -> SigningKey:
    """A key of its own for each test that shares a server, which lets nobody log in too often."""
    return SigningKey(os.urandom(32))


SUBJECTS = [
    up(VICTIM),
    up(VICTIM, "a.b"),
    down(VICTIM),
    down(VICTIM, "inbox.x"),
    down(HOSTILE),
    f"podlt.{CHANNEL}.all.m",
    f"podlt.{CHANNEL}.up.{HOSTILE.public.hex().upper()}.m",
    f"podlt.{CHANNEL}.up.{HOSTILE.public.hex()}",
    f"podlt.{CHANNEL}.up.{HOSTILE.public.hex()}x.m",
    f"PODLT.{CHANNEL}.up.{HOSTILE.public.hex()}.m",
    f"podlt.{CHANNEL}",
    "podlt.0000000000000000.up.x",
    "anything",
    "_INBOX.x",
    "$SYS.REQ.USER.AUTH",
    "$SYS.REQ.USER.INFO",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.SERVER.PING.CONNZ",
    "$SYS.REQ.ACCOUNT.PING.CONNZ",
    "$SYS.REQ.ACCOUNT.PODLT.CONNZ",
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS._INBOX.x.y",
    "$JS.API.INFO",
    "$JSC.x",
    "$G",
]

LISTENED = [
    ">",
    "*",
    "*.>",
    "podlt.>",
    "podlt.*.>",
    f"podlt.{CHANNEL}.>",
    f"podlt.{CHANNEL}.*.*.m",
    f"podlt.{CHANNEL}.up.>",
    f"podlt.{CHANNEL}.up.*.m",
    up(VICTIM),
    up(HOSTILE),
    f"podlt.{CHANNEL}.down.>",
    f"podlt.{CHANNEL}.down.*.m",
    f"podlt.{CHANNEL}.*.{VICTIM.public.hex()}.m",
    down(VICTIM),
    f"podlt.{CHANNEL}.down",
    "_INBOX.>",
    "$SYS.>",
    "$SYS.REQ.>",
    "$SYS.REQ.USER.AUTH",
    "$SYS._INBOX.>",
    "$JS.>",
    "*.*.*.*.m",
]


def test_a_worker_can_write_to_no_subject_but_its_own(tmp_path: Path) -> None:
    async def test() -> None:
        with gate_run(tmp_path) as stands:
            others = await Others.begin(stands)
            heard: list[str] = []

            async def hear(message: Any) -> None:
                heard.append(message.subject)

            await others.link.subscribe(">", cb=hear)
            await others.link.flush()
            for subject in SUBJECTS:
                raw = await Raw.connect(stands.server)  # anew: a server may end a connection for one bad subject
                key = HOSTILE if subject == down(HOSTILE) else fresh()
                assert b"PONG" in await raw.log_in(stands.invite(), key)
                await raw.write(f"PUB {subject} 1\r\nx\r\nPUB {up(key)} reply.to.me 1\r\nx\r\nPING\r\n".encode())
                said = await raw.said()
                assert b"ermissions" in said or b"Invalid" in said or said == b"", (subject, said)
                raw.close()
            await others.go_on()
            mine = {subject for subject in heard if subject not in (up(VICTIM), down(VICTIM))}
            assert not mine & set(SUBJECTS)
            assert all(subject.startswith(f"podlt.{CHANNEL}.up.") for subject in mine)
            assert up(VICTIM) not in heard[:-2] and stands.gone == []
            await others.end()

    run(test())


def test_a_worker_hears_nothing_that_is_not_for_it(tmp_path: Path) -> None:
    async def test() -> None:
        with gate_run(tmp_path) as stands:
            others = await Others.begin(stands)
            spies = []
            for number, subject in enumerate(LISTENED):
                raw = await Raw.connect(stands.server)
                key = worker_key(1000 + number) if subject != up(HOSTILE) else HOSTILE
                assert b"PONG" in await raw.log_in(stands.invite(), key)
                await raw.write(f"SUB {subject} 1\r\nSUB {subject} group 2\r\n".encode())
                spies.append((subject, raw))
            await asyncio.sleep(0.3)
            await others.go_on()
            await enter(stands.invite(), worker_key(2))  # asked about through the system's account meanwhile
            for subject, raw in spies:
                await raw.write(b"PING\r\n")
                said = b""
                while b"PONG" not in said and (line := await raw.said()):
                    said += line
                assert b"MSG" not in said, (subject, said)
                raw.close()
            await others.end()

    run(test())


def test_a_signature_is_good_for_one_connection(tmp_path: Path) -> None:
    async def test() -> None:
        with gate_run(tmp_path) as stands:
            others, invitation = await Others.begin(stands), stands.invite()
            first, second = await Raw.connect(stands.server), await Raw.connect(stands.server)
            recorded = login.worker_options(invitation, HOSTILE)["signature_cb"](first.info["nonce"]).decode()
            assert b"PONG" in await first.log_in(invitation, HOSTILE)
            assert b"Authorization" in await second.log_in(invitation, HOSTILE, sig=recorded)
            first.close()
            await others.go_on()
            await others.end()

    run(test())


def forged_jwt() -> str:
    """A user's JWT that a key of the client's own signed."""
    header, claims = (
        {"typ": "JWT", "alg": "ed25519-nkey"},
        {
            "sub": login.nkey(login.PREFIX_USER, HOSTILE.public),
            "iss": login.nkey(login.PREFIX_ACCOUNT, HOSTILE.public),
            "nats": {"type": "user", "version": 2},
        },
    )
    text = ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in (header, claims))
    return f"{text}.{base64.urlsafe_b64encode(HOSTILE.sign_raw(text.encode())).decode().rstrip('=')}"


LINK = login.nkey(login.PREFIX_USER, login.link_key(MANAGER).public)
SYSTEM = login.nkey(login.PREFIX_USER, login.system_key(MANAGER).public)


@pytest.mark.parametrize(
    "changed",
    [
        {"sig": ""},
        {"sig": "A" * 86},
        {"auth_token": ""},
        {"auth_token": "?" * 100},
        {"auth_token": None, "sig": None},
        {"nkey": LINK},
        {"nkey": SYSTEM},
        {"nkey": LINK, "auth_token": "", "sig": "A" * 86},
        {"user": LINK, "pass": "", "auth_token": "", "sig": ""},
        {"user": SYSTEM, "pass": "", "auth_token": "", "sig": ""},
        {"jwt": forged_jwt(), "auth_token": "", "nkey": ""},
        {"user": "PODLT_SYSTEM", "pass": "PODLT_SYSTEM", "auth_token": ""},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_nobody_comes_in_by_a_forged_login(shared: GateRun, changed: dict[str, Any]) -> None:
    async def test() -> None:
        raw = await Raw.connect(shared.server)
        said = await raw.log_in(shared.invite(), HOSTILE, **changed)
        assert said == b"" or b"-ERR" in said, said

    run(test())


@pytest.mark.parametrize(
    "user",
    [LINK, SYSTEM, "PODLT_SYSTEM", VICTIM.public.hex(), f"{CHANNEL}.{VICTIM.public.hex()}", f"{CHANNEL}.manager"],
)
def test_who_names_another_beside_a_good_pass_comes_in_as_itself_or_not_at_all(shared: GateRun, user: str) -> None:
    async def test() -> None:
        hostile, raw = fresh(), await Raw.connect(shared.server)
        said = await raw.log_in(shared.invite(), hostile, user=user, name=user, **{"pass": ""})
        inside = await asyncio.to_thread(shared.gate.connections)
        assert VICTIM.public not in {one.key for one in inside}
        if b"PONG" in said:
            assert hostile.public in {one.key for one in inside}
            await raw.write(f"PUB podlt.{CHANNEL}.all.m 1\r\nx\r\nPING\r\n".encode())
            assert b"ermissions" in await raw.said()
        raw.close()

    run(test())


def test_nobody_comes_in_as_another_worker(shared: GateRun) -> None:
    async def test() -> None:
        raw = await Raw.connect(shared.server)
        token = login.worker_options(shared.invite(), VICTIM)["token"]
        assert b"-ERR" in await raw.log_in(shared.invite(), HOSTILE, auth_token=token)
        nonce = (await Raw.connect(shared.server)).info["nonce"]
        alone = base64.urlsafe_b64encode(HOSTILE.sign_raw(nonce.encode())).decode().rstrip("=")
        assert b"-ERR" in await (await Raw.connect(shared.server)).log_in(shared.invite(), HOSTILE, sig=alone)

    run(test())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with gate_run(tmp_path_factory.mktemp("run")) as stands:
        yield stands


@pytest.mark.parametrize("size", [2**32, 2**31 - 1, 2**20 + 1, MOST_PAYLOAD + 1, 2**63, 2**64, -1])
def test_a_message_that_claims_to_be_huge_takes_no_memory_and_ends_its_connection(shared: GateRun, size: int) -> None:
    async def test() -> None:
        hostile = fresh()
        others, before = await Others.begin(shared, fresh()), memory(shared)
        raw = await Raw.connect(shared.server)
        assert b"PONG" in await raw.log_in(shared.invite(), hostile)
        await raw.write(f"PUB {up(hostile)} {size}\r\n".encode() + b"x" * 100_000)
        await raw.end()  # the server's reason may be lost: it resets a connection that has more to say
        assert memory(shared) - before < 32 * 2**20
        await others.go_on()
        await others.end()

    run(test())


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x00" * 5000,
        os.urandom(20_000),
        b"PUB " + b"a" * 100_000 + b" 1\r\n",
        b"HPUB " + up(HOSTILE).encode() + b" 99999 10\r\n0123456789\r\n",
        b"SUB \r\n" * 100,
        b"MSG x 1 1\r\nx\r\n",
        b"INFO {}\r\nCONNECT {}\r\nRS+ a b\r\nLS+ a b\r\nRMSG a b 1\r\nx\r\n",
        b'CONNECT {"user":' + b"[" * 3000 + b"\r\n",
    ],
    ids=range(8),
)
def test_rubbish_ends_at_most_its_own_connection(shared: GateRun, rubbish: bytes) -> None:
    async def test() -> None:
        hostile = fresh()
        others = await Others.begin(shared, fresh())
        for log_in in (False, True):
            raw = await Raw.connect(shared.server)
            if log_in:
                assert b"PONG" in await raw.log_in(shared.invite(), hostile)
            await raw.write(rubbish)
            await others.go_on()
            raw.close()
        await others.end()

    run(test())


@pytest.mark.slow
def test_half_a_message_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def test() -> None:
        with gate_run(tmp_path) as stands:
            others = await Others.begin(stands)
            halves = []
            for number in range(40):
                key = worker_key(100 + number)
                stage = number % 4
                if stage == 0:  # nothing but a connection, and some bytes of TLS
                    reader, writer = await asyncio.open_connection("127.0.0.1", stands.server.port)
                    writer.write(b"\x16\x03\x01")
                    halves.append(Raw(reader, writer, {}))
                    continue
                raw = await Raw.connect(stands.server)
                halves.append(raw)
                if stage == 1:  # half a login
                    await raw.write(b'CONNECT {"auth_token": "')
                    continue
                assert b"PONG" in await raw.log_in(stands.invite(), key)
                await raw.write(f"PUB {up(key)} 400000\r\n".encode() + b"x" * 300_000 if stage == 2 else b"PU")
            await others.go_on()
            late = await enter(stands.invite(), worker_key(2))
            await late.close()
            # Who has not logged in is cut off after seconds; who has may pause in the middle, until the server's pings.
            ended = await asyncio.gather(*(raw.end() for raw in halves[:2]))
            assert len(ended) == 2
            await others.go_on()
            await others.end()

    run(test())


def test_a_flood_is_cut_off_and_keeps_nobody_outside_meanwhile(tmp_path: Path) -> None:
    async def test() -> None:
        with gate_run(tmp_path) as stands:
            others, invitation = await Others.begin(stands), stands.invite()
            received = 0

            async def hear(message: Any) -> None:
                nonlocal received
                received += 1

            await others.link.subscribe(up(HOSTILE), cb=hear)
            await others.link.flush()
            raw = await Raw.connect(stands.server)
            assert b"PONG" in await raw.log_in(invitation, HOSTILE)
            many = f"PUB {up(HOSTILE)} 1\r\nx\r\n".encode() * 500

            async def flood() -> None:
                until = time.monotonic() + 20
                while not stands.gone and time.monotonic() < until:
                    await raw.write(many)
                    await asyncio.sleep(0.01)

            flooding = asyncio.create_task(flood())
            await asyncio.sleep(0.2)
            late = await enter(invitation, worker_key(2))
            await others.go_on()
            await flooding
            assert stands.gone and stands.gone[0][0] == HOSTILE.public and "messages" in stands.gone[0][1]
            assert received > 1000
            # It comes back at once, and is told to wait.
            again = await Raw.connect(stands.server)
            assert b"PONG" in await again.log_in(invitation, HOSTILE)
            await again.write(f"SUB {down(HOSTILE)} 1\r\n".encode())
            assert b"small messages" in await again.reader.readuntil(b"messages in")
            await others.go_on()
            assert late.is_connected
            again.close()
            await late.close()
            await others.end()

    run(test())


def test_a_worker_has_few_subscriptions_and_few_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podlt.network.nats.gate.LOOK_SECONDS", 0.2)

    async def test() -> None:
        with gate_run(tmp_path) as stands:
            others, invitation = await Others.begin(stands), stands.invite()
            raw = await Raw.connect(stands.server)
            assert b"PONG" in await raw.log_in(invitation, HOSTILE)
            await raw.write(
                b"".join(f"SUB {down(HOSTILE, str(n))} {n}\r\n".encode() for n in range(2 * MOST_SUBSCRIPTIONS))
                + b"PING\r\n"
            )
            assert b"maximum subscriptions" in (await raw.said()).lower()
            raw.close()
            many = []
            for _ in range(3 * MOST_CONNECTIONS):
                one = await Raw.connect(stands.server)
                await one.log_in(invitation, HOSTILE)
                many.append(one)

            def mine() -> int:
                return sum(one.key == HOSTILE.public for one in stands.gate.connections())

            deadline = time.monotonic() + 60
            while await asyncio.to_thread(mine) > MOST_CONNECTIONS:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            await others.go_on()
            await others.end()

    run(test())


@pytest.mark.parametrize("paused", [False, True])
def test_a_crowd_of_strangers_cannot_fill_the_refusals_and_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paused: bool
) -> None:
    monkeypatch.setattr(
        "podlt.network.nats.refusals.REFUSAL_SECONDS", 60
    )  # else the first may go before the last knock

    async def test() -> None:
        with gate_run(tmp_path) as stands:
            others, address = await Others.begin(stands), stands.invite(address=True)
            if paused:
                await others.end()
                stands.change("pause_everybody", True)

            async def knock(number: int) -> bool:
                raw = await Raw.connect(stands.server)
                return b"PONG" in await raw.log_in(address, worker_key(5000 + number))

            let_in = await asyncio.gather(*(knock(number) for number in range(MOST_STRANGERS + 40)))
            assert 0 < sum(let_in) <= MOST_STRANGERS
            if paused:
                stands.change("pause_everybody", False)
                others = await Others.begin(stands)
            late = await enter(stands.invite(), worker_key(2))
            await late.close()
            assert stands.register.state.members.keys() == {VICTIM.public.hex(), worker_key(2).public.hex()}
            await others.go_on()
            await others.end()

    run(test())


@pytest.mark.slow
def test_a_reader_that_never_reads_is_cut_off_and_the_others_miss_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        with gate_run(tmp_path) as stands:
            others = await Others.begin(stands)
            everybody = await others.worker.subscribe(f"podlt.{CHANNEL}.all.m", pending_bytes_limit=2**30)
            await others.worker.flush()
            raw = await Raw.connect(stands.server)
            assert b"PONG" in await raw.log_in(stands.invite(), HOSTILE)
            await raw.write(f"SUB podlt.{CHANNEL}.all.m 1\r\n".encode())
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            count, piece = 250, bytes(500_000)
            for _ in range(count):
                await others.link.publish(f"podlt.{CHANNEL}.all.m", piece)
                await others.link.flush()
            for _ in range(count):
                assert len((await everybody.next_msg(30)).data) == len(piece)

            def there() -> bool:
                return any(one.key == HOSTILE.public for one in stands.gate.connections())

            await eventually(lambda: memory(stands) < 400 * 2**20)
            deadline = time.monotonic() + 60
            while await asyncio.to_thread(there):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            await others.go_on()
            await others.end()

    run(test())
