"""Firefox, driven by its own Marionette: a TCP port on which commands of WebDriver are JSON. No driver is needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

NAMES = "firefox", "firefox-esr"
SECONDS = 90.0
"""To start, and for a page to show what is waited for: a browser on a busy machine is slow."""

_PREFERENCES = {
    "marionette.port": 0,  # a free one, written into the profile
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
    "app.normandy.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


_OPTIONS = "--headless", "--marionette", "--remote-allow-system-access", "--no-remote"

_FAULTS = """
return Services.console.getMessageArray()
  .filter((one) => one instanceof Ci.nsIScriptError && !(one.flags & Ci.nsIScriptError.warningFlag))
  .filter((one) => /^(https?|file|blob):/.test(one.sourceName) || one.category.includes("CSP"))
  .map((one) => `${one.errorMessage} (${one.sourceName}:${one.lineNumber})`);
"""


def firefox_program() -> str | None:
    """Where Firefox is on this machine, if anywhere."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Firefox:
    """A headless Firefox with one page.

    Args:
        program: see `firefox_program`.
        folder: an empty one, for its profile.
    """

    def __init__(self, program: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items()]
        (folder / "user.js").write_text("".join(lines))
        self._process = subprocess.Popen(
            [
                program,
                "--headless",
                "--marionette",
                "--remote-allow-system-access",
                "--no-remote",
                "--profile",
                str(folder),
            ],
            env={**os.environ, "HOME": str(folder), "MOZ_HEADLESS_WIDTH": "1000", "MOZ_HEADLESS_HEIGHT": "1200"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._number = 0
        try:
            self._socket = socket.create_connection(("127.0.0.1", self._port(folder)), SECONDS)
            self._read()  # its greeting
            self.ask("WebDriver:NewSession", {})
        except BaseException:
            self._process.kill()
            raise

    def ask(self, command: str, given: dict[str, Any]) -> Any:
        """What Firefox answers to a command of WebDriver."""
        self._number += 1
        message = json.dumps([0, self._number, command, given]).encode()
        self._socket.sendall(str(len(message)).encode() + b":" + message)
        _, _, error, found = self._read()
        assert error is None, error
        return found

    def open(self, url: str) -> None:
        """Opens a page."""
        self.ask("WebDriver:Navigate", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script of the page returns."""
        return self.ask("WebDriver:ExecuteScript", {"script": script, "args": list(arguments)})["value"]

    def give(self, selector: str, text: str) -> None:
        """Types into an element; a path into a file's chooses the file."""
        self.ask("WebDriver:ElementSendKeys", {"id": self._element(selector), "text": text})

    def click(self, selector: str) -> None:
        """Clicks an element."""
        self.ask("WebDriver:ElementClick", {"id": self._element(selector)})

    def text(self, selector: str) -> str:
        """The text that a reader sees of an element."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def wait(self, selector: str) -> None:
        """Waits until an element is there."""
        end = time.monotonic() + SECONDS
        while not self.run("return document.querySelector(arguments[0]) !== null", selector):
            assert time.monotonic() < end, f"no {selector}: {self.text('body')[:2000]}"
            time.sleep(0.1)

    def wait_for_text(self, text: str) -> None:
        """Waits until a reader sees a text."""
        end = time.monotonic() + SECONDS
        while text not in self.text("body"):
            assert time.monotonic() < end, f"no {text!r}: {self.text('body')[:2000]}"
            time.sleep(0.1)

    def faults(self) -> list[str]:
        """Errors of scripts and of policies since it started, of pages that it opened, and not Firefox' own."""
        self.ask("Marionette:SetContext", {"value": "chrome"})
        try:
            return [*self.run(_FAULTS)]
        finally:
            self.ask("Marionette:SetContext", {"value": "content"})

    def picture(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.ask("WebDriver:TakeScreenshot", {"full": True})["value"])

    def close(self) -> None:
        """Ends it."""
        with suppress(OSError, AssertionError):
            self.ask("Marionette:Quit", {"flags": ["eForceQuit"]})
        self._socket.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _element(self, selector: str) -> str:
        found = self.ask("WebDriver:FindElement", {"using": "css selector", "value": selector})["value"]
        return str(next(iter(found.values())))

    def _port(self, folder: Path) -> int:
        path, end = folder / "MarionetteActivePort", time.monotonic() + SECONDS
        while not (path.is_file() and path.read_text().strip()):
            assert self._process.poll() is None, "Firefox ended at once"
            assert time.monotonic() < end, "Firefox did not start"
            time.sleep(0.1)
        return int(path.read_text())

    def _read(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self._socket.recv(1) or _gone()
        text = b""
        while len(text) < int(length[:-1]):
            text += self._socket.recv(int(length[:-1]) - len(text)) or _gone()
        return json.loads(text)


def _gone() -> bytes:
    raise OSError("Firefox has gone")
