"""The transparency log of `local_sigstore`: Rekor's two interfaces over one tree (RFC 6962)."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import uuid
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from sigstore_authorities import ServiceKey, b64, compact


class LocalRekor(ServiceKey):
    """Logs what certified keys signed.

    Args:
        version: 1 as sigstore.dev has it, 2 as sigstage.dev.

    Attributes:
        ahead: how many seconds its clock is ahead.
        entries: all of them.
    """

    def __init__(self, version: int) -> None:
        super().__init__()
        self.version, self.ahead, self.entries = version, 0, list[bytes]()
        self._guard = threading.Lock()

    def post_entry(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._guard:
            return self._entry_v1(request) if self.version == 1 else self._entry_v2(request)

    def _entry_v1(self, request: dict[str, Any]) -> dict[str, Any]:
        proposed = request["spec"]["proposedContent"]
        envelope, (verifier,) = json.loads(proposed["envelope"]), proposed["verifiers"]
        payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
        (signature,) = envelope["signatures"]
        certificate = x509.load_pem_x509_certificate(base64.b64decode(verifier))
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        _key_of(certificate).verify(base64.b64decode(signature["sig"]), signed, ec.ECDSA(hashes.SHA256()))
        digests = [hashlib.sha256(data).hexdigest() for data in (proposed["envelope"].encode(), payload)]
        envelope_hash, payload_hash = ({"algorithm": "sha256", "value": value} for value in digests)
        signatures = [{"signature": signature["sig"], "verifier": verifier}]
        spec = {"envelopeHash": envelope_hash, "payloadHash": payload_hash, "signatures": signatures}
        body = compact({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        index, size, root, path = self._append(body)
        entry: dict[str, Any] = {"body": b64(body), "integratedTime": int(time.time()) + self.ahead}
        entry |= {"logID": self.name.hex(), "logIndex": index}
        promise = b64(self.sign(compact(entry)))
        proof: dict[str, Any] = {"logIndex": index, "treeSize": size, "rootHash": root.hex()}
        proof |= {"hashes": [each.hex() for each in path], "checkpoint": self._checkpoint(size, root)}
        return {uuid.uuid4().hex: {**entry, "verification": {"inclusionProof": proof, "signedEntryTimestamp": promise}}}

    def _entry_v2(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = request["hashedRekordRequestV002"]
        digest, signature = base64.b64decode(asked["digest"]), asked["signature"]
        raw = base64.b64decode(signature["verifier"]["x509Certificate"]["rawBytes"])
        key = _key_of(x509.load_der_x509_certificate(raw))
        key.verify(base64.b64decode(signature["content"]), digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        record = {"data": {"algorithm": "SHA2_256", "digest": asked["digest"]}, "signature": signature}
        kind = {"kind": "hashedrekord", "apiVersion": "0.0.2"}
        body = compact({**kind, "spec": {"hashedRekordV002": record}})
        index, size, root, path = self._append(body)
        proof: dict[str, Any] = {"logIndex": str(index), "treeSize": str(size), "rootHash": b64(root)}
        proof |= {"hashes": [b64(each) for each in path], "checkpoint": {"envelope": self._checkpoint(size, root)}}
        known = {"logId": {"keyId": b64(self.name)}, "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"}}
        return {"logIndex": str(index), **known, "inclusionProof": proof, "canonicalizedBody": b64(body)}

    def _append(self, body: bytes) -> tuple[int, int, bytes, list[bytes]]:
        """An entry's index, and the size, root and path (RFC 6962 2.1) that prove it."""
        self.entries.append(body)
        leaves = [hashlib.sha256(b"\0" + each).digest() for each in self.entries]
        return len(leaves) - 1, len(leaves), _root(leaves), _path(len(leaves) - 1, leaves)

    def _checkpoint(self, size: int, root: bytes) -> str:
        note = f"test.local\n{size}\n{b64(root)}\n"
        return f"{note}\n\u2014 test.local {b64(self.name[:4] + self.sign(note.encode()))}\n"


def _key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = _half(len(leaves))
    return hashlib.sha256(b"\1" + _root(leaves[:half]) + _root(leaves[half:])).digest()


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    half = _half(len(leaves))
    if index < half:
        return [*_path(index, leaves[:half]), _root(leaves[half:])]
    return [*_path(index - half, leaves[half:]), _root(leaves[:half])]


def _half(size: int) -> int:
    """The largest power of two below a size."""
    return 1 << (size - 1).bit_length() - 1
