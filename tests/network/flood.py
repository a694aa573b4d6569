"""A client that asks a real manager for the same bytes again and again, and what it comes to.

    PYTHONPATH=src:tests/shared python tests/network/flood.py {none|stranger|member} [--rate 40] [--seconds 10]

`stranger` holds an invitation and never joins; `member` has the key of a worker that is admitted. Prints bytes of the
requests, bytes that they ask for, bytes that were sent, peak memory of the manager, and rounds a second.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from pathlib import Path

from stage import Stage, write_recipe

from podlt.crypto import SigningKey
from podlt.network import messages as m
from podlt.network.access.first_invitation import read_invitation
from podlt.network.access.worker_key import load_key
from podlt.network.client.link import ClientLink

HIDDEN = 500
"""0.4 MB of parameters and optimizer state."""


def flood(invitation: Path, key: SigningKey, rate: float, seconds: float) -> dict[str, float]:
    """Asks for the parameters, 64 times, and for the setup.

    Args:
        rate: such bursts a second.
    """
    link = ClientLink(read_invitation(str(invitation)), [key])
    link.start()
    requests = asked = came = 0
    digest, size, end = b"", 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _, message in link.receive(1 / rate):
            came += len(message)
            said = m.from_manager(message) if message else None
            if isinstance(said, m.Parameters):
                digest, size = said.digest, said.size
        bodies = [m.record(m.Hello(version=m.VERSION))] + [m.record(m.GetParameters(digest=digest))] * 64 * bool(digest)
        asked += 64 * size
        for body in bodies:
            requests += len(body)
            link.send(key.public, body)
    link.close()
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
            found = flood(stage.run / "invitation.txt", key, rate, seconds)
        done, took = stage.rounds() - rounds, time.monotonic() - began
        found |= {
            "manager_before_MB": before,
            "manager_peak_MB": peak(manager),
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
