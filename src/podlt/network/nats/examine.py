"""Looks at a cluster before a run begins there: is it configured as it must be, and if not, which lines are missing?

Only servers know their configuration; so each is tried as it will be used: by the manager's key, as the administrator
who is asked about connections, and by a connection that it has to ask about.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from podlt.crypto import SigningKey
from podlt.errors import EngineError, InvalidProofError, UsageError
from podlt.network.nats import configuration
from podlt.network.nats.authorization import SUBJECT, admit, read_request, refused_permissions
from podlt.network.nats.cluster import NatsCluster
from podlt.network.nats.connections import nats_errors
from podlt.network.nats.login import Pass, issuer_key, own_options, pass_options, system_key, tls_options

SECONDS = 4.0
"""How long one step of one server may take."""

_ONCE = {"allow_reconnect": False, "max_reconnect_attempts": 1, "connect_timeout": SECONDS}


class _Unreachable(Exception):
    """Nothing that answers as a NATS server is there; others of the cluster may be."""


def examine(cluster: NatsCluster, tell: Callable[[str], object] = lambda line: None) -> None:
    """Returns if the cluster can be used; servers that cannot be reached are reported, as long as one can.

    Raises:
        EngineError: none can be reached.
        UsageError: one is not configured as it must be: says which lines are missing.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of connections that end early, it has much to say
    away = asyncio.run(_examine(cluster))
    if len(away) == len(cluster.servers):
        raise EngineError("none of the cluster's servers can be reached: " + "; ".join(away))
    for text in away:
        tell(f"one of the cluster's servers is away: {text}")


async def _examine(cluster: NatsCluster) -> list[str]:
    """All servers at once: one that is away must not keep a manager waiting that goes on after it was killed."""
    found = await asyncio.gather(*(_look_at(url, cluster) for url in cluster.servers), return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, _Unreachable):
            raise one
    return [f"{url}: {one}" for url, one in zip(cluster.servers, found, strict=True) if one is not None]


async def _look_at(url: str, cluster: NatsCluster) -> None:
    if not url.startswith("wss:"):
        await _reach(url, cluster.certificate)
    await _try(url, cluster)


async def _reach(url: str, certificate: bytes) -> None:
    """Speaks TLS with a server, and reads what it says first."""
    parts = urlsplit(url)
    try:
        secure = tls_options(certificate)["tls"]
        opening = asyncio.open_connection(parts.hostname, parts.port, ssl=secure, server_hostname=parts.hostname)
        reader, writer = await asyncio.wait_for(opening, SECONDS)
        line = await asyncio.wait_for(reader.readline(), SECONDS)
        writer.close()
    except ssl.SSLCertVerificationError as error:
        raise UsageError(
            f"{url}: its certificate does not hold: {error.verify_message}. Give --nats-ca FILE with the certificate "
            "of its authority, or its own; and the host by which the certificate names it"
        ) from None
    except ssl.SSLError as error:
        raise UsageError(
            f"{url}: does not begin with TLS ({error.reason or error}); its configuration must hold, besides the "
            f"certificate:\n\ntls {{ handshake_first: auto }}\n\nand must not ask clients for certificates"
        ) from None
    except (OSError, TimeoutError) as error:
        raise _Unreachable(_text(error)) from None
    if not line.startswith(b"INFO "):
        raise _Unreachable("is no NATS server")
    most = json.loads(line.removeprefix(b"INFO ")).get("max_payload", 0)
    if most < configuration.MOST_PAYLOAD:
        raise UsageError(f"{url}: takes messages of {most:,} bytes; its configuration must hold:\n\nmax_payload: 1MB\n")


async def _try(url: str, cluster: NatsCluster) -> None:
    """Is asked about a connection, as a manager, and lets it in."""
    nats = _nats()
    options = own_options(system_key(cluster.key), cluster.certificate)
    try:
        client = await asyncio.wait_for(nats.connect(url, error_cb=_ignore, **_ONCE, **options), 2 * SECONDS)
    except (OSError, TimeoutError, nats_errors()) as error:
        if "authorization" in str(error).lower() or "authentication" in str(error).lower():
            raise _missing(url, cluster.key, "the key of --nats-key is not known to it", "all") from None
        raise _Unreachable(_text(error)) from None
    try:
        await _ask_as_system(client, url, cluster.key)
        await _knock(client, url, cluster)
    finally:
        with suppress(Exception):
            await client.close()


async def _ask_as_system(client: Any, url: str, key: SigningKey) -> None:
    try:
        await client.request("$SYS.REQ.SERVER.PING", b"", timeout=SECONDS)
    except (TimeoutError, nats_errors()):
        raise _missing(url, key, "the account of podlt's user is not its system account", "system_account") from None


async def _knock(client: Any, url: str, cluster: NatsCluster) -> None:
    """Connects as a worker would, and lets it in."""
    channel, key = secrets.token_hex(8), SigningKey(secrets.token_bytes(32))
    options = pass_options(Pass(channel, key.public), key, cluster.certificate)
    asked: list[str] = []

    async def answer(message: Any) -> None:
        try:
            request = read_request(message.data)
        except InvalidProofError as error:
            asked.append(str(error))
            return
        if request.token == options["token"]:
            asked.append("")
            now = int(time.time())
            permissions = refused_permissions(channel, key.public, now + 10)
            await client.publish(message.reply, admit(request, issuer_key(cluster.key), permissions, now))

    await client.subscribe(SUBJECT, cb=answer)
    await client.flush()
    why = ""
    try:
        guest = await asyncio.wait_for(_nats().connect(url, error_cb=_ignore, **_ONCE, **options), 2 * SECONDS)
        inside = guest.is_connected
        await guest.close()
    except (OSError, TimeoutError, nats_errors()) as error:
        inside, why = False, _text(error)
    if inside and asked:
        return
    if not asked:
        raise _missing(url, cluster.key, "it does not ask managers who may connect", "authorization")
    if any(asked):
        raise UsageError(f"{url}: asks what cannot be read ({asked[0]}); its auth_callout must hold no xkey")
    reason = f"it does not take the answer of podlt's key, or has no account for workers ({why})"
    raise _missing(url, cluster.key, reason, "accounts", "authorization")


def _missing(url: str, key: SigningKey, reason: str, *parts: str) -> UsageError:
    """What to say of a configuration that is not what it must be."""
    sections = configuration.sections(key)
    lines = "\n".join(sections.values() if parts == ("all",) else (sections[part] for part in parts))
    return UsageError(
        f"{url}: {reason}; its configuration must hold (podlt key nats FILE prints all of it):\n\n{lines}\n"
        "Then start the server again: a system account is not taken by a reload"
    )


def _text(error: BaseException) -> str:
    return str(error) or ("no answer" if isinstance(error, TimeoutError) else type(error).__name__)


async def _ignore(error: Exception) -> None:
    """What goes wrong is raised as well."""


def _nats() -> Any:
    nats_errors()  # says which package is missing
    import nats

    return nats
