"""The checker's scripts under node, and bundles to give them."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from podlt import crypto
from podlt.dashboard.checker_page import FOLDER
from podlt.sim.world import MemoryLog
from podlt.store.container import ContainerWriter
from podlt.verify.documents import Documents

SCRIPT = Path(__file__).with_name("checker.mjs")


class NodeError(AssertionError):
    """The scripts raised what they should not."""


class Node:
    """A node process that has the checker's scripts."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen(
            [program, str(SCRIPT), str(FOLDER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, ask: str, **given: Any) -> Any:
        """What the scripts answer; bytes are sent as base64."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"ask": ask, **given}, default=_base64) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        if "error" in found:
            raise NodeError(found["error"] + "\n" + found["stack"])
        return found["answer"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed: the checker's scripts run in a browser, or in node 20")
    running = Node(program)
    yield running
    running.close()


@pytest.fixture(scope="module", autouse=True)
def signatures_are_remembered() -> Iterator[None]:
    """Most tests verify one log that was changed in a place."""
    whole = crypto.is_signed_raw
    crypto.is_signed_raw = lru_cache(2**16)(whole)
    yield
    crypto.is_signed_raw = whole


def bundle_of(log: MemoryLog, documents: Documents, **more: bytes) -> bytes:
    """A bundle of a log in memory. `more`: other members, by names whose dots and slashes are underscores."""
    entries = b"".join(len(body).to_bytes(4, "big") + body for _, _, body in log.entries())
    heads = "".join(note for _, note in log.heads()).encode()
    members: dict[str, bytes | None] = {"podlt-bundle": b"podlt-bundle/1\n", "log/entries": entries, "log/heads": heads}
    members |= {"log/cosignatures": more.get("cosignatures")}
    members |= {"recipe.json": documents.recipe, "program.json": documents.program}
    members |= {"model.safetensors": more.get("model"), "buffers.safetensors": more.get("buffers")}
    return container_of([(name, data) for name, data in members.items() if data is not None])


def container_of(members: list[tuple[str, bytes]]) -> bytes:
    """Members in one file, in the order given."""
    file = BytesIO()
    writer = ContainerWriter(file)
    for name, data in members:
        with writer.member(name) as member:
            member.write(data)
    writer.finish()
    return file.getvalue()
