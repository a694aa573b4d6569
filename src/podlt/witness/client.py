"""Asks a witness for a cosignature, by HTTP."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from podlt.errors import InvalidProofError, PodltError, UsageError
from podlt.log.notes import NoteSignature, WitnessKey, parse_signatures
from podlt.log.tree_head import Head
from podlt.recipe import Recipe
from podlt.witness.request import AddCheckpoint

TIMEOUT_SECONDS = 10.0
MAX_ANSWER = 16 * 1024
_TRIES = 4

Prove = Callable[[int, int], list[bytes]]
"""The consistency proof from one size of the log to another."""


def clients_of(recipe: Recipe) -> list[WitnessClient]:
    """The witnesses that a recipe names.

    Raises:
        UsageError: a URL is none.
    """
    return [WitnessClient(WitnessKey.of_text(each.key), each.url) for each in recipe.witnesses]


class WitnessError(PodltError):
    """A witness did not cosign.

    Args:
        reason: for people.
        conflict: whether it saw another log under the same name: one of the two is no true history of the run.
    """

    def __init__(self, reason: str, *, conflict: bool = False) -> None:
        super().__init__(reason)
        self.conflict = conflict


class WitnessClient:
    """One witness, as seen from a log.

    Args:
        key: who it is.
        url: its submission prefix.

    Attributes:
        known: the size that it saw last, as far as we know.

    Raises:
        UsageError: the URL is none.
    """

    def __init__(self, key: WitnessKey, url: str) -> None:
        self.key, self.known = key, 0
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query or parts.fragment:
            raise UsageError(f"witness {key.name}: url: expected http(s)://HOST[:PORT][/PATH], got {url!r}")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, port
        self._prefix = parts.path.rstrip("/")

    def cosign(self, note: str, head: Head, prove: Prove, first_entry: bytes) -> NoteSignature:
        """Has a head cosigned.

        Args:
            note: the signed note of the head.
            head: what is in it.
            prove: gives consistency proofs.
            first_entry: of the run, by which it introduces itself to a witness that does not know it.

        Raises:
            WitnessError: it did not cosign, or cannot be reached.
        """
        for _ in range(_TRIES):
            if self.known > head.size:
                raise self._longer(self.known, head)
            old = self.known
            request = AddCheckpoint(old, prove(old, head.size), note)
            status, body = self._post("/add-checkpoint", request.body())
            if status == HTTPStatus.OK:
                found = self._own(body, head)
                self.known = head.size
                return found
            if status == HTTPStatus.NOT_FOUND:
                self._introduce(first_entry)
            elif status == HTTPStatus.CONFLICT:
                self._catch_up(body, old, head)
            elif status == HTTPStatus.UNPROCESSABLE_ENTITY:
                raise WitnessError(f"it saw another log of this run, {old:,} entries long", conflict=True)
            else:
                raise WitnessError(f"it answered {status}: {_text(body)}")
        raise WitnessError("it answers otherwise each time")

    def _own(self, body: bytes, head: Head) -> NoteSignature:
        """Its own cosignature among those that came, checked."""
        try:
            signatures = parse_signatures(body.decode())
        except (InvalidProofError, UnicodeDecodeError):
            raise WitnessError("malformed answer: no signature lines") from None
        for signature in signatures:
            try:
                self.key.cosigned_at(head, signature)
            except InvalidProofError:
                continue
            return signature
        raise WitnessError("it answered without a cosignature by the key that the recipe names")

    def _introduce(self, first_entry: bytes) -> None:
        status, body = self._post("/add-run", first_entry)
        if status != HTTPStatus.OK:
            raise WitnessError(f"it does not know the run, and takes none by itself ({status}: {_text(body)})")
        self.known = 0

    def _catch_up(self, body: bytes, old: int, head: Head) -> None:
        """Takes the size that the witness saw last from its answer."""
        text = body[:20].decode("ascii", "replace").strip()
        if not (text.isascii() and text.isdigit()):
            raise WitnessError("malformed answer: no size")
        if int(text) > head.size:
            raise self._longer(int(text), head)
        if int(text) == old:
            raise WitnessError(f"it saw another log of this run, {old:,} entries long", conflict=True)
        self.known = int(text)

    def _longer(self, size: int, head: Head) -> WitnessError:
        return WitnessError(f"it saw {size:,} entries, this log has {head.size:,}: the log was cut", conflict=True)

    def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of an answer.

        Raises:
            WitnessError: there is none, or it is too long.
        """
        if self._secure:
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_SECONDS, context=context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("POST", self._prefix + path, body, {"Content-Type": "text/plain"})
            answer = connection.getresponse()
            found = answer.read(MAX_ANSWER + 1)
        except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a host that is no name
            raise WitnessError(f"cannot be reached: {error or type(error).__name__}") from None
        finally:
            connection.close()
        if len(found) > MAX_ANSWER:
            raise WitnessError("its answer is too long")
        return answer.status, found


def _text(body: bytes) -> str:
    """The first line of an answer, for people."""
    line = body[:200].decode("utf-8", "replace").splitlines()
    return "".join(c for c in line[0] if c.isprintable()) if line else "no reason"
