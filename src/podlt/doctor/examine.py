"""All checks of a role, in the order in which a person mends what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from podlt.doctor import machine, network, packages
from podlt.doctor.diagnosis import Check, Condition, Diagnosis, Purpose
from podlt.errors import ExitCode

CHECKS: Mapping[str, Check] = {
    "Python": packages.python,
    "packages": packages.extras,
    "memory": machine.memory,
    "disk": machine.disk,
    "write access": machine.write_access,
    "shared memory": machine.shared_memory,
    "open files": machine.open_files,
    "clock": machine.clock,
    "ports": network.ports,
    "processor": machine.processor,
    "arithmetic": machine.arithmetic,
}
"""By name, the slow ones last."""

NEEDS_PYTORCH = frozenset({"processor", "arithmetic"})


def examine(asked: Purpose, beginning: Callable[[str], object] = lambda name: None) -> Iterator[Diagnosis]:
    """What each check finds, as it is found.

    Args:
        asked: what the machine is looked at for.
        beginning: called with the name of each check before it begins.
    """
    lacking = False
    for name, check in CHECKS.items():
        if name in NEEDS_PYTORCH and lacking:
            continue
        beginning(name)
        found = check(asked)
        if name == "packages":
            lacking = any(each.need == "packages: train" and each.health is not Condition.OK for each in found)
        yield from found


def exit_code(found: list[Diagnosis]) -> ExitCode:
    """What the command ends with: 1 where the machine computes something else, 2 where something can be mended."""
    failing = [each for each in found if each.health is Condition.FAIL]
    if any(each.is_finding for each in failing):
        return ExitCode.FAILS
    return ExitCode.USAGE if failing else ExitCode.HOLDS
