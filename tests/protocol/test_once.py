"""What both who proposes an entry and the rules ask for is worked out once, and never twice the same for another."""

from __future__ import annotations

import pytest

from podlt import crypto
from podlt.protocol import state as rules

from .steps_of_a_round import HIDDEN, answered, fresh


def test_roles_are_drawn_once_a_round_and_anew_for_another_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    world, drawn = fresh(scenario=HIDDEN), []
    deal = rules.deal
    monkeypatch.setattr(rules, "deal", lambda *args: drawn.append(args) or deal(*args))
    answered(world)
    world.manager.reveal()
    assert len(drawn) == 1
    mine = world.state.revealed.roles
    world.state.in_progress.drawn = None
    assert world.state.roles(world.state.secret) == mine
    world.state.roles(bytes(32))
    assert len(drawn) == 3


def test_an_opening_is_hashed_once_and_another_one_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    world, hashed = fresh(scenario=HIDDEN), []
    promise = crypto.commitment
    monkeypatch.setattr(crypto, "commitment", lambda *args: hashed.append(args) or promise(*args))
    answered(world)
    by_workers_and_manager = len(hashed)
    world.manager.reveal()
    assert len(hashed) == by_workers_and_manager > 0
    round, opening = world.state.in_progress, hashed[-1]
    assert round.promise(*opening) == promise(*opening)
    other = (*opening[:3], bytes(crypto.SALT_BYTES))
    assert round.promise(*other) == promise(*other) != promise(*opening)


def test_who_leaves_between_the_average_and_the_pay_changes_what_is_owed() -> None:
    world = fresh(scenario=HIDDEN)
    answered(world)
    world.manager.reveal()
    earned, owed = world.state.dues()
    assert world.state.dues()[1] is owed
    world.state.index += 1  # as any entry does
    assert world.state.dues()[1] is not owed and world.state.dues() == (earned, owed)
