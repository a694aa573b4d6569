"""Who may see a dashboard: this machine alone, or whoever has the token; and which requests come from the page."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Protocol

COOKIE = "podlt"


class RequestHeaders(Protocol):
    """The head of a request, by names of whatever case."""

    def get(self, name: str, failobj: str, /) -> str:
        """The value of a field, or `failobj`."""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, seen from itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """Decides on each request.

    Args:
        host: where the server listens.
        acts: whether the page has buttons that do something: then there is a token on this machine, too.
        token: that is shown once, in the address; a new one unless given.

    Attributes:
        token: which opens the page; "" where none is needed.
    """

    def __init__(self, host: str, *, acts: bool, token: str = "") -> None:
        self._local = is_loopback(host)
        self.token = token or (secrets.token_urlsafe(18) if acts or not self._local else "")

    def is_ours(self, headers: RequestHeaders) -> bool:
        """Whether a request names us as we are known: a page elsewhere whose name leads here does not."""
        if not self._local:
            return True  # any name may lead here; the token decides
        name = headers.get("Host", "").rpartition(":")[0] or headers.get("Host", "")
        return is_loopback(name.strip("[]"))

    def may_read(self, headers: RequestHeaders) -> bool:
        """Whether a request may see the page's data."""
        return not self.token or self._has_cookie(headers)

    def may_act(self, headers: RequestHeaders) -> bool:
        """Whether a request may press a button: with the cookie, and from this very page."""
        return bool(self.token) and self._has_cookie(headers) and self.is_same_origin(headers)

    def is_same_origin(self, headers: RequestHeaders) -> bool:
        """Whether a page of this server sent a request."""
        origin = headers.get("Origin", "")
        return origin.partition("://")[2] == headers.get("Host", "") and origin.startswith(("http://", "https://"))

    def opens(self, token: str) -> bool:
        """Whether a token is the one."""
        return bool(self.token) and hmac.compare_digest(token.encode(), self.token.encode())

    def cookie(self) -> str:
        """What the browser keeps instead of the token's address; gone when it is closed."""
        return f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"

    def _has_cookie(self, headers: RequestHeaders) -> bool:
        try:
            found = SimpleCookie(headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return found is not None and self.opens(found.value)
