"""The benches of real models, on models of one layer."""

from __future__ import annotations

import json

import pytest

from podlt.bench import capture, rounds

pytestmark = pytest.mark.slow


def test_capture_is_measured_beside_eager_and_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    capture.run(["bert"], 1, "stock", [2], as_json=True)
    found = json.loads(capsys.readouterr().out)["bert"]
    assert set(found) == {"capture", "eager", "task", "task/2"}
    assert found["capture"]["nodes"] > 50 and all(one["peak"] > 0 for one in found.values())


def test_rounds_of_a_model_are_trained(capsys: pytest.CaptureFixture[str]) -> None:
    rounds.run("bert", 1, 3, 1, 2, 1)
    assert "2 rounds" not in (text := capsys.readouterr().out) and "1 rounds of 1 x 2 examples" in text
