"""A client that asks a real manager for the same bytes again and again, and what it comes to.

    PYTHONPATH=src:tests/shared python tests/network/flood.py {none|stranger|member} [--rate 40] [--seconds 10]

`stranger` holds an invitation and never joins; `member` has the key of a worker that is admitted. Prints bytes of the
requests, bytes that they ask for, bytes that were sent, peak memory of manager and NATS server, and rounds a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
from stage import Stage, write_recipe

from podlt.crypto import SigningKey
from podlt.network import messages as m
from podlt.network.access.first_invitation import read_invitation
from podlt.network.access.worker_key import load_key
from podlt.network.nats.login import worker_options

CHUNK = 480 * 1024
HIDDEN = 1600
"""1.4 MB of parameters and optimizer state."""


async def flood(invitation: Path, key: SigningKey, rate: float, seconds: float) -> dict[str, float]:
    """Asks for the parameters' first chunk, 64 times in each message, and for the setup.

    Args:
        rate: messages a second.
    """
    shown, me = read_invitation(str(invitation)), key.public.hex()
    client = await nats.connect(list(shown.servers), **worker_options(shown, key))
    known, requests, asked, came = [b"", 0], 0, 0, 0

    async def hear_all(message: Any) -> None:
        said = m.from_manager(message.data)
        if isinstance(said, m.Parameters):
            known[:] = [said.digest, said.size]

    async def hear(message: Any) -> None:
        nonlocal came
        came += len(message.data)

    await client.subscribe(f"podlt.{shown.channel}.all.m", cb=hear_all)
    await client.subscribe(f"podlt.{shown.channel}.down.{me}.m", cb=hear, pending_bytes_limit=2**31)
    end = time.monotonic() + seconds
    while time.monotonic() < end and client.is_connected:  # a server cuts off who does not read
        digest, size = known
        bodies = [m.record(m.Hello(version=m.VERSION))]
        if digest:
            bodies.append(m.record(m.GetChunks(digest=digest, ranges=[(0, min(CHUNK, size))] * 64)))
            asked += 64 * min(CHUNK, size)
        for body in bodies:
            requests += len(body)
            with suppress(nats.errors.Error):
                await client.publish(f"podlt.{shown.channel}.up.{me}.m", body)
        await asyncio.sleep(1 / rate)
    await asyncio.sleep(1)
    with suppress(Exception):
        await client.close()
    return {"requests_MB": requests / 1e6, "asked_MB": asked / 1e6, "sent_MB": came / 1e6}


def peak(pid: int) -> float:
    """The most memory that a process has had, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1e3


def measure(folder: Path, who: str, rate: float, seconds: float) -> dict[str, float]:
    """Lets a manager and four workers train, with a flood or without.

    Args:
        who: floods: "stranger", "member" or "none".
    """
    recipe = write_recipe(folder / "recipe.toml", epochs=100_000, workers=4, hidden=HIDDEN)
    with Stage(folder, recipe) as stage:
        stage.start_manager()
        for name in ("a", "b"):
            stage.start_worker(name, "--identities", 2, "--key", folder / f"{name}.key")
        stage.until_round(5)
        manager = stage.manager._popen.pid
        before, rounds, began = peak(manager), stage.rounds(), time.monotonic()
        found: dict[str, float] = {}
        if who == "none":
            time.sleep(seconds)
        else:
            key = SigningKey(os.urandom(32)) if who == "stranger" else load_key(folder / "a.key")
            found = asyncio.run(flood(stage.run / "invitation.txt", key, rate, seconds))
        done, took = stage.rounds() - rounds, time.monotonic() - began
        found |= {
            "manager_before_MB": before,
            "manager_peak_MB": peak(manager),
            "server_peak_MB": peak(stage.server()),
            "parameters_MB": max(one["size"] for one in stage.events("published")) / 1e6,
            "rounds": done,
            "rounds_per_second": done / took,
        }
        assert stage.manager.runs, stage.said()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=["none", "stranger", "member"])
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.who, given.rate, given.seconds)
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()
