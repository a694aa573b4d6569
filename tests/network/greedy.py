"""Starts podlt as a worker that works, and asks for the same bytes again and again: `greedy.py FILE RATE COMMAND ...`.

FILE is written anew each time: bytes of the requests, bytes that they asked for, bytes that came.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

from flood import Requests

from podlt.cli import main
from podlt.network.client.link import ClientLink
from podlt.store.files import write_whole


def be_greedy(file: Path, rate: float) -> None:
    """Lets each identity ask `rate` times a second, and takes note of what comes."""
    requests, begin, came = Requests(), ClientLink.start, ClientLink.came

    def start(self: ClientLink) -> None:
        begin(self)

        def ask() -> None:
            while True:
                time.sleep(1 / rate)
                for key in list(self.keys):
                    for body in requests.bodies():
                        self.send(key, body)
                write_whole(file, json.dumps(requests.figures()).encode())

        threading.Thread(target=ask, daemon=True).start()

    def heard(self: ClientLink, messages: Sequence[tuple[Any, Any]]) -> None:
        for _, message in messages:
            requests.hear(bytes(message))
        came(self, messages)

    ClientLink.start, ClientLink.came = start, heard  # type: ignore[method-assign]


if __name__ == "__main__":
    be_greedy(Path(sys.argv.pop(1)), float(sys.argv.pop(1)))
    main()
