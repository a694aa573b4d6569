"""Digests, keys, signatures and commitments.

Every digest and signature names its purpose (its *domain*), so that bytes made for one can never pass for
another. SHA-256 is used for what the log rests on; BLAKE3, three times as fast here, for large blobs
(parameters and updates). Ed25519 is libsodium's, which refuses keys of small order and second encodings of a
signature, so that all verifiers agree.
"""

from __future__ import annotations

import hashlib
from functools import cache

import nacl.bindings as sodium
from blake3 import blake3
from nacl.exceptions import BadSignatureError

from podlt.errors import InvalidProofError

KEY_BYTES = 32
SALT_BYTES = 16


def digest(domain: str, *parts: bytes) -> bytes:
    """SHA-256 over a domain and parts, each preceded by its length, so that no two lists of parts collide.

    Args:
        domain: what the digest is for, such as "commitment/1".
        parts: byte strings of any length below 2**64.
    """
    state = _start(domain).copy()
    for part in parts:
        length = len(part)
        state.update(_LENGTHS[length] if length < 256 else length.to_bytes(8, "big"))
        state.update(part)
    return state.digest()


def blob_digest(data: bytes | memoryview) -> bytes:
    """BLAKE3 of a large blob, 32 bytes."""
    return blake3(data).digest()


class BlobHasher:
    """`blob_digest` of a blob that comes in parts."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = blake3()

    def update(self, data: bytes | memoryview) -> None:
        """Takes the next part."""
        self._state.update(data)

    def digest(self) -> bytes:
        """BLAKE3 of all parts so far, 32 bytes."""
        return self._state.digest()


def commitment(task: bytes, key: bytes, update: bytes, salt: bytes) -> bytes:
    """What a worker publishes before it shows its result: binds result, task and the worker's own key.

    Args:
        task: the task's digest (run, round, program, parameters, shard, randomness).
        key: the worker's public key, so that a copied commitment is worthless.
        update: the update's digest.
        salt: 16 bytes that nobody else knows yet.
    """
    return digest("commitment/1", task, key, update, salt)


class SigningKey:
    """An Ed25519 private key. Never printed, never logged.

    Args:
        seed: 32 secret bytes.
    """

    __slots__ = ("_secret", "_seed", "public")

    def __init__(self, seed: bytes) -> None:
        self.public, self._secret = sodium.crypto_sign_seed_keypair(seed)
        self._seed = seed

    def sign(self, domain: str, message: bytes) -> bytes:
        """The signature, 64 bytes, over `digest(domain, message)`."""
        return sodium.crypto_sign(digest(domain, message), self._secret)[:64]

    def sign_raw(self, message: bytes) -> bytes:
        """The signature over the message itself, for formats that others define (C2SP checkpoints)."""
        return sodium.crypto_sign(message, self._secret)[:64]

    def derive(self, domain: str, *parts: bytes) -> bytes:
        """32 bytes that only the holder of this key can make, and makes again the same (RFC 6979's idea).

        A worker's salts come from here: a task executed again after a crash gives the same commitment,
        so that a crash can never look like two answers to one task.
        """
        return digest(domain, self._seed, *parts)

    def seed(self) -> bytes:
        """The secret itself, for the key file and nothing else."""
        return self._seed

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()[:16]}…)"


def is_signed(key: bytes, domain: str, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is `key`'s over `digest(domain, message)`."""
    return is_signed_raw(key, digest(domain, message), signature)


def is_signed_raw(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is `key`'s over the message itself."""
    if len(signature) != 64 or len(key) != KEY_BYTES:
        return False
    try:
        sodium.crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


class HashChain:
    """The manager's secrets: published end first, so that it cannot choose one later.

    `end = H(H(...H(seed)))`; round 0's secret hashes to the end, round 1's secret to round 0's, and so on.
    Kept as one checkpoint every 256 links, so that any secret costs at most 256 hashes.

    Args:
        seed: 32 secret bytes.
        length: how many secrets there are.
    """

    STRIDE = 256

    def __init__(self, seed: bytes, length: int) -> None:
        self.length = length
        self._checkpoints = {length: seed}
        self._window: dict[int, bytes] = {}
        value = seed
        for index in range(length - 1, -1, -1):
            value = chain_link(value)
            if index % self.STRIDE == 0:
                self._checkpoints[index] = value
        self.end = value

    def secret(self, number: int) -> bytes:
        """The secret of a round, `number` in [0, length).

        Raises:
            InvalidProofError: the chain is used up.
        """
        if not 0 <= number < self.length:
            raise InvalidProofError(f"the chain of {self.length} secrets has no number {number}")
        index = number + 1
        if index not in self._window:
            self._fill_window(index)
        return self._window[index]

    def _fill_window(self, index: int) -> None:
        """Works out the links between two checkpoints, once: rounds ask for them one after the other."""
        start = min(self.length, -(-index // self.STRIDE) * self.STRIDE)
        value, self._window = self._checkpoints[start], {}
        for link in range(start, max(0, start - self.STRIDE), -1):
            self._window[link] = value
            value = chain_link(value)


def chain_link(secret: bytes) -> bytes:
    """The value that a secret of the chain must hash to."""
    return digest("secret/1", secret)


_LENGTHS = [length.to_bytes(8, "big") for length in range(256)]


@cache
def _start(domain: str) -> hashlib._Hash:
    """SHA-256 after the domain's prefix: most digests are of short parts, and the prefix is half of their work."""
    name = f"podlt/{domain}".encode()
    assert len(name) < 256
    return hashlib.sha256(bytes([len(name)]) + name)
