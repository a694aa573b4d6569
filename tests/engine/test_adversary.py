"""Workers that cheat, as wrapped executions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from podlt.errors import UsageError
from podlt.execution.adversary import CHEATS, Execution, cheating, watched
from podlt.protocol.messages import Task

EXAMPLES = 6


def honest(work: Execution) -> None:
    """Stands for a training step: the weights times the sum of the examples, and what the buffers hold."""
    work.floats[:] = (work.batch["x"].sum(0) * work.state["param:w"]).numpy()


def work(round: int) -> Execution:
    """A task of a round; its examples differ from round to round."""
    examples = torch.arange(EXAMPLES * 8, dtype=torch.float32).reshape(EXAMPLES, 8).sin() + round
    task = Task(b"r" * 32, round, b"p" * 32, b"s" * 32, b"f" * 32, b"d" * 32)
    return Execution(task, {"param:w": torch.linspace(0.1, 0.9, 8)}, {"x": examples}, np.zeros(32, np.uint8))


def answer(execute, round: int) -> tuple[bytes, bool]:  # type: ignore[no-untyped-def]
    """What an execution gives in a round, and whether it says that it faked."""
    task = work(round)
    execute(task)
    return task.out.tobytes(), task.faked


@pytest.mark.parametrize("kind", [*CHEATS, "selective:1"])
def test_what_a_cheater_calls_a_fake_is_one_and_the_rest_is_honest(kind: str) -> None:
    execute = cheating(kind, honest, b"seed")
    answer(watched(honest), 100)  # somebody whom a copycat can watch
    outcomes = [answer(execute, round) for round in range(4)]
    for round, (update, faked) in enumerate(outcomes):
        assert (update != answer(honest, round)[0]) == faked
    assert all(faked for _, faked in outcomes[1:])


def test_a_selective_cheater_fakes_at_its_rate_and_repeats_itself() -> None:
    execute = cheating("selective:0.3", honest, b"seed")
    faked = [answer(execute, round)[1] for round in range(1000)]
    assert 230 < sum(faked) < 370  # 4.8 standard deviations
    assert [answer(execute, round)[1] for round in range(100)] == faked[:100]


@pytest.mark.parametrize("spec", ["lazy", "zero:1", "selective", "selective:0", "selective:1.5", "selective:nan", ""])
def test_a_cheat_that_there_is_not_is_refused_by_name(spec: str) -> None:
    with pytest.raises(UsageError, match=r"zero|RATE"):
        cheating(spec, honest, b"seed")
