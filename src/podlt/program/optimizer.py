"""The optimiser of a run: which rule each parameter follows, the schedule, and clipping by the global norm."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec
import torch

from podlt.errors import UsageError
from podlt.program.clipping import clip_coefficient
from podlt.program.descent import RULES, Rule
from podlt.program.schedule import Horizon, Schedule, finite_from_zero
from podlt.recipe_faults import in_table

S = TypeVar("S", bound=msgspec.Struct)


class Parameter(msgspec.Struct, frozen=True):
    """Where a parameter lies in the flat vector.

    Attributes:
        name: as the module has it.
        dimensions: of its shape.
        start: its first element.
        stop: where the next begins: padding goes with whom it follows.
    """

    name: str
    dimensions: int
    start: int
    stop: int


class Segment(msgspec.Struct, frozen=True):
    """Neighbours in the flat vector that take the same step."""

    start: int
    stop: int
    rule: Rule


class Group(msgspec.Struct, frozen=True):
    """Parameters with options of their own.

    Attributes:
        match: names, or patterns of the shell's kind.
        rule: their optimiser.
        decays: whether the group says its own weight decay, which then holds for biases as well.
    """

    match: tuple[str, ...]
    rule: Rule
    decays: bool


class Optimizer(msgspec.Struct, frozen=True, kw_only=True):
    """Applies an average gradient to all parameters.

    Attributes:
        rule: for parameters of no group.
        groups: the first that matches a name has it.
        schedule: of the learning rate of all.
        horizon: of the run; None to count steps instead of examples.
        clip_norm: the largest norm of a gradient, over all parameters; 0 for any.
        no_decay: whether biases and other parameters of one dimension have no weight decay.
    """

    rule: Rule
    groups: tuple[Group, ...] = ()
    schedule: Schedule = Schedule()
    horizon: Horizon | None = None
    clip_norm: float = 0.0
    no_decay: bool = False

    def init(self, count: int) -> dict[str, torch.Tensor]:
        """The state before the first step, for so many parameters: float32 vectors by name."""
        state: dict[str, torch.Tensor] = {}
        for rule in [self.rule, *(group.rule for group in self.groups)]:
            state |= {name: value for name, value in rule.init(count).items() if name not in state}
        return state

    def factor(self, seen: int) -> float:
        """What learning rates are multiplied by after so many examples."""
        return self.schedule.factor(seen, self.horizon)

    def scale(self, gradient: torch.Tensor) -> float:
        """What a gradient of all parameters, shape (n,), is multiplied by: 1.0 where it is short enough."""
        return clip_coefficient(gradient, self.clip_norm) if self.clip_norm else 1.0

    def segments(self, parameters: Iterable[Parameter]) -> list[Segment]:
        """Which part of the flat vector takes which step.

        Args:
            parameters: in the order of the vector, without holes.
        """
        found: list[Segment] = []
        for parameter in parameters:
            rule = self._rule_of(parameter.name, parameter.dimensions)
            if found and found[-1].rule == rule:
                found[-1] = Segment(found[-1].start, parameter.stop, rule)
            else:
                found.append(Segment(parameter.start, parameter.stop, rule))
        return found

    def require_names(self, names: Sequence[str]) -> None:
        """Each pattern must match a parameter.

        Raises:
            UsageError: one matches none; says which names are like it.
        """
        for number, group in enumerate(self.groups):
            for pattern in group.match:
                if any(fnmatchcase(name, pattern) for name in names):
                    continue
                like = difflib.get_close_matches(pattern, names, 3, 0.3) or [*names[:3]]
                raise UsageError(
                    f"optimizer.groups[{number}].match: no parameter is called {pattern!r}; there are {', '.join(like)}"
                )

    def _rule_of(self, name: str, dimensions: int) -> Rule:
        group = next((g for g in self.groups if any(fnmatchcase(name, pattern) for pattern in g.match)), None)
        rule, decays = (group.rule, group.decays) if group is not None else (self.rule, False)
        if self.no_decay and dimensions < 2 and not decays:
            return msgspec.structs.replace(rule, weight_decay=0.0)
        return rule


class _Whole(msgspec.Struct, frozen=True):
    """What a recipe says once for all groups."""

    clip_norm: float = 0.0
    no_decay: bool = False
    groups: list[dict[str, Any]] = []


def optimizer_from(spec: Mapping[str, Any], horizon: Horizon | None = None) -> Optimizer:
    """The optimiser that a recipe names: `{"name": "adamw", "lr": 0.001, ...}`.

    Args:
        spec: options of the optimiser and of its schedule (`podlt.program.schedule.Schedule`); `clip_norm`, `no_decay`;
            and `groups`, each `{"match": [PATTERN, ...], ...}` with options of the optimiser that hold for it alone.
        horizon: of the run; None to count steps instead of examples.

    Raises:
        UsageError: an unknown name or field, or a value out of its range.
    """
    fields = dict(spec)
    name = fields.pop("name", None)
    if not isinstance(name, str) or name not in RULES:
        raise UsageError(f"optimizer.name: expected one of {', '.join(RULES)}, got {name!r}")
    kind = RULES[name]
    _require_known(fields, kind)
    schedule = _converted(_taken(fields, Schedule), Schedule, "optimizer")
    whole = _converted(_taken(fields, _Whole), _Whole, "optimizer")
    rule = _converted(fields, kind, "optimizer")
    groups = tuple(_group(group, number, fields, kind) for number, group in enumerate(whole.groups))
    for checked in [rule, *(group.rule for group in groups)]:
        checked.check()
    for field in msgspec.structs.fields(Schedule):
        finite_from_zero(field.name, getattr(schedule, field.name))
    finite_from_zero("clip_norm", whole.clip_norm)
    schedule.check(horizon)
    return Optimizer(
        rule=rule,
        groups=groups,
        schedule=schedule,
        horizon=horizon,
        clip_norm=whole.clip_norm,
        no_decay=whole.no_decay,
    )


_ELSEWHERE = {"max_grad_norm": "clip_norm", "clip_grad_norm": "clip_norm", "clip": "clip_norm", "learning_rate": "lr"}
"""What other programs call an option."""


def _require_known(fields: Mapping[str, Any], kind: type[Rule]) -> None:
    """Refuses options that there are not.

    Raises:
        UsageError: names the nearest that there is.
    """
    known = {field.name for struct in (kind, Schedule, _Whole) for field in msgspec.structs.fields(struct)}
    for name in fields:
        if name not in known:
            near = [_ELSEWHERE[name]] if name in _ELSEWHERE else difflib.get_close_matches(name, sorted(known), 1, 0.5)
            hint = f": do you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
            raise UsageError(f"optimizer.{name}: {kind.__name__} has no such option{hint}")


def _taken(fields: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Takes a struct's fields out of others."""
    return {f.name: fields.pop(f.name) for f in msgspec.structs.fields(kind) if f.name in fields}


def _converted(fields: Mapping[str, Any], kind: type[S], where: str) -> S:
    try:
        return msgspec.convert(dict(fields), kind)
    except msgspec.ValidationError as error:
        raise UsageError(in_table(str(error), kind, where)) from None


def _group(given: Mapping[str, Any], number: int, fields: Mapping[str, Any], kind: type[Rule]) -> Group:
    where, own = f"optimizer.groups[{number}]", dict(given)
    match = own.pop("match", None)
    match = [match] if isinstance(match, str) else match
    if not isinstance(match, list) or not match or not all(isinstance(pattern, str) for pattern in match):
        raise UsageError(f"{where}.match: expected names or patterns of parameters, got {match!r}")
    return Group(tuple(match), _converted({**fields, **own}, kind, where), "weight_decay" in own)
