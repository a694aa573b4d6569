"""in-toto statements in DSSE envelopes, and sigstore bundles around these: plain JSON, and one signature.

Sources: github.com/in-toto/attestation (spec/v1), github.com/secure-systems-lab/dsse (protocol.md 1.0.0),
docs.sigstore.dev/about/bundle (version 0.3).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Protocol

from podlt.canonical import to_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"

Document = dict[str, Any]
"""A JSON object."""


class Signer(Protocol):
    """Signs statements: a key in a file, or an identity that sigstore certifies.

    Attributes:
        keyless: whether a certificate takes the key's place, so that only a whole bundle can be verified.
    """

    keyless: bool

    @property
    def identity(self) -> str:
        """Who signs, as a URI."""

    def bundle(self, payload: bytes) -> Document:
        """A sigstore bundle with a DSSE envelope around the payload, which is an in-toto statement."""


def statement(subjects: Sequence[Document], predicate_type: str, predicate: Document) -> bytes:
    """The bytes of an in-toto statement v1: canonical JSON.

    Args:
        subjects: resource descriptors, each with a digest.
        predicate_type: a URI.
        predicate: what is said of the subjects.
    """
    document = {
        "_type": STATEMENT_TYPE,
        "subject": list(subjects),
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    return to_json(document)


def pre_authentication(payload: bytes) -> bytes:
    """What DSSE has signed (PAE): the payload with its type, each after its length."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def bundle_of(payload: bytes, signature: bytes, hint: str) -> Document:
    """The sigstore bundle of a payload that a key signed, in no transparency log.

    Args:
        payload: the statement.
        signature: over `pre_authentication(payload)`.
        hint: by which a verifier knows the key.
    """
    return {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": hint, "sig": base64.b64encode(signature).decode()}],
        },
    }


def lines_of(bundle: Document, *, keyless: bool) -> bytes:
    """A file's bytes: the envelope alone, or, where only a certificate says who signed, the whole bundle."""
    return to_json(bundle if keyless else bundle["dsseEnvelope"]) + b"\n"
