"""The free moves of docs/THREATS.md: what the bench works out ahead is what the rules then draw."""

from __future__ import annotations

import re

import pytest

from podlt.bench import free_moves
from podlt.bench.free_moves import drawn, groups, is_fooled, joins, pending, rescue, throws, world_of
from podlt.protocol import entries as e
from podlt.protocol.draw import Roles
from podlt.protocol.options import Preset

both = pytest.mark.parametrize("preset", ["classic", "guarded"])


def numbers(text: str, pattern: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, text)]


@both
def test_the_groups_that_are_worked_out_ahead_are_those_that_are_compared(preset: Preset) -> None:
    world, log = world_of(9, 12, "ahead", preset=preset)
    compared = 0
    for gone in ((), (3,), (), (5, 2), (), (), (1,), ()):
        ahead = groups(drawn(world.state, world.chain.secret(world.state.round), without=gone))
        for worker in gone:
            world.manager.withdraw(worker, "gone")
        world.write()
        assert world.manager.upcoming() is not None
        before = {n: w.checks_passed for n, w in world.state.workers.items()}
        world.step()
        passed = {n for n, w in world.state.workers.items() if w.checks_passed > before[n]}
        assert passed == set().union(*ahead)
        compared += len(passed)
        world.readmit()
    assert compared
    assert any(isinstance(e.decode(body), e.Withdraw) for _, _, body in log.entries())


def test_sybils_fool_a_check_of_both_but_not_the_managers_own() -> None:
    seats = {0: 4, 1: 4, 2: 5}
    assert is_fooled(Roles(seats, [4], [])) and is_fooled(Roles(seats, [4], [5]))
    assert not is_fooled(Roles(seats, [4], [4])) and not is_fooled(Roles(seats, [5], []))


def test_withdrawals_and_newcomers_give_as_many_throws_as_threats_says(capsys: pytest.CaptureFixture[str]) -> None:
    throws(12, 3, "classic")
    found = numbers(capsys.readouterr().out, r"([0-9.]+) different draws")
    assert found[0] == 1 and 4 < found[1] <= 5 and 12 < found[2] <= 15
    joins(12, 2, "classic")
    found = numbers(capsys.readouterr().out, r"([0-9.]+) different draws")
    assert found[0] == 1 and 3 <= found[1] <= 4 and 12 <= found[2] <= 16
    throws(12, 3)
    found = numbers(capsys.readouterr().out, r"([0-9.]+) different draws")
    assert found[0] == 1 and 1 <= found[1] <= found[2]


@both
def test_no_free_move_breaks_a_rule_and_verify_counts_what_it_can(
    preset: Preset, capsys: pytest.CaptureFixture[str]
) -> None:
    rescue(8, 60, preset)
    said = capsys.readouterr().out
    assert "verify: nothing fails" in said and "0 convicted" in said
    left = numbers(said, r"([0-9]+) of them after an answer")[0]
    assert 0 < left <= 10 and numbers(said, r"it left ([0-9]+) rounds")[0] == left
    pending(8, 12, 2, preset)
    assert capsys.readouterr().out.count("th = ") == 3


def test_every_move_can_be_measured_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--only", "joins", "--workers", "8", "--rounds", "1"])
    free_moves.main()
    said = capsys.readouterr().out
    assert "newcomers" in said and "classic, 8 workers" in said and "guarded, 8 workers" in said
