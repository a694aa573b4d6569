"""What this machine computed and what it is, as one line for the table of where the same bits were seen.

    python -m podlt.execution.conformance_report [NOTE]

prints it as JSON, as `podlt conformance --report --json` does, on machines without the command line's packages.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, date, datetime
from importlib import metadata

import msgspec
import torch

from podlt.exact import machine
from podlt.exact.conformance import Report, check
from podlt.exact.portable.devices import CPU
from podlt.execution.conformance_table import FAIL, NONE, PASS, Sighting, cell


def sighting(report: Report, device: str, today: date, note: str = "") -> Sighting:
    """The line of a report that was computed in this process.

    Args:
        report: of `exact.conformance.check`.
        device: on which, as `torch_device` takes it.
        today: in UTC.
        note: what the machine cannot know.
    """
    try:
        version = metadata.version("podlt")
    except metadata.PackageNotFoundError:
        version = NONE
    fields = {
        "date": today.isoformat(),
        "processor": machine.processor(device),
        "instructions": machine.instruction_sets(device),
        "threads": str(torch.get_num_threads()),
        "system": machine.system(),
        **machine.versions(),
        "podlt": version,
        "device": device,
        "settings": machine.settings(os.environ),
        "note": note,
        "digest": report.digest,
        "result": FAIL + ", ".join(report.differences) if report.differences else PASS,
    }
    return Sighting(**{name: cell(value) for name, value in fields.items()})


def as_json(seen: Sighting) -> str:
    """One line."""
    return msgspec.json.encode(seen).decode()


def main(arguments: list[str]) -> int:
    """Print this machine's line; 0 when it passes."""
    found = check()
    print(as_json(sighting(found, CPU, datetime.now(UTC).date(), " ".join(arguments))))
    return 0 if found.differing is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
