"""A run that an older podlt began, gone on with by this one: as it began, to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import entries, seeded, tiny_recipe, train

import podlt.api
from podlt.protocol import entries as e
from podlt.training import events as ev
from podlt.training.audit import audit
from podlt.training.session import Session
from podlt.verify import verify


class Cut(Exception):
    """What a test ends a run with."""


def as_it_began(begin: e.Begin2) -> e.Begin:
    """The first entry as the podlt before deposits wrote it."""
    return e.Begin(**{name: getattr(begin, name) for name in e.Begin.__struct_fields__})


@pytest.mark.slow
def test_a_run_that_began_before_deposits_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = Session._begin

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 1:
            raise Cut

    def older(self: Session, *arguments: Any) -> e.Begin:
        begin = today(self, *arguments)
        assert isinstance(begin, e.Begin2)
        return as_it_began(begin)

    monkeypatch.setattr(Session, "_begin", older)
    whole = train(tmp_path / "whole", tiny_recipe(), entropy=seeded(1))
    with pytest.raises(Cut):
        podlt.api.train(tiny_recipe(), run=tmp_path / "run", listener=listen, entropy=seeded(1))
    monkeypatch.undo()
    result = podlt.api.resume(tmp_path / "run")
    found = entries(tmp_path / "run")
    assert {type(entry) for entry in found} <= e.FORMATS[e.Begin] and isinstance(found[-1], e.Close)
    assert result.parameters == whole.result.parameters and result.ledger == whole.result.ledger
    assert verify(tmp_path / "run", jobs=1).ok and audit(tmp_path / "run", 1.0).sound
