"""A NATS cluster of somebody else's: several real servers with TLS, told about podlt, or only in part."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from podlt.crypto import SigningKey
from podlt.network.access import worker_key
from podlt.network.nats.cluster import NatsCluster, cluster_of
from podlt.network.nats.configuration import sections
from podlt.network.nats.server import binary

_FROM, _UNTIL = datetime.datetime(2020, 1, 1), datetime.datetime(2099, 1, 1)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def make_certificates(folder: Path) -> None:
    """An authority (ca.pem), and what it says of 127.0.0.1 and localhost (node.pem, node.key)."""
    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def builder(name: str, key: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_FROM)
            .not_valid_after(_UNTIL)
        )

    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    authority = builder("authority", ours).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")])
    node = builder("node", theirs).add_extension(names, False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(authority.add_extension(usage, True).sign(ours, hashes.SHA256()).public_bytes(pem))
    (folder / "node.pem").write_bytes(node.sign(ours, hashes.SHA256()).public_bytes(pem))
    private = theirs.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "node.key").write_bytes(private)


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Town:
    """Servers in a cluster, by number.

    Args:
        told: the lines about podlt; by default all of them; tls: what stands in the tls block besides the certificate;
        more: lines of the operator's own; websocket: whether each has a port for that as well.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int = 1,
        *,
        told: str | None = None,
        tls: str = "handshake_first: auto",
        more: str = "",
        websocket: bool = False,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        make_certificates(folder)
        self.key_file, self.authority = folder / "podlt.key", folder / "ca.pem"
        self.key: SigningKey = worker_key.load_or_create_key(self.key_file)
        self.ports, self.routes, self.web = free_ports(nodes), free_ports(nodes), free_ports(nodes)
        lines = "".join(sections(self.key).values()) if told is None else told
        shown = f'cert_file: "{folder}/node.pem", key_file: "{folder}/node.key"'
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.routes)
        for number in range(nodes):
            text = (
                f'server_name: n{number}\nlisten: "127.0.0.1:{self.ports[number]}"\nlog_file: "{folder}/{number}.log"\n'
            )
            text += f"tls {{ {shown}, {tls} }}\n" if tls else ""
            text += f'cluster {{ name: town, listen: "127.0.0.1:{self.routes[number]}", routes: [ {routes} ] }}\n'
            if websocket:
                text += f'websocket {{ listen: "127.0.0.1:{self.web[number]}", tls {{ {shown} }} }}\n'
            (folder / f"{number}.conf").write_text(text + lines + more)
        self._processes = [self._start(number) for number in range(nodes)]
        for port in self.ports:
            _await(port)

    @property
    def urls(self) -> list[str]:
        return [f"tls://127.0.0.1:{port}" for port in self.ports]

    @property
    def web_urls(self) -> list[str]:
        return [f"wss://127.0.0.1:{port}" for port in self.web]

    def cluster(self, urls: Sequence[str] = ()) -> NatsCluster:
        """What a manager is told of it."""
        return cluster_of(urls or self.urls, self.key_file, self.authority)

    def options(self, urls: Sequence[str] = ()) -> list[object]:
        """The same, for a command line."""
        return ["--nats", ",".join(urls or self.urls), "--nats-key", self.key_file, "--nats-ca", self.authority]

    def kill(self, number: int) -> None:
        """kill -9."""
        self._processes[number].kill()
        self._processes[number].wait()

    def start(self, number: int) -> None:
        self._processes[number] = self._start(number)
        _await(self.ports[number])

    def close(self) -> None:
        for number in range(len(self._processes)):
            self.kill(number)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        with (self.folder / f"{number}.said").open("ab") as said:
            command = [str(binary()), "-c", str(self.folder / f"{number}.conf")]
            return subprocess.Popen(command, stdout=said, stderr=said, env=dict(os.environ))


@contextmanager
def town(folder: Path, nodes: int = 1, **options: Any) -> Iterator[Town]:
    stands = Town(folder, nodes, **options)
    try:
        yield stands
    finally:
        stands.close()


def _await(port: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < deadline, "a server of the cluster does not start"
        time.sleep(0.02)
