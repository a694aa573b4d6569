"""The bench of a program's nodes: every node counts once, under its operation."""

import pytest
import torch

from podlt.bench import nodes
from podlt.bench.arithmetic import StepJob
from podlt.errors import UsageError
from podlt.program.ir import FieldSpec

FIELDS = [FieldSpec("x", "f32", (4,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
SMALL = StepJob(lambda: torch.nn.Linear(4, 10), FIELDS, 3)


def test_each_operation_of_a_step_stands_in_the_table_once_with_all_its_nodes(monkeypatch, capsys):
    monkeypatch.setattr(nodes, "JOBS", {"small": SMALL})
    nodes.main(["--only", "small", "--repeats", "1"])
    lines = capsys.readouterr().out.splitlines()
    operations, _ = nodes.timed(SMALL, nodes.EXACT)
    for name in operations:
        assert sum(line.startswith(f"| {name} | {operations.count(name)} |") for line in lines) == 1
    assert any(line.startswith(f"| all | {len(operations)} |") for line in lines)


def test_what_the_executor_adds_is_told_in_one_line(capsys):
    nodes.main(["--dispatch", "--repeats", "1"])
    assert capsys.readouterr().out.startswith("the executor adds ")


def test_unknown_steps_are_refused():
    with pytest.raises(UsageError, match="GPT"):
        nodes.main(["--only", "no such step"])
