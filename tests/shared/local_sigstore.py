"""A sigstore on loopback: identity provider, Fulcio with a CT log's promise, Rekor (v1 or v2), timestamp authority.

It stands in for services that a test cannot reach, over real HTTP, and checks what they check: who signed a token, for
whom and until when; that whoever asks for a certificate has its key; that an entry's signature is the certificate's.
What it leaves out: TUF (the trust root is a file), an intermediate authority, a CT log that one could ask (only its
signed promise), cosigned checkpoints and shards of Rekor, Fulcio's other extensions than the issuer, and any memory.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sigstore_authorities import LocalClock, LocalFulcio, RefusedRequestError, ServiceKey, b64
from sigstore_log import LocalRekor

GITHUB = "https://token.actions.githubusercontent.com"


class LocalSigstore:
    """All services on one port of loopback, while it is entered.

    Args:
        folder: of its own.
        rekor: the log's version.

    Attributes:
        url: of all of them; by its tokens also the issuer of identities.
        visitor: whom a browser's login finds.
        down: paths that answer 503.
        asked: the paths that were asked for.
    """

    def __init__(self, folder: Path, rekor: int = 1) -> None:
        self._provider = ServiceKey()
        self.fulcio, self.rekor, self.clock = LocalFulcio(self._provider), LocalRekor(rekor), LocalClock(folder)
        self.visitor, self.down, self.asked = "ann@example.org", set[str](), list[str]()
        self._challenges: dict[str, str] = {}

    def __enter__(self) -> LocalSigstore:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"services": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trust_config(self) -> str:
        """The file that names these services and their keys: sigstore's ClientTrustConfig."""
        days = {"start": "2020-01-01T00:00:00Z"}

        def log(key: ServiceKey) -> dict[str, Any]:
            public = {"rawBytes": b64(key.der), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": days}
            return {
                "baseUrl": self.url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": public,
                "logId": {"keyId": b64(key.name)},
            }

        def authority(*chain: x509.Certificate) -> dict[str, Any]:
            certificates = [{"rawBytes": b64(each.public_bytes(serialization.Encoding.DER))} for each in chain]
            subject = {"organization": "test", "commonName": "test"}
            return {
                "subject": subject,
                "uri": self.url,
                "certChain": {"certificates": certificates},
                "validFor": days,
            }

        def service(path: str, version: int = 1) -> list[dict[str, Any]]:
            return [{"url": self.url + path, "majorApiVersion": version, "validFor": days, "operator": "test"}]

        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.rekor)],
            "certificateAuthorities": [authority(self.fulcio.certificate)],
            "ctlogs": [log(self.fulcio.ct)],
            "timestampAuthorities": [authority(self.clock.signer, self.clock.certificate)],
        }
        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service(""),
            "oidcUrls": service(""),
            "rekorTlogUrls": service("", self.rekor.version),
            "tsaUrls": service("/timestamp"),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        }
        kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        return json.dumps({"mediaType": kind, "trustedRoot": root, "signingConfig": signing})

    # -- the identity provider ---------------------------------------------------------------------------------------

    def token(self, identity: str, *, lasts: int = 300, issuer: str = "", **claims: object) -> str:
        """Who somebody is, signed: an OpenID Connect token for sigstore."""
        now = int(time.time())
        body = {"iss": issuer or self.url, "aud": "sigstore", "sub": identity, "iat": now, "nbf": now - 1}
        return jwt.encode({**body, "exp": now + lasts, **claims}, self._provider.pem(), "ES256")

    def github_token(self, repository: str = "ann/net", *, lasts: int = 300) -> str:
        """What a job of GitHub Actions is given."""
        workflow = f"{repository}/.github/workflows/train.yml@refs/heads/main"
        subject = f"repo:{repository}:ref:refs/heads/main"
        return self.token(subject, lasts=lasts, issuer=GITHUB, job_workflow_ref=workflow)

    def get_openid(self, query: dict[str, str]) -> dict[str, str]:
        return {"authorization_endpoint": f"{self.url}/auth", "token_endpoint": f"{self.url}/token"}

    def get_auth(self, query: dict[str, str]) -> str:
        """Logs in who asks, and sends the browser back with a code."""
        code = uuid.uuid4().hex
        self._challenges[code] = query["code_challenge"]
        return f"{query['redirect_uri']}?code={code}&state={query['state']}"

    def post_token(self, form: dict[str, str]) -> dict[str, str]:
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if self._challenges.pop(form["code"], None) != base64.urlsafe_b64encode(digest).decode().rstrip("="):
            raise RefusedRequestError("another code verifier")
        return {"access_token": self.token(self.visitor)}

    def get_job_token(self, query: dict[str, str]) -> dict[str, str]:
        """GitHub's, for a job that may have one."""
        return {"value": self.github_token()}


class _Handler(BaseHTTPRequestHandler):
    """Paths, and the forms in which bodies come and go."""

    services: LocalSigstore
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/auth":
            return self._answer(302, b"", Location=self.services.get_auth(query))
        found = {
            "/.well-known/openid-configuration": self.services.get_openid,
            "/job-token": self.services.get_job_token,
        }
        self._served(parts.path, lambda: json.dumps(found[parts.path](query)).encode())

    def do_POST(self) -> None:
        own, body = self.services, self.rfile.read(int(self.headers["Content-Length"]))
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        found = {
            "/token": lambda: own.post_token({name: v[0] for name, v in parse_qs(body.decode()).items()}),
            "/api/v2/signingCert": lambda: own.fulcio.post_certificate(
                json.loads(body), bearer.removeprefix("Bearer ")
            ),
            "/api/v1/log/entries": lambda: own.rekor.post_entry(json.loads(body)),
            "/api/v2/log/entries": lambda: own.rekor.post_entry(json.loads(body)),
        }
        if self.path == "/timestamp":
            return self._served(self.path, lambda: own.clock.post_timestamp(body))
        self._served(self.path, lambda: json.dumps(found[self.path]()).encode())

    def _served(self, path: str, answer: Any) -> None:
        self.services.asked.append(path)
        if path in self.services.down:
            return self._answer(503, b'{"code": 503, "message": "down for maintenance"}')
        try:
            self._answer(201 if self.command == "POST" else 200, answer())
        except RefusedRequestError as error:
            self._answer(400, json.dumps({"code": 400, "message": str(error)}).encode())

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""
