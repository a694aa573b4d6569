"""A key that signs attestations: an elliptic curve's, in a PEM file, as OpenSSL and `model_signing` read it.

Not podlt's own Ed25519 keys: `model_signing` verifies keys of P-256, P-384 and P-521 only.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from podlt.attestation.envelope import Document, bundle_of, pre_authentication
from podlt.errors import StorageError, UsageError
from podlt.store.files import read_whole, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

PUBLIC_SUFFIX = ".pub"
_LONGEST = 65536
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


class FileKey:
    """A private key of a file.

    Args:
        private: of one of the curves P-256, P-384, P-521.

    Attributes:
        public_pem: the public key.
        hint: SHA-256 of `public_pem`, in hexadecimal: how a bundle names the key.
    """

    keyless = False

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        self.public_pem = _public_pem(private.public_key())
        self.hint = hashlib.sha256(self.public_pem).hexdigest()
        self.identity = f"https://podlt.run/key/{self.hint}"

    def bundle(self, payload: bytes) -> Document:
        """See `Signer`."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        digests: dict[int, hashes.HashAlgorithm] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
        digest = digests[self._private.curve.key_size]
        signature = self._private.sign(pre_authentication(payload), ec.ECDSA(digest))
        return bundle_of(payload, signature, self.hint)

    def __repr__(self) -> str:
        return f"FileKey(hint={self.hint[:16]}…)"


def new_key(path: Path) -> FileKey:
    """Makes a key of P-256 in a new file that only its owner reads, and the public key beside it (`.pub`).

    Raises:
        UsageError: there is a file already, or the package cryptography is missing.
        StorageError: it cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    public = path.with_name(path.name + PUBLIC_SUFFIX)
    for taken in (path, public):
        if taken.exists():
            raise UsageError(f"{taken}: the file exists; a key is never overwritten")
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = FileKey(private)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from None
    write_whole(public, key.public_pem)
    return key


def load_key(path: Path) -> FileKey:
    """The key of a PEM file.

    Raises:
        UsageError: missing, readable by others, encrypted, or no key of the three curves.
        StorageError: it cannot be read.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not path.is_file():
        raise UsageError(f"{path}: no such key; podlt attest --new-key {path} makes one")
    pem = read_whole(path, _LONGEST)
    if b"PUBLIC KEY" in pem:
        raise UsageError(f"{path}: a public key, which verifies: sign with the private one of its pair")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{path}: others can read this key; expected mode 0600 (chmod 600 {path})")
    expected = "expected a PEM file with an unencrypted private key of P-256, P-384 or P-521"
    try:
        private = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:  # the content itself is in no message
        raise UsageError(f"{path}: {expected} ({type(error).__name__})") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name not in _CURVES:
        raise UsageError(f"{path}: {expected}; model_signing verifies no others")
    return FileKey(private)


def _public_pem(public: ec.EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
