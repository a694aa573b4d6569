"""The configuration of a NATS server: TLS from the first byte, who may ask what, and who decides on all others.

Accounts are walls inside the server: workers and the manager's link are in one, and have only their subjects there;
the system's account, where connections are admitted, counted and cut, is the manager's alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from podlt.crypto import SigningKey
from podlt.network.nats.authorization import ACCOUNT
from podlt.network.nats.login import PREFIX_ACCOUNT, PREFIX_USER, issuer_key, link_key, nkey, system_key

SYSTEM_ACCOUNT = "PODLT_SYSTEM"
MOST_CONNECTIONS = 8192
MOST_SUBSCRIPTIONS = 8
"""Of one connection."""

MOST_PAYLOAD = 513 * 1024
"""Bytes of one message: the longest of `messages`, and a little for what a link may put around it."""

PENDING = 64 * 2**20
"""Bytes that wait for one slow reader before it is cut off."""


@dataclass(frozen=True)
class Listen:
    """Where a server listens; `websocket` is None for nowhere."""

    host: str
    port: int
    websocket: int | None = None


def access(key: SigningKey) -> str:
    """Accounts and authorization of a manager's own server.

    Args:
        key: the manager's; only public keys are in the text.
    """
    return "".join(_sections(key, link=True).values())


def sections(key: SigningKey) -> dict[str, str]:
    """What the configuration of a cluster of one's own must hold, by its parts (`podlt manager --nats`).

    Managers come in by the gate as workers do, so that the text is the same for all of them; and who is in another
    account is none of the gate's business.

    Args:
        key: the one that managers on this cluster share; only public keys are in the text.
    """
    return _sections(key, link=False)


def _sections(key: SigningKey, *, link: bool) -> dict[str, str]:
    system, own = (nkey(PREFIX_USER, of(key).public) for of in (system_key, link_key))
    issuer = nkey(PREFIX_ACCOUNT, issuer_key(key).public)
    users, asked = (f" users: [ {{ nkey: {own} }} ] ", f"{system}, {own}") if link else ("", system)
    return {
        "accounts": f"""\
accounts {{
  {SYSTEM_ACCOUNT} {{ users: [ {{ nkey: {system} }} ] }}
  {ACCOUNT} {{{users}}}
}}
""",
        "system_account": f"system_account: {SYSTEM_ACCOUNT}\n",
        "authorization": f"""\
authorization {{
  timeout: 1.9
  auth_callout {{
    issuer: {issuer}
    account: {SYSTEM_ACCOUNT}, auth_users: [ {asked} ], allowed_accounts: [ {ACCOUNT} ]
  }}
}}
""",
    }


def configuration(
    listen: Listen, key: SigningKey, *, certificate: Path, private_key: Path, log: Path, pid: Path
) -> str:
    """The configuration of a manager's own server.

    Args:
        key: the manager's.
        certificate: the absolute path of a PEM file.
        private_key: the absolute path of a PEM file.
        log: the absolute path of the log to write.
        pid: the absolute path of the file for the process's number.
    """
    tls = f"cert_file: {_quoted(certificate)}, key_file: {_quoted(private_key)}, timeout: 5"
    text = f"""\
server_name: podlt
listen: {json.dumps(_address(listen.host, listen.port))}
tls {{ {tls}, min_version: "1.3", handshake_first: true, connection_rate_limit: 500 }}
pid_file: {_quoted(pid)}
log_file: {_quoted(log)}
logfile_size_limit: 10MB
logfile_max_num: 3
max_payload: {MOST_PAYLOAD}
max_subscriptions: {MOST_SUBSCRIPTIONS}
max_sub_tokens: 12
max_pending: {PENDING}
max_control_line: 4KB
max_connections: {MOST_CONNECTIONS}
write_deadline: "10s"
ping_interval: "10s"
ping_max: 2
{access(key)}"""
    if listen.websocket is not None:
        web = json.dumps(_address(listen.host, listen.websocket))
        text += f'websocket {{ listen: {web}, handshake_timeout: "5s", tls {{ {tls}, min_version: "1.3" }} }}\n'
    return text


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)
