"""Python, podlt and its packages: which are there, and whether they are the ones that pyproject.toml asks for."""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from importlib.util import find_spec

from podlt.doctor.diagnosis import Condition, Diagnosis, Purpose, Role
from podlt.extras import PACKAGES

NEEDED: dict[Role, tuple[str, ...]] = {
    Role.TRAIN: ("train",),
    Role.MANAGER: ("train", "network"),
    Role.WORKER: ("train", "network"),
    Role.CHECK: (),
}
"""The extras without which a role cannot be played."""

USEFUL: dict[Role, tuple[str, ...]] = {
    Role.TRAIN: ("images", "text"),
    Role.MANAGER: ("operations",),
    Role.WORKER: (),
    Role.CHECK: ("train",),
}
"""What it can do without: `podlt audit` needs what training needs, `podlt verify` does not."""

WITHOUT = {
    "images": "folders of images cannot be read",
    "text": "texts cannot be tokenized",
    "operations": "no JSON logs (--log-format json)",
    "train": "podlt verify works; podlt audit does not",
}

_LEAST_PYTHON = (3, 11)
_BOUND = re.compile(r"(>=|<|==)\s*([\d.]+)")
_DISTRIBUTION = {"PIL": "pillow", "sklearn": "scikit-learn"}
"""Modules whose distribution has another name."""


def python(asked: Purpose) -> list[Diagnosis]:
    """The interpreter."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info >= _LEAST_PYTHON:
        return [Diagnosis("Python", Condition.OK, found)]
    return [Diagnosis("Python", Condition.FAIL, found, "install Python 3.11 or later, and podlt into it")]


def extras(asked: Purpose) -> list[Diagnosis]:
    """The packages of the extras that the role needs, and of those that are of use to it."""
    needed = [_extra(extra, Condition.FAIL, asked.role) for extra in NEEDED[asked.role]]
    return [*needed, *(_extra(extra, Condition.WARN, asked.role) for extra in USEFUL[asked.role])]


def _extra(needed: str, lacking: Condition, role: Role) -> Diagnosis:
    modules = [module for module, package in PACKAGES.items() if package.extra == needed]
    absent = [module for module in modules if not _is_there(module)]
    bounds = _bounds()
    wrong = [fault for module in modules if module not in absent and (fault := _fault(module, bounds))]
    extra = "network" if needed == "train" and "network" in NEEDED[role] else needed  # which brings it along
    fix = f"in podlt's folder: pip install '.[{extra}]'"
    need = f"packages: {needed}"
    if absent or wrong:
        words = [f"not installed: {', '.join(absent)}"] if absent else []
        words += wrong + ([WITHOUT[needed]] if lacking is Condition.WARN else [])
        return Diagnosis(need, lacking, "; ".join(words), fix)
    return Diagnosis(need, Condition.OK, ", ".join(f"{module} {_version(module)}" for module in modules))


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(module: str) -> str:
    try:
        return metadata.version(_DISTRIBUTION.get(module, module))
    except metadata.PackageNotFoundError:
        return ""


def _bounds() -> dict[str, str]:
    """What podlt asks of the version of each distribution."""
    try:
        lines = metadata.requires("podlt") or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in lines:
        wanted = line.partition(";")[0]
        if (name := re.match(r"[A-Za-z0-9_.-]+", wanted)) is not None:
            found[name[0].lower()] = wanted[name.end() :]
    return found


def _fault(module: str, bounds: dict[str, str]) -> str:
    """What is wrong with the version of a package; "" if nothing is."""
    found, name = _version(module), _DISTRIBUTION.get(module, module).replace("_", "-")
    wanted = bounds.get(name, "")
    if found and not within(found, wanted):
        return f"{module} is {found}, and podlt needs {wanted.strip()}"
    return ""


def within(version: str, bounds: str) -> bool:
    """Whether a version lies within bounds such as ">=2.13,<3"; only numbers are compared."""
    have = _numbers(version)
    comparisons = {">=": have.__ge__, "<": have.__lt__, "==": have.__eq__}
    return all(comparisons[sign](_numbers(bound)) for sign, bound in _BOUND.findall(bounds))


def _numbers(version: str) -> tuple[int, ...]:
    plain = re.match(r"[\d.]*", version)
    parts = [int(part) for part in (plain[0] if plain else "").split(".") if part]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
