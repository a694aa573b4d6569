"""The free moves of docs/THREATS.md: what the bench works out ahead is what the rules then draw."""

from __future__ import annotations

import re

import pytest

from podlt.bench import free_moves
from podlt.bench.free_moves import group, joins, pending, rescue, stingy, throws, world_of
from podlt.protocol import entries as e


def numbers(text: str, pattern: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, text)]


def test_the_group_that_is_worked_out_ahead_is_the_one_that_is_compared() -> None:
    world, log = world_of(9, 6, "ahead")
    for gone in ((), (3,), (), (5, 2)):
        ahead = group(world.state, world.chain.secret(world.state.round), without=gone)
        for worker in gone:
            world.manager.withdraw(worker, "gone")
        world.write()
        assert world.manager.upcoming() is not None
        before = {n: w.checks_passed for n, w in world.state.workers.items()}
        world.step()
        assert {n for n, w in world.state.workers.items() if w.checks_passed > before[n]} == ahead
        world.readmit()
    assert any(isinstance(e.decode(body), e.Withdraw) for _, _, body in log.entries())


def test_withdrawals_and_newcomers_give_as_many_throws_as_threats_says(capsys: pytest.CaptureFixture[str]) -> None:
    throws(12, 3)
    found = numbers(capsys.readouterr().out, r"([0-9.]+) different groups")
    assert found[0] == 1 and 4 < found[1] <= 5 and 12 < found[2] <= 15
    joins(12, 2)
    found = numbers(capsys.readouterr().out, r"([0-9.]+) different groups")
    assert found[0] == 1 and 3 <= found[1] <= 4 and 12 <= found[2] <= 16


def test_no_free_move_breaks_a_rule_and_verify_counts_what_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    rescue(8, 12)
    said = capsys.readouterr().out
    assert "verify: nothing fails" in said and "0 evicted" in said
    assert numbers(said, r"([0-9]+) of them after an answer")[0] > 0
    stingy(8, 12)
    assert capsys.readouterr().out.count("verify: nothing fails") == 4
    pending(8, 12, 2)
    assert capsys.readouterr().out.count("th = ") == 3


def test_every_move_can_be_measured_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--only", "joins", "--workers", "8", "--rounds", "1"])
    free_moves.main()
    assert "newcomers" in capsys.readouterr().out
