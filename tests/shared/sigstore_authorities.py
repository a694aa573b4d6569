"""Who certifies and tells the time in `local_sigstore`: Fulcio with a CT log's promise, and a timestamp authority."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_ISSUER_OLD = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_TSA_CONFIG = """
[tsa]
serial = {folder}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def compact(document: object) -> bytes:
    """JSON as RFC 8785 has it, for the documents of this file."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


class ServiceKey:
    """A key of P-256, with the name by which logs know it: SHA-256 of its public key."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.der = self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.name = hashlib.sha256(self.der).digest()

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))

    def pem(self) -> bytes:
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


class Authority(ServiceKey):
    """A root of certificates."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = _usage(key_cert_sign=True, crl_sign=True)
        start = datetime.now(UTC) - timedelta(days=2)
        builder = self._builder(self.subject, self.private.public_key(), start, start + timedelta(days=30))
        builder = builder.add_extension(x509.BasicConstraints(True, None), True).add_extension(usage, True)
        self.certificate = builder.sign(self.private, hashes.SHA256())

    def leaf(self, public: Any, start: datetime, end: datetime, purpose: Any, name: str = "") -> Any:
        """A certificate for one purpose, not signed yet."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        builder = self._builder(subject, public, start, end)
        builder = builder.add_extension(_usage(digital_signature=True), True)
        return builder.add_extension(x509.ExtendedKeyUsage([purpose]), purpose == ExtendedKeyUsageOID.TIME_STAMPING)

    def _builder(self, subject: x509.Name, public: Any, start: datetime, end: datetime) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(self.subject, subject, public, x509.random_serial_number(), start, end)
        own = x509.SubjectKeyIdentifier.from_public_key(public)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private.public_key())  # type: ignore[arg-type]
        return builder.add_extension(own, False).add_extension(issuer, False)


def _usage(**used: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    names += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: used.get(name, False) for name in names})


class RefusedRequestError(Exception):
    """What a service answers 400 to."""


class LocalFulcio(Authority):
    """Certifies a key for whom a token names.

    Args:
        provider: whose tokens it takes.

    Attributes:
        ct: the key of the log that promises to list each certificate.
        begins, lasts: of a certificate: seconds from now, and seconds.
    """

    def __init__(self, provider: ServiceKey) -> None:
        super().__init__("fulcio")
        self._provider, self.ct = provider, ServiceKey()
        self.begins, self.lasts = -5, 600

    def post_certificate(self, request: dict[str, Any], bearer: str) -> dict[str, Any]:
        try:
            claims = jwt.decode(bearer, self._provider.private.public_key(), ["ES256"], audience="sigstore")
        except jwt.PyJWTError as error:
            raise RefusedRequestError(f"There was an error processing the identity token: {error}") from None
        asked = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        if not asked.is_signature_valid:
            raise RefusedRequestError("the key is not the asker's")
        if workflow := claims.get("job_workflow_ref"):
            name: x509.GeneralName = x509.UniformResourceIdentifier(f"https://github.com/{workflow}")
        else:
            name = x509.RFC822Name(claims["sub"])
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=self.begins)
        end, purpose = start + timedelta(seconds=self.lasts), ExtendedKeyUsageOID.CODE_SIGNING
        builder = self.leaf(asked.public_key(), start, end, purpose)
        issuer = claims["iss"].encode()
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), True)
        builder = builder.add_extension(x509.UnrecognizedExtension(_ISSUER_OLD, issuer), False)
        text = element(0x0C, issuer)
        builder = builder.add_extension(x509.UnrecognizedExtension(_ISSUER, text), False)
        promised = self._promise(builder.sign(self.private, hashes.SHA256()).tbs_certificate_bytes)
        leaf = builder.add_extension(x509.UnrecognizedExtension(_SCT_LIST, promised), False)
        chain = [leaf.sign(self.private, hashes.SHA256()), self.certificate]
        pems = [each.public_bytes(serialization.Encoding.PEM).decode() for each in chain]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": pems}}}

    def _promise(self, certificate: bytes) -> bytes:
        """A list with one SCT (RFC 6962 3.2 and 3.3), in the octet string of its extension."""
        at = struct.pack(">Q", int(time.time() * 1000))
        size = len(certificate).to_bytes(3, "big")
        signed = b"\0\0" + at + b"\0\1" + self.name + size + certificate + b"\0\0"
        signature = self.ct.sign(signed)
        sct = b"\0" + self.ct.name + at + b"\0\0" + b"\4\3" + struct.pack(">H", len(signature)) + signature
        listed = struct.pack(">HH", len(sct) + 2, len(sct)) + sct
        return element(0x04, listed)


class LocalClock(Authority):
    """Says when it saw a signature (RFC 3161), by the command openssl.

    Args:
        folder: of its own.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("time")
        self._folder, self._guard = folder, threading.Lock()
        key, start = ServiceKey(), datetime.now(UTC) - timedelta(days=1)
        end, purpose = start + timedelta(days=9), ExtendedKeyUsageOID.TIME_STAMPING
        builder = self.leaf(key.private.public_key(), start, end, purpose, "clock")
        self.signer = builder.sign(self.private, hashes.SHA256())
        (folder / "tsa.key").write_bytes(key.pem())
        (folder / "tsa.pem").write_bytes(self.signer.public_bytes(serialization.Encoding.PEM))
        (folder / "tsa.conf").write_text(_TSA_CONFIG.format(folder=folder))
        (folder / "serial").write_text("01\n")

    def post_timestamp(self, query: bytes) -> bytes:
        with self._guard:
            (self._folder / "query").write_bytes(query)
            command = ["openssl", "ts", "-reply", "-queryfile", "query", "-out", "reply", "-config", "tsa.conf"]
            command += ["-section", "tsa", "-signer", "tsa.pem", "-inkey", "tsa.key"]
            subprocess.run(command, cwd=self._folder, check=True, capture_output=True)
            return (self._folder / "reply").read_bytes()


def element(tag: int, data: bytes) -> bytes:
    """DER, of fewer than 256 bytes."""
    return bytes([tag, len(data)] if len(data) < 128 else [tag, 0x81, len(data)]) + data
