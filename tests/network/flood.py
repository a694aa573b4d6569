"""Clients that mean harm against a real manager with four workers, and what it comes to.

    python tests/network/flood.py HOW [--seconds 60] [--rate 40]

`HOW`: `none`; `stranger` asks for the same bytes again and again, holds an invitation and never joins; `member` is
a worker that works, and does so besides; `small`, `large` and `reconnect` do with an invited key whatever is fastest:
messages of a byte, malformed ones of 500 KB, connections and logins; `connections` opens 5,000 connections that say
nothing, or half of something, from 127.0.0.2. Prints peak memory of the manager, rounds a second before and during it,
seconds until another worker had joined meanwhile, and what the operator was told.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

from links import Raw
from stage import Circumstances, Stage, write_recipe

from podlt.access.first_invitation import read_invitation
from podlt.access.invitation import Invitation
from podlt.crypto import SigningKey
from podlt.network.client.link import ClientLink
from podlt.wire import control
from podlt.wire import messages as m

HIDDEN = 500
"""0.4 MB of parameters and optimizer state."""

STRANGERS = 5000

Going = Callable[[], bool]
Figures = dict[str, Any]


class Requests:
    """Asks how the parameters come, 64 times, and for the setup."""

    def __init__(self) -> None:
        self._digest, self._size, self.told = b"", 0, ""
        self._requests = self._asked = self._came = 0

    def bodies(self) -> list[bytes]:
        """The messages to send now."""
        bodies = [m.record(m.Hello(version=m.VERSION))]
        if self._digest:
            bodies += [m.record(m.GetParameters(digest=self._digest))] * 64
            self._asked += 64 * self._size
        self._requests += sum(map(len, bodies))
        return bodies

    def hear(self, message: bytes) -> None:
        """A message came."""
        self._came += len(message)
        said = m.from_manager(message) if message else None
        if isinstance(said, m.Parameters):
            self._digest, self._size = said.digest, said.size
        elif isinstance(said, m.Setup) and not self._digest:
            self._digest, self._size = said.program_blob, said.program_size
        elif isinstance(said, m.Dismissed | m.JoinRefused):
            self.told = said.reason

    def figures(self) -> Figures:
        """What it came to so far."""
        found = {"requests_MB": self._requests, "asked_MB": self._asked, "sent_MB": self._came}
        return {name: nbytes / 1e6 for name, nbytes in found.items()} | {"told": self.told}


def ask(invitation: Invitation, key: SigningKey, going: Going, rate: float) -> Figures:
    """Asks `rate` times a second, and never joins."""
    link, requests = ClientLink(invitation, [key]), Requests()
    link.listen(lambda messages: [requests.hear(bytes(message)) for _, message in messages])
    link.start()
    while going():
        for body in requests.bodies():
            link.send(key.public, body)
        time.sleep(1 / rate)
    link.close()
    return requests.figures()


def begin_to_ask(stage: Stage, rate: float) -> None:
    """Starts a worker that works, and asks `rate` times a second; returns once it asks for parameters."""
    code = (str(Path(__file__).with_name("greedy.py")), str(_asked(stage)), str(rate))
    stage.start_worker("greedy", circumstances=Circumstances(("nice", "-n", "19"), code=code))
    stage.until(lambda: _asked(stage).exists() and json.loads(_asked(stage).read_text())["asked_MB"] > 0, 300)


def work_and_ask(stage: Stage, going: Going) -> Figures:
    """It goes on for as long as the flood does."""
    while going():
        time.sleep(0.05)
    stage.workers["greedy"].kill()
    found: Figures = json.loads(_asked(stage).read_text())
    return found


def _asked(stage: Stage) -> Path:
    return stage.folder / "greedy.json"


def fire(invitation: Invitation, key: SigningKey, going: Going, message: bytes) -> Figures:
    """Sends the same message as fast as it can, and comes back each time that it is cut off."""
    sent = logins = 0
    reasons = set[str]()
    while going():
        with suppress(OSError, EOFError, AssertionError):
            raw = Raw(invitation)
            raw.sock.settimeout(5.0)
            raw.upgrade()
            answer = raw.log_in(key)
            logins += 1
            if isinstance(answer, control.LoginRefused):
                reasons.add(re.sub(r"\d+", "N", answer.reason))
                time.sleep(0.2)
            else:
                credit = raw.challenge.credit - 500
                size = len(message) + control.INDEX.size
                while going() and isinstance(answer, control.LoggedIn):
                    while credit < size:
                        said = raw.record()
                        if isinstance(said, control.Credit):
                            credit += said.limit - raw.challenge.credit
                            raw.challenge = control.Challenge(version=1, nonce=raw.challenge.nonce, credit=said.limit)
                        elif isinstance(said, control.LoginRefused):
                            reasons.add(re.sub(r"\d+", "N", said.reason))
                            raise EOFError
                    count = min(500, credit // size)
                    raw.sock.sendall(raw.framed(answer.index, message) * count)
                    credit -= count * size
                    sent += count
            raw.close()
    return {"messages": sent, "sent_by_flood_MB": sent * len(message) / 1e6, "logins": logins, "told": sorted(reasons)}


def come_and_go(invitation: Invitation, key: SigningKey, going: Going) -> Figures:
    """Connects, logs in, goes, as fast as it can."""
    logins = refused = 0
    while going():
        with suppress(OSError, EOFError, AssertionError):
            raw = Raw(invitation)
            raw.sock.settimeout(5.0)
            raw.upgrade()
            refused += isinstance(raw.log_in(key), control.LoginRefused)
            logins += 1
            raw.close()
    return {"logins": logins, "refused": refused}


def crowd(invitation: Invitation, seconds: float) -> Figures:
    """Thousands of connections of strangers, from a process of their own."""
    host, port = invitation.servers[0].removeprefix("https://").rsplit(":", 1)
    script = Path(__file__).with_name("strangers.py")
    command = ["nice", "-n", "19", sys.executable, str(script), host, port, str(STRANGERS), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"connections": int(done.stdout.split()[-1])}


def resident(pid: int, what: str = "VmHWM") -> float:
    """Memory of a process in MB: the most that it has had, or (VmRSS) has."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1e3


class Pace:
    """Rounds a second of a run, and the manager's processor time, from now on."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._rounds, self._began, self._processor = stage.rounds(), time.monotonic(), self._taken()

    def figures(self, when: str) -> Figures:
        rounds, took = self._stage.rounds() - self._rounds, time.monotonic() - self._began
        return {
            f"rounds_{when}": rounds,
            f"rounds_per_second_{when}": rounds / took,
            f"manager_milliseconds_a_round_{when}": (self._taken() - self._processor) / max(1, rounds) * 1e3,
        }

    def _taken(self) -> float:
        fields = Path(f"/proc/{self._stage.manager._popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, how: str, rate: float, seconds: float) -> Figures:
    """Lets a manager and four workers train, with a flood or without; see the module's docstring."""
    recipe = write_recipe(folder / "recipe.toml", epochs=100_000, workers=4, hidden=HIDDEN)
    recipe.write_text(f'{recipe.read_text()}history = "last"\n')  # 100,000 epochs of updates would fill the disk
    with Stage(folder, recipe) as stage:
        stage.start_manager()
        for name in ("a", "b"):
            stage.start_worker(name, "--identities", 2)
        stage.until_round(5)
        usual = Pace(stage)
        time.sleep(min(20.0, seconds))
        figures = usual.figures("before")
        stage.invite(1)
        manager, invitation = stage.manager._popen.pid, read_invitation(str(stage.invitation))
        before, pace = resident(manager), Pace(stage)
        if how == "member":
            begin_to_ask(stage, rate)
        end = time.monotonic() + seconds  # of flood, however long it took to begin

        def going() -> bool:
            return time.monotonic() < end

        key = SigningKey(os.urandom(32))
        floods: dict[str, Callable[[], Figures]] = {
            "none": lambda: {},
            "stranger": lambda: ask(invitation, key, going, rate),
            "member": lambda: work_and_ask(stage, going),
            "small": lambda: fire(invitation, key, going, b"x"),
            "large": lambda: fire(invitation, key, going, os.urandom(500_000)),
            "reconnect": lambda: come_and_go(invitation, key, going),
            "connections": lambda: crowd(invitation, seconds),
        }

        def run() -> None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # who floods has a machine of its own
            figures.update(floods[how]())

        flooding = threading.Thread(target=run, daemon=True)
        flooding.start()
        time.sleep(seconds / 3)
        stage.invite(1)
        expected, joins = len(stage.events("joined")) + 1, time.monotonic()
        stage.start_worker("late")
        stage.until(lambda: len(stage.events("joined")) >= expected, 120)
        joined = time.monotonic() - joins
        while going():
            time.sleep(0.05)
        figures |= pace.figures("during")
        flooding.join()
        assert stage.manager.runs, stage.said()
        said = [line for line in (folder / "manager.jsonl").read_text().splitlines() if not line.startswith("{")]
        return figures | {
            "manager_before_MB": before,
            "manager_peak_MB": resident(manager),
            "parameters_MB": max(one["size"] for one in stage.events("published")) / 1e6,
            "seconds_until_another_joined": joined,
            "honest_withdrawn": len(stage.events("withdrawn")),
            "operator": said[:5],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["none", "stranger", "member", "small", "large", "reconnect", "connections"])
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.how, given.rate, given.seconds)
    print(json.dumps({name: round(value, 2) if isinstance(value, float) else value for name, value in found.items()}))


if __name__ == "__main__":
    main()
