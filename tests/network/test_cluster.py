"""Runs on a NATS cluster of the operator's own: what it must be told, who shares it, and servers that die."""

from __future__ import annotations

import asyncio
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from gate_runs import enter, eventually, milliseconds, run, worker_key
from town import Town, free_ports, make_certificates, town

from podlt.crypto import SigningKey
from podlt.errors import EngineError, UsageError
from podlt.manager.directory import RunDirectory
from podlt.network.access.invitation import channel_of, read, write
from podlt.network.access.registry import Registry
from podlt.network.nats import cluster as c
from podlt.network.nats.configuration import sections
from podlt.network.nats.connections import connected
from podlt.network.nats.examine import examine
from podlt.network.nats.gate import Gate
from podlt.network.nats.login import Pass, manager_options, pass_options
from podlt.network.nats.server import binary

ONE, OTHER = SigningKey(b"one".ljust(32, b".")), SigningKey(b"other".ljust(32, b"."))


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A cluster of one server that was told everything, and has users of its own besides."""
    folder = tmp_path_factory.mktemp("town")
    lines = "".join(told(folder).values()).replace("accounts {", "accounts {\n" + APPLICATION)
    with town(folder, told=lines) as stands:
        yield stands


APPLICATION = 'SHOP { users: [ { user: clerk, password: "not/for:printing" } ] }'


def told(folder: Path) -> dict[str, str]:
    """The lines about podlt, for a cluster in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    from podlt.network.access.worker_key import load_or_create_key

    return sections(load_or_create_key(folder / "podlt.key"))


# -- what it must be told --------------------------------------------------------------------------------------------


def test_a_cluster_that_was_told_is_used_though_others_use_it_too(one_server: Town) -> None:
    said: list[str] = []
    gone = f"tls://127.0.0.1:{free_ports(1)[0]}"
    examine(one_server.cluster([*one_server.urls, gone]), said.append)
    assert len(said) == 1 and gone in said[0]

    async def clerk() -> None:
        tls = manager_options(ONE, one_server.cluster().certificate)
        shop = {"user": "clerk", "password": "not/for:printing", "tls": tls["tls"], "tls_handshake_first": True}
        shop["connect_timeout"] = 30
        client = await nats.connect(one_server.urls[0], allow_reconnect=False, **shop)
        heard = await client.subscribe(">")
        await client.publish("shop.x", b"sold")
        assert (await heard.next_msg(30)).subject == "shop.x"
        await client.close()

    run(clerk())


@pytest.mark.parametrize(
    ("left", "said", "lines"),
    [
        ((), "not known", ["accounts {", "system_account:", "auth_callout {"]),
        (("accounts", "authorization"), "system account", ["system_account: PODLT_SYSTEM"]),
        (("accounts", "system_account"), "does not ask", ["auth_callout {", "issuer: A"]),
    ],
)
def test_a_cluster_that_was_told_in_part_is_refused_with_the_lines_that_are_missing(
    tmp_path: Path, left: tuple[str, ...], said: str, lines: list[str]
) -> None:
    text = "".join(told(tmp_path)[part] for part in left)
    if "accounts" not in left:
        text += "accounts { OTHER { users: [ { user: a, password: b } ] } }\n"
    with town(tmp_path, told=text) as stands, pytest.raises(UsageError, match=said) as raised:
        examine(stands.cluster())
    for line in lines:
        assert line in str(raised.value)
    missing = [part for part in ("accounts", "system_account", "authorization") if part not in left]
    for part in missing:
        assert told(tmp_path)[part] in str(raised.value)


def test_a_cluster_that_believes_another_key_or_has_no_account_for_workers_is_refused(tmp_path: Path) -> None:
    mine, other = told(tmp_path), sections(OTHER)
    issuer = [line for line in other["authorization"].splitlines() if "issuer" in line]
    believes = "\n".join(issuer[0] if "issuer" in line else line for line in mine["authorization"].splitlines())
    with (
        town(tmp_path, told=mine["accounts"] + mine["system_account"] + believes + "\n") as stands,
        pytest.raises(UsageError, match="does not take the answer") as raised,
    ):
        examine(stands.cluster())
    assert mine["authorization"] in str(raised.value) and mine["accounts"] in str(raised.value)


@pytest.mark.parametrize("tls", ["", "timeout: 5"], ids=["no TLS", "TLS later"])
def test_a_cluster_that_does_not_begin_with_tls_is_refused_and_told_nothing(tmp_path: Path, tls: str) -> None:
    with town(tmp_path, tls=tls) as stands, pytest.raises(UsageError, match="handshake_first: auto"):
        examine(stands.cluster())


def test_a_certificate_of_nobody_known_or_for_another_name_is_refused(one_server: Town, tmp_path: Path) -> None:
    strangers = c.NatsCluster(one_server.urls, one_server.key, one_server.key_file)
    with pytest.raises(UsageError, match="--nats-ca"):
        examine(strangers)
    elsewhere = [url.replace("127.0.0.1", "127.0.0.2") for url in one_server.urls]
    with town(tmp_path, more="") as stands:
        text = (tmp_path / "0.conf").read_text().replace('"127.0.0.1:', '"0.0.0.0:')
        stands.kill(0)
        (tmp_path / "0.conf").write_text(text)
        stands.start(0)
        elsewhere = [url.replace("127.0.0.1", "127.0.0.2") for url in stands.urls]
        with pytest.raises(UsageError, match="its certificate does not hold"):
            examine(stands.cluster(elsewhere))


def test_messages_that_are_too_short_for_pieces_are_an_error_that_says_how_long_they_must_be(tmp_path: Path) -> None:
    with town(tmp_path, more="max_payload: 256KB\n") as stands, pytest.raises(UsageError, match="max_payload: 1MB"):
        examine(stands.cluster())


def test_a_cluster_that_is_away_is_no_error_of_usage(one_server: Town) -> None:
    with pytest.raises(EngineError, match="none of the cluster's servers can be reached"):
        examine(one_server.cluster([f"tls://127.0.0.1:{free_ports(1)[0]}"]))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("tls://nats.example", ["tls://nats.example:4222"]),
        ("wss://nats.example, tls://[2001:db8::1]", ["wss://nats.example:443", "tls://[2001:db8::1]:4222"]),
        ("tls://a:1,tls://a:1", ["tls://a:1"]),
    ],
)
def test_urls_get_the_usual_ports(one_server: Town, url: str, expected: list[str]) -> None:
    assert one_server.cluster([url]).servers == expected


@pytest.mark.parametrize(
    "url", ["nats://a:4222", "a:4222", "tls://u:p@a:1", "tls://", ",", ",".join(f"tls://a:{n}" for n in range(1, 10))]
)
def test_other_urls_are_refused(one_server: Town, url: str) -> None:
    with pytest.raises(UsageError, match=r"expected (tls://|1 to 8)"):
        one_server.cluster([url])


def test_a_key_is_needed_and_two_certificates_are_one_too_many(one_server: Town, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="podlt key nats"):
        c.cluster_of(one_server.urls, None)
    with pytest.raises(UsageError, match="no key there"):
        c.cluster_of(one_server.urls, tmp_path / "no.key")
    both = tmp_path / "both.pem"
    both.write_bytes(2 * one_server.authority.read_bytes())
    with pytest.raises(UsageError, match="one certificate in PEM, found 2"):
        c.cluster_of(one_server.urls, one_server.key_file, both)


def test_the_example_of_a_server_is_one_that_nats_takes_and_podlt_too(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    (tmp_path / "podlt.conf").write_text("".join(told(tmp_path).values()))
    example = Path(__file__).parents[2] / "examples" / "monitoring" / "nats-node.conf"
    text = example.read_text().replace("/etc/nats/", f"{tmp_path}/").replace("# websocket", "websocket")
    (tmp_path / "nats-node.conf").write_text(text)
    done = subprocess.run([binary(), "-t", "-c", tmp_path / "nats-node.conf"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours = re.findall(r"^max_.*$|^write_deadline.*$|^ping_.*$", text, re.MULTILINE)
    with town(tmp_path / "town", more="\n".join(ours) + "\n") as stands:
        examine(stands.cluster())


@pytest.fixture
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate looks more often who is connected, and waits for one server only."""
    monkeypatch.setattr("podlt.network.nats.gate.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("podlt.network.nats.connections.OTHERS_SECONDS", 0.05)


# -- who shares it ---------------------------------------------------------------------------------------------------


class Standing:
    """A manager's gate on a cluster, with its run's register."""

    def __init__(self, run: Path, key: SigningKey, cluster: c.NatsCluster) -> None:
        self.run, self.key, self.cluster = run, key, cluster
        self.gone: list[bytes] = []
        run.mkdir(exist_ok=True)
        self.register = Registry(run)
        self.register.set_place(cluster.servers, cluster.certificate)
        c.remember(run / "nats", cluster)
        self.gate = Gate(
            self.register,
            key,
            cluster.servers,
            cluster.certificate,
            gone=lambda key, reason: self.gone.append(key),
            cluster=cluster.key,
        )
        self.gate.start()

    async def link(self) -> Any:
        options = manager_options(self.key, self.cluster.certificate, shared=True)
        how = {"allow_reconnect": False, "connect_timeout": 30, "error_cb": _ignore}
        return await nats.connect(self.cluster.servers, **how, **options)

    async def worker(self, key: SigningKey) -> Any:
        invitation = self.register.invite(self.key, uses=10, now=milliseconds())
        return await enter(read(write(invitation)), key)


async def _ignore(error: Exception) -> None:
    pass


@contextmanager
def standing(run: Path, key: SigningKey, cluster: c.NatsCluster) -> Iterator[Standing]:
    stands = Standing(run, key, cluster)
    try:
        yield stands
    finally:
        stands.gate.close()


@pytest.mark.usefixtures("attentive")
def test_two_managers_share_a_cluster_and_each_has_its_own_channel_only(one_server: Town, tmp_path: Path) -> None:
    async def test() -> None:
        cluster, key = one_server.cluster(), worker_key(1)
        with standing(tmp_path / "a", ONE, cluster) as a, standing(tmp_path / "b", OTHER, cluster) as b:
            link = await a.link()
            refused: list[str] = []
            link.options["error_cb"] = link._error_cb = _collect(refused)
            own = await link.subscribe(f"podlt.{channel_of(ONE.public)}.up.>")
            await link.subscribe("podlt.>")
            await link.subscribe(f"podlt.{channel_of(OTHER.public)}.up.>")
            await link.publish(f"podlt.{channel_of(OTHER.public)}.all.m", b"not mine")
            at_a, at_b = await a.worker(key), await b.worker(key)  # the same worker in two runs
            everybody = await at_b.subscribe(f"podlt.{channel_of(OTHER.public)}.all.m")
            for client, manager in ((at_b, OTHER), (at_a, ONE)):
                await client.publish(f"podlt.{channel_of(manager.public)}.up.{key.public.hex()}.m", b"done")
                await client.flush()
            assert (await own.next_msg(30)).subject.startswith(f"podlt.{channel_of(ONE.public)}.up.")
            await eventually(lambda: len(refused) >= 3)
            assert own.pending_msgs == everybody.pending_msgs == 0
            assert all("permissions violation" in text.lower() for text in refused)
            for each, manager in ((a, ONE), (b, OTHER)):
                inside = await asyncio.to_thread(connected, each.run, manager)
                assert inside is not None and [one.key for one in inside] == [key.public]
            a.register.change(lambda state: state.revoke(key.public.hex(), "by one of the two"))
            await eventually(lambda: not at_a.is_connected)
            await eventually(lambda: a.gone == [key.public])
            assert at_b.is_connected and b.gone == []
            for client in (link, at_b):
                await client.close()

    run(test())


def _collect(texts: list[str]) -> Callable[[Exception], Any]:
    async def collect(error: Exception) -> None:
        texts.append(str(error))

    return collect


@pytest.mark.usefixtures("attentive")
def test_nobody_comes_in_as_the_manager_of_a_run_without_its_key(one_server: Town, tmp_path: Path) -> None:
    async def test() -> None:
        cluster, hostile, channel = one_server.cluster(), worker_key(5), channel_of(ONE.public)
        how = {"allow_reconnect": False, "connect_timeout": 30, "error_cb": _ignore}
        with standing(tmp_path / "a", ONE, cluster) as a:
            forged = pass_options(Pass(channel, ONE.public), hostile, cluster.certificate)
            with pytest.raises(Exception, match=r"(?i)authorization"):
                await nats.connect(cluster.servers, **how, **forged)
            asked: list[str] = []
            own = pass_options(Pass(channel, hostile.public), hostile, cluster.certificate)
            client = await nats.connect(cluster.servers, **{**how, "error_cb": _collect(asked)}, **own)
            await client.subscribe(f"podlt.{channel}.up.>")
            await client.publish(f"podlt.{channel}.all.m", b"from the manager")
            await eventually(lambda: len(asked) >= 2)
            assert all("permissions violation" in text.lower() for text in asked)
            assert await asyncio.to_thread(a.gate.connections) == []  # it waits in the refused, to be told why not
            await client.close()

    run(test())


@pytest.mark.usefixtures("attentive")
def test_a_second_manager_of_the_same_run_is_refused_while_the_first_is_there(
    one_server: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlt.network.nats.gate.OTHER_SECONDS", 0.5)
    cluster = one_server.cluster()
    with standing(tmp_path / "a", ONE, cluster), pytest.raises(EngineError, match="another manager of this run"):
        Standing(tmp_path / "copy", ONE, cluster)
    with standing(tmp_path / "copy", ONE, cluster) as later:
        assert later.gate.connections() == []


def test_a_run_keeps_which_cluster_it_is_on_and_no_secret_of_it(one_server: Town, tmp_path: Path) -> None:
    cluster = one_server.cluster()
    c.remember(tmp_path / "nats", cluster)
    found = c.remembered(tmp_path / "nats")
    assert found is not None and found.key.public == cluster.key.public
    assert (found.servers, found.certificate) == (cluster.servers, cluster.certificate)
    text = (tmp_path / "nats" / c.FILE).read_text()
    assert cluster.key.seed().hex() not in text and stat.S_IMODE((tmp_path / "nats").stat().st_mode) == 0o700
    assert c.remembered(tmp_path) is None
    (tmp_path / "nats" / c.FILE).write_text(text.replace("podlt.key", "moved.key"))
    with pytest.raises(UsageError, match="--nats-key"):
        c.remembered(tmp_path / "nats")


# -- servers that die ------------------------------------------------------------------------------------------------


@pytest.mark.chaos
def test_two_runs_at_once_on_one_cluster_notice_nothing_of_each_other(tmp_path: Path) -> None:
    from stage import Stage, write_recipe

    import podlt.api
    from podlt.recipe import load_recipe

    recipe = write_recipe(tmp_path / "recipe.toml", epochs=6, workers=4)
    undisturbed = podlt.api.train(load_recipe(recipe), run=tmp_path / "local").parameters
    with (
        town(tmp_path / "town", 2) as stands,
        Stage(tmp_path / "one", recipe, silence_timeout=60) as one,
        Stage(tmp_path / "two", recipe, silence_timeout=60) as two,
    ):
        for stage in (one, two):
            stage.folder.mkdir()
            stage.start_manager(*stands.options())
            stage.start_worker("a", "--identities", 4, "--key", tmp_path / "same.key")  # the same workers in both
        states = [one.end(), two.end()]
        assert not one.events("withdrawn") and not two.events("withdrawn")
    assert [state.parameters for state in states] == [undisturbed] * 2
    assert len({state.run for state in states}) == 2
    keys = [{worker.key for worker in state.workers.values()} for state in states]
    assert keys[0] == keys[1] and len(keys[0]) == 4


@pytest.mark.chaos
def test_every_server_of_a_cluster_dies_once_during_a_run_and_not_a_bit_is_changed(tmp_path: Path) -> None:
    from stage import Stage, write_recipe

    import podlt.api
    from podlt.recipe import load_recipe

    recipe = write_recipe(tmp_path / "recipe.toml", epochs=8, workers=6)
    undisturbed = podlt.api.train(load_recipe(recipe), run=tmp_path / "local").parameters
    with town(tmp_path / "town", 3) as stands, Stage(tmp_path, recipe, silence_timeout=60) as stage:
        stage.start_manager(*stands.options())
        for name in "abc":
            stage.start_worker(name, "--identities", 2)
        stage.until_round(5)
        key, nodes = RunDirectory.existing(stage.run).manager_key(), set()
        for number in range(3):
            nodes |= {one.server for one in connected(stage.run, key) or []}
            stands.kill(number)
            stage.until_round(stage.rounds() + 8)
            stands.start(number)
        assert len(nodes) > 1  # who was on a server that died is on another
        stage.manager.kill()
        stage.start_manager()  # finds the cluster by itself
        state = stage.end()
        assert not stage.events("withdrawn")
    assert state.parameters == undisturbed
    assert [worker.status for worker in state.workers.values()] == ["active"] * 6
