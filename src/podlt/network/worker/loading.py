"""From what the manager sent to what the runtime takes: the program, tasks, and lines as fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from podlt.data.dataset import DTYPES, check_fields
from podlt.data.field import Field
from podlt.errors import EngineError, InvalidProofError
from podlt.exact.portable.devices import CPU
from podlt.execution.conformance import arithmetic_digest
from podlt.execution.setup import ExecutionSetup
from podlt.execution.worker_runtime import WorkerRuntime
from podlt.network import messages as m
from podlt.network.run_setup import RunSetup
from podlt.program.ir import Program


def load_runtime(setup: RunSetup, program: bytes, memory: int = 0, device: str = CPU) -> WorkerRuntime:
    """The runtime for a run.

    Args:
        setup: of the run.
        program: its bytes, as they came.
        memory: the most bytes that a task's tensors may take; 0 for all of this machine's.
        device: where they are computed.

    Raises:
        InvalidProofError: not the program of the run's first entry, or program or fields that no run can have.
        EngineError: a task takes more memory than that, or this podlt defines the run's arithmetic otherwise, or has
            none of it for the device.
    """
    parsed, begin, fields = Program.from_bytes(program), setup.begin, setup.message.fields
    if parsed.digest != begin.program:
        raise InvalidProofError("the program is not the run's", expected=begin.program, actual=parsed.digest)
    if begin.arithmetic != arithmetic_digest(parsed.arithmetic):
        raise EngineError(
            f"the run is computed by another {parsed.arithmetic} arithmetic than this podlt's: use the podlt that "
            "its manager uses"
        )
    check_fields(fields)
    execution = ExecutionSetup(setup.run, fields, setup.most_lines, begin.local_steps, begin.local_lr, setup.task_lines)
    return WorkerRuntime.load(parsed, execution, memory, device)


def check_task(setup: RunSetup, line_bytes: int, work: m.DealTask) -> None:
    """Refuses a task whose lines are not as many, or as long, as a task of this run can have.

    Args:
        setup: of the run.
        line_bytes: size of one line.
        work: as it came.

    Raises:
        InvalidProofError: such a task; says what was expected.
    """
    if not 1 <= work.count <= setup.most_lines:
        raise InvalidProofError(f"a task of {work.count} lines; expected 1 to {setup.most_lines}")
    expected = work.count * line_bytes
    if work.size != expected or (work.lines and len(work.lines) != expected):
        raise InvalidProofError("wrong size of a task's lines", expected=expected, actual=work.size)
    if (work.task.run, work.task.program) != (setup.run, setup.begin.program):
        raise InvalidProofError("a task of another run or program")


def lines_by_field(fields: Sequence[Field], count: int, raw: np.ndarray) -> dict[str, np.ndarray]:
    """So many lines, whose fields lie one after another (uint8), as name -> array (count, *shape), in fresh memory."""
    found, offset = {}, 0
    for field in fields:
        part = raw[offset : offset + count * field.row_bytes]
        found[field.name] = part.copy().view(DTYPES[field.dtype]).reshape(count, *field.shape)
        offset += len(part)
    return found
