"""A NATS cluster of one's own: which servers, by which key they know managers, and where a run keeps that.

The servers' configuration is made once, from a key that managers on these servers share: `configuration.access`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from podlt.canonical import from_json, to_json
from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.network.access import certificate as tls
from podlt.network.access.certificate import client_context
from podlt.network.access.invitation import check_url
from podlt.network.access.worker_key import load_key
from podlt.store.files import read_whole, write_whole

FILE = "cluster.json"
MOST_SERVERS = 8
"""As many as an invitation names."""

LONGEST_CERTIFICATE = 2048
DEFAULT_PORTS = {"tls": 4222, "wss": 443}
_LONGEST = 64 * 1024


class NatsCluster(msgspec.Struct, frozen=True):
    """Servers that somebody else starts.

    Attributes:
        servers: URLs, as workers reach them too.
        key: that the servers' configuration was made from.
        key_file: where it is.
        certificate: in DER, the servers' own or their authority's; empty if a usual authority signed theirs.
        names: hosts by which workers reach the manager itself, for large blobs.
    """

    servers: list[str]
    key: SigningKey
    key_file: Path
    certificate: bytes = b""
    names: list[str] = []


class _Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What cluster.json says: no secret, only where it is."""

    servers: list[str]
    key_file: str
    certificate: Annotated[str, Meta(pattern="^([0-9a-f]{2})*$")] = ""
    names: list[str] = []


def cluster_of(
    urls: Sequence[str], key_file: Path | None, authority: Path | None = None, names: Sequence[str] = ()
) -> NatsCluster:
    """What the options of a command say.

    Args:
        urls: each may be several with commas between.
        authority: a certificate in PEM.
        names: of the manager's machine.

    Raises:
        UsageError: no TLS, too many servers, no key, or a certificate that is none.
    """
    servers = list(dict.fromkeys(_whole(url.strip()) for some in urls for url in some.split(",") if url.strip()))
    if not 1 <= len(servers) <= MOST_SERVERS:
        raise UsageError(f"--nats: expected 1 to {MOST_SERVERS} servers, got {len(servers)}; workers find the others")
    if key_file is None:
        raise UsageError(
            "--nats needs --nats-key FILE: podlt key nats FILE makes it, and prints what their configuration must hold"
        )
    certificate = b""
    if authority is not None:
        certificate = tls.load(authority)
        if len(certificate) > LONGEST_CERTIFICATE:
            raise UsageError(
                f"{authority}: a certificate of {len(certificate)} bytes is too long for an invitation; expected at "
                f"most {LONGEST_CERTIFICATE}"
            )
        client_context(certificate)
    return NatsCluster(servers, load_key(key_file), key_file.absolute(), certificate, list(names))


def remembered(folder: Path) -> NatsCluster | None:
    """The cluster that a run is on; None if it has a server of its own.

    Args:
        folder: `RUN/nats`.

    Raises:
        UsageError: its key is not where it was.
        StorageError: malformed.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        saved = msgspec.convert(from_json(read_whole(path, _LONGEST)), _Saved)
    except (msgspec.ValidationError, InvalidProofError):
        raise StorageError(f"{path}: malformed; the run's directory was changed") from None
    key_file = Path(saved.key_file)
    if not key_file.is_file():
        raise UsageError(
            f"{key_file}: the key of the NATS cluster that this run is on is not here; give --nats URL --nats-key FILE"
        )
    return NatsCluster(saved.servers, load_key(key_file), key_file, bytes.fromhex(saved.certificate), saved.names)


def remember(folder: Path, cluster: NatsCluster) -> None:
    """Keeps for a run which cluster it is on.

    Raises:
        StorageError: it cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    saved = _Saved(cluster.servers, str(cluster.key_file), cluster.certificate.hex(), cluster.names)
    write_whole(folder / FILE, to_json(msgspec.to_builtins(saved)))


def direct(urls: Sequence[str]) -> list[str]:
    """The servers without WebSocket; all, if there are no others. One connection cannot change between the two."""
    return [url for url in urls if not url.startswith("wss:")] or list(urls)


def _whole(url: str) -> str:
    """A URL with a port."""
    try:
        parts = urlsplit(url)
        bare = parts.hostname and parts.port is None and parts.path in ("", "/") and "@" not in parts.netloc
    except ValueError:
        bare = False
    if bare and parts.scheme in DEFAULT_PORTS:
        url = f"{parts.scheme}://{parts.netloc}:{DEFAULT_PORTS[parts.scheme]}"
    check_url(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise UsageError(f"{url!r}: expected tls://HOST:PORT or wss://HOST:PORT")
    return url
